"""What a run will be, computed without training it: plain numbers for the dry run, the plan's table and the tests."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch

from ettin_core.data.batches import BatchSchedule
from ettin_core.data.corpus import Corpus
from ettin_core.foundation.distributed import ProcessGroup
from ettin_core.model.accounting import FlopCounter, activation_bytes, parameter_count, parameters_by_group
from ettin_core.model.transformer import Transformer
from ettin_core.objectives.loss import CHUNK_ROWS
from ettin_core.objectives.targets import MASKED
from ettin_core.training.books import document_lengths
from ettin_core.training.phases import Phase
from ettin_core.training.run import PlacementConfig, RunConfig
from ettin_core.training.session import check_fit
from experiments.throughput import Throughput, throughput

UNKNOWN = "not prepared"  # name and fingerprint of a corpus that a run is planned on before there is one
SPECIAL_SHARE = 0.02  # of the tokens, assumed where there is no corpus to look at
SAMPLED_STEPS, SAMPLED_ROWS = 8, 16  # rows looked at where there is one: so many steps, so many rows of each
FP32, BF16 = 4, 2  # bytes


@dataclass(frozen=True)
class Memory:
    """Bytes of one GPU at the peak of a step: an estimate. See `estimate_memory`."""

    weights: int
    gradients: int
    optimizer: int
    activations: int
    loss: int
    rows: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.gradients + self.optimizer + self.activations + self.loss


@dataclass(frozen=True)
class PhaseForecast:
    """A phase in numbers. `tokens` are row positions, the schedule's clock; `text_tokens` those that hold text.

    `knots` are (tokens of the phase, learning rate); `repeats` passes over each source (None: no corpus to count in).
    """

    name: str
    context: int
    batches: BatchSchedule
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
    """What the retention rule makes of a whole run: how many are written, those kept for good, and bytes each."""

    written: int
    lasting: tuple[str, ...]
    passing: int
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


def forecast(
    run: RunConfig, placement: PlacementConfig, corpus: Corpus | None = None, tokens_per_second: float | None = None
) -> Forecast:
    """The numbers of a run, on its corpus where there is one.

    Raises ValueError for everything that would be refused at the start of training and can be known here. The device is
    not looked for: what will run on a GPU can be planned without one.
    """
    placement = replace(placement, device="auto")
    if corpus is not None:
        check_fit(run, corpus, placement, ProcessGroup())
    rate = throughput(run.size, tokens_per_second)
    with torch.device("meta"):
        parameters = parameters_by_group(Transformer(run.model))
    phases = tuple(_phase(run, phase, placement, corpus, rate) for phase in run.phases)
    return Forecast(run, corpus.name if corpus else None, parameters, phases, checkpoints(run), rate)


def _phase(
    run: RunConfig, phase: Phase, placement: PlacementConfig, corpus: Corpus | None, rate: Throughput | None
) -> PhaseForecast:
    rows, lengths, special = _sample(run, phase, corpus)
    masked = run.objective.name in MASKED
    text = int(lengths.sum())
    scored = round((text - special) * phase.mask_rate) if masked else text - len(lengths)
    batches = phase.rows / rows  # how many times the sample the phase is
    micro_rows = phase.batch_rows // placement.micro_batches(phase.batch_rows, 1)
    return PhaseForecast(
        phase.name,
        phase.context,
        phase.batches,
        phase.packing,
        phase.steps,
        phase.tokens,
        text_tokens=round(text * batches),
        loss_tokens=round(scored * batches),
        flops=batches * FlopCounter(run.model, run.direction).training(lengths, scored),
        mask_rate=phase.mask_rate if masked else None,
        rope_bases=(phase.rope_base_global, phase.rope_base_local),
        knots=tuple((point, factor * phase.learning_rate) for point, factor in phase.schedule.knots()),
        repeats=phase.loader(corpus, run.seeds.order).repeats(phase.rows) if corpus else None,
        memory=estimate_memory(run, micro_rows, phase.context, scored / (rows * phase.context)),
        gpu_hours=rate.gpu_hours(text * batches) if rate else None,
    )


def _sample(run: RunConfig, phase: Phase, corpus: Corpus | None) -> tuple[int, np.ndarray, int]:
    """Rows looked at, the lengths of the pieces of documents in them, and how many of their tokens are special.

    Without a corpus: one row that a single document fills, which is the most that attention can cost.
    """
    if corpus is None:
        return 1, np.array([phase.context]), round(SPECIAL_SHARE * phase.context)
    loader = phase.loader(corpus, run.seeds.order)
    least = phase.batches.sizes[0]  # a divisor of it divides every batch
    parts = next(
        n for n in range(1, least + 1) if least % n == 0 and phase.batch_rows / n <= SAMPLED_ROWS or n == least
    )
    steps = sorted({int(step) for step in np.linspace(0, phase.steps - 1, SAMPLED_STEPS)})
    batches = [loader.batch(step, 0, parts) for step in steps]
    special = sum(int(np.isin(batch.tokens[batch.real], corpus.tokenizer.special.ids).sum()) for batch in batches)
    rows = sum(len(batch.rows) for batch in batches)
    return rows, np.concatenate([document_lengths(batch) for batch in batches]), special


def estimate_memory(run: RunConfig, rows: int, context: int, scored_share: float) -> Memory:
    """Memory of one GPU that holds the whole model, with micro-batches of `rows` x `context` tokens: an estimate.

    P parameters, V vocabulary, H hidden; b = 2 bytes under bf16, else 4; n = rows x context tokens, s of them scored:

    weights      4 P (fp32), and 2 P for the bf16 copies that autocast keeps
    gradients    4 P
    optimizer    8 P (two fp32 moments)
    activations  n x `accounting.activation_bytes`, and 4 x 4 n H around the layers (embedding, two norms, result)
    loss         s x (12 + 3 b) H (head), a chunk of logits and its gradient c V (4 + b), and 4 V H (gradient of the
                 output matrix before it joins the others); c = min(s, objectives.loss.CHUNK_ROWS)

    It is that of eager execution: torch.compile keeps less. The framework's own memory (about 1 GiB), fragmentation, the
    buckets of DDP (4 P with several processes) and the dense masks of the sdpa and reference backends are left out.
    """
    model, tokens = run.model, rows * context
    operand = BF16 if run.precision == "bf16" else FP32
    parameters, hidden, vocabulary = parameter_count(model), model.hidden_size, model.vocab_size
    scored = round(tokens * scored_share)
    chunk = min(scored, CHUNK_ROWS["cuda"])
    return Memory(
        weights=FP32 * parameters + (BF16 * parameters if operand == BF16 else 0),
        gradients=FP32 * parameters,
        optimizer=2 * FP32 * parameters,
        activations=tokens * (activation_bytes(model, operand) + 4 * FP32 * hidden),
        loss=scored * (12 + 3 * operand) * hidden + chunk * vocabulary * (FP32 + operand) + FP32 * vocabulary * hidden,
        rows=rows,
    )


def checkpoints(run: RunConfig) -> Checkpoints:
    """The checkpoints of a whole run: weights and two moments in fp32, and a step counter for every tensor."""
    written, lasting, passing = 1, [f"{run.phases[0].prefix}0"], 0
    for phase in run.phases:
        for step in _due(run, phase):
            written += 1
            if run.checkpoint.lasts(step, phase.steps):
                lasting.append(f"{phase.prefix}{step}")
            else:
                passing += 1
    return Checkpoints(
        written, tuple(lasting), min(passing, run.checkpoint.keep_last), 3 * FP32 * parameter_count(run.model)
    )


def _due(run: RunConfig, phase: Phase) -> Iterator[int]:
    """The steps of a phase after which a checkpoint is written."""
    rule, last = run.checkpoint, phase.steps
    steps = {last, *range(rule.every_steps, last + 1, rule.every_steps)}
    if rule.keep_every_steps:
        steps |= {*range(rule.keep_every_steps, last + 1, rule.keep_every_steps)}
    yield from sorted(steps)
