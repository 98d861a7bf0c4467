"""A run in numbers, computed without training it: for the dry run, the table of plans and the tests."""

from dataclasses import dataclass, replace

import numpy as np

from ettin_core.data.batch_schedule import BatchSchedule
from ettin_core.data.corpus import Corpus
from ettin_core.data.loader import document_lengths
from ettin_core.foundation.errors import invalid
from ettin_core.model.accounting import parameter_count, parameters_of_shape
from ettin_core.objectives.config import Component
from ettin_core.objectives.directions import DIRECTIONS
from ettin_core.objectives.kinds import OBJECTIVES
from ettin_core.planning.throughput import Throughput, throughput
from ettin_core.training.config import PlacementConfig, RunConfig
from ettin_core.training.memory import FP32, Memory, check_memory, estimate_memory, micro_batch_count
from ettin_core.training.phases import Phase

UNKNOWN = "not prepared"  # name and fingerprint of a corpus that does not exist yet
SPECIAL_SHARE = 0.02  # of the tokens, assumed without a corpus
SAMPLED_STEPS, SAMPLED_ROWS = 8, 16  # steps of a corpus that are sampled, and about as many rows of each


@dataclass(frozen=True)
class PhaseForecast:
    """A phase in numbers. `tokens` are row positions, the schedule's clock; `text_tokens` those that hold text.

    `mixture` is the share of each source (None: by size, without a corpus). `knots` are (tokens of the phase, learning
    rate). `repeats` are passes over each source (None: without a corpus).
    """

    name: str
    context: int
    batches: BatchSchedule
    mixture: dict[str, float] | None
    packing: str
    steps: int
    tokens: int
    text_tokens: int
    loss_tokens: int
    flops: float
    mask_rate: float | None
    rope_bases: tuple[float, float]
    knots: tuple[tuple[int, float], ...]
    repeats: dict[str, float] | None
    memory: Memory
    gpu_hours: float | None


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of a whole run: how many are written, names kept permanently, number of temporary ones, bytes each."""

    written: int
    kept: tuple[str, ...]
    temporary: int
    bytes_each: int


@dataclass(frozen=True)
class Forecast:
    """A run in numbers. `corpus` is None where the run was planned without one."""

    run: RunConfig
    corpus: str | None
    parameters: dict[str, int]
    phases: tuple[PhaseForecast, ...]
    checkpoints: Checkpoints
    throughput: Throughput | None
    machine: "Machine"


@dataclass(frozen=True)
class Machine:
    """The machine of a plan: GPUs (or processes), the memory of one in GiB (None: any), tokens per second of one."""

    gpus: int = 1
    memory_gib: float | None = None
    tokens_per_second: float | None = None

    def __post_init__(self) -> None:
        if self.gpus < 1:
            raise invalid("machine.gpus", self.gpus, "is not positive", "use 1 or more")
        if self.memory_gib is not None and not self.memory_gib > 0:
            raise invalid("machine.memory_gib", self.memory_gib, "is not positive", "use e.g. 80, or null")
        if self.tokens_per_second is not None and not self.tokens_per_second > 0:
            raise invalid("machine.tokens_per_second", self.tokens_per_second, "is not positive", "use 1e5, or null")


def forecast(
    run: RunConfig, placement: PlacementConfig, corpus: Corpus | None = None, machine: Machine | None = None
) -> Forecast:
    """The numbers of a run, on its corpus where there is one.

    Raises ValueError for every error of the start of training that can be known before. A plan for a GPU needs no GPU.
    """
    placement, machine = replace(placement, device="auto"), machine or Machine()
    for rows in {rows for phase in run.phases for rows in phase.batches.sizes}:
        placement.micro_batches(rows, machine.gpus)
    if corpus is not None:
        from ettin_core.foundation.distributed import ProcessGroup
        from ettin_core.training.setup import check_fit  # with torch, which a plan on paper does without

        check_fit(run, corpus, placement, ProcessGroup(world_size=machine.gpus))
    if machine.memory_gib is not None:
        check_memory(run, placement, machine.gpus, int(machine.memory_gib * 2**30))
    rate = throughput(run.size, machine.tokens_per_second)
    phases = tuple(_phase(run, phase, placement, corpus, machine, rate) for phase in run.phases)
    return Forecast(
        run, corpus.name if corpus else None, parameters_of_shape(run.model), phases, checkpoints(run), rate, machine
    )


def _phase(
    run: RunConfig,
    phase: Phase,
    placement: PlacementConfig,
    corpus: Corpus | None,
    machine: Machine,
    rate: Throughput | None,
) -> PhaseForecast:
    rows, lengths, special = _sample(run, phase, corpus)
    text, components = int(lengths.sum()), run.objective.under(run.direction)
    weights = [component.weight for component in components]
    shares = np.array(weights) / sum(weights)
    by_component = [_component(run, phase, component, lengths, special) for component in components]
    scored, flops = (round(float(shares @ np.array(column))) for column in zip(*by_component, strict=True))
    batches = phase.rows / rows  # the size of the phase in samples
    corrupts = any(OBJECTIVES[component.objective].corrupts for component in components)
    micro_rows = phase.batch_rows // machine.gpus
    micro_rows //= micro_batch_count(run, placement, phase.batch_rows, phase.context, machine.gpus)
    shards = machine.gpus if placement.parallel == "fsdp" else 1
    share = scored / (rows * phase.context)
    return PhaseForecast(
        phase.name,
        phase.context,
        phase.batches,
        _mixture(phase, corpus),
        phase.packing,
        phase.steps,
        phase.tokens,
        text_tokens=round(text * batches),
        loss_tokens=round(scored * batches),
        flops=batches * flops,
        mask_rate=phase.mask_rate if corrupts else None,
        rope_bases=(phase.rope_base_global, phase.rope_base_local),
        knots=tuple((point, factor * phase.learning_rate) for point, factor in phase.schedule.knots()),
        repeats=phase.loader(corpus, run.seeds.order).repeats(phase.rows) if corpus else None,
        memory=estimate_memory(run, micro_rows, phase.context, share, shards, placement.recompute),
        gpu_hours=rate.gpu_hours(text * batches) if rate else None,
    )


def _mixture(phase: Phase, corpus: Corpus | None) -> dict[str, float] | None:
    """The share of tokens that a phase reads from each source."""
    weights = phase.mixture
    if weights is None and corpus is not None:
        weights = {name: float(corpus.tokens(name, "train")) for name in corpus.sources}
    return weights and {name: weight / sum(weights.values()) for name, weight in weights.items()}


def _component(
    run: RunConfig, phase: Phase, component: Component, lengths: np.ndarray, special: int
) -> tuple[int, float]:
    """Loss-bearing tokens and FLOPs of a component of the objective on documents of these lengths; a prefix is half."""
    visibility, text = DIRECTIONS[component.direction].visibility, int(lengths.sum())
    prefixes = lengths // 2 if visibility == "prefix" else lengths * 0
    if OBJECTIVES[component.objective].corrupts:
        end = phase.mask_rate if phase.mask_rate_end is None else phase.mask_rate_end
        scored = round((text - special) * (phase.mask_rate + end) / 2)
    else:
        scored = round((text - len(lengths) - int(prefixes.sum())) * run.objective.scored_share)
    return scored, run.flop_counter(visibility).training(lengths, scored, prefixes)


def _sample(run: RunConfig, phase: Phase, corpus: Corpus | None) -> tuple[int, np.ndarray, int]:
    """The number of sampled rows, the lengths of the pieces of documents in them, and the number of their special tokens.

    Without a corpus: a row that a single document fills, for which attention costs most.
    """
    if corpus is None:
        return 1, np.array([phase.context]), round(SPECIAL_SHARE * phase.context)
    loader = phase.loader(corpus, run.seeds.order)
    least = phase.batches.sizes[0]  # a divisor of it divides every batch
    micro_batches = next(
        n for n in range(1, least + 1) if least % n == 0 and phase.batch_rows / n <= SAMPLED_ROWS or n == least
    )
    steps = sorted({int(step) for step in np.linspace(0, max(1, phase.steps) - 1, SAMPLED_STEPS)})
    batches = [loader.batch(step, 0, micro_batches) for step in steps]
    special = sum(int(np.isin(batch.tokens[batch.real], corpus.tokenizer.special.ids).sum()) for batch in batches)
    rows = sum(len(batch.rows) for batch in batches)
    return rows, np.concatenate([document_lengths(batch) for batch in batches]), special


def checkpoints(run: RunConfig) -> Checkpoints:
    """The checkpoints of a whole run: all weights, and two moments of the trained ones, in fp32.

    An adapter is written besides the weights that it is merged into.
    """
    rule, written, kept = run.checkpoint, 1, [f"{run.phases[0].prefix}0"]
    for phase in run.phases if run.tokens else ():
        steps = rule.kept_steps(phase.steps, phase.consumed)
        written += phase.steps // rule.every_steps + sum(step % rule.every_steps > 0 for step in steps)
        kept += [f"{phase.prefix}{step}" for step in steps]
    temporary = min(written - len(kept), rule.keep_last)
    tensors = parameter_count(run.model) + run.adapter_parameters + 2 * run.trained_parameters
    return Checkpoints(written, tuple(kept), temporary, FP32 * tensors)
