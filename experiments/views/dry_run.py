"""A run described without training it: prints what ettin_core/planning/forecast.py computes."""

from dataclasses import replace
from pathlib import Path

from ettin_core.data.config import DataConfig
from ettin_core.data.corpus import Corpus
from ettin_core.data.preparation.plan import make_plan
from ettin_core.foundation.errors import UserError
from ettin_core.planning.forecast import UNKNOWN, Checkpoints, Forecast, Machine, PhaseForecast, forecast
from ettin_core.requests.train import TrainRequest
from ettin_core.training.config import PlacementConfig, RunConfig
from ettin_core.training.memory import Memory
from ettin_core.training.phases import over_phases

BYTES = ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"))


def dry_run(request: TrainRequest) -> str:
    """The plan of a training as text. Prepares nothing: without a corpus it lists what could not be checked.

    Raises ValueError for what would raise at the start of training.
    """
    corpus, reason = find_corpus(request.data, Path(request.corpora_dir))
    run = request.planned() if corpus is None else request.parts.run(request.member, corpus)
    return describe(timed(forecast(run, request.placement, corpus, request.machine), request.placement), reason)


def timed(plan: Forecast, placement: PlacementConfig) -> Forecast:
    """The forecast with a rate measured here, where there is none and no other machine is planned for."""
    if plan.throughput is not None or plan.machine != Machine() or not plan.run.tokens:
        return plan
    from ettin_core.planning.measured_rate import measured  # with torch

    return replace(plan, throughput=measured(plan.run, placement))


def find_corpus(data: DataConfig, corpora: Path) -> tuple[Corpus | None, str]:
    """The prepared corpus of a configuration, or None and why there is none.

    The name of a corpus depends on its input's content; where nothing under that name was ever prepared, the input is
    not read for it.
    """
    advice = "prepare it with experiments.prepare and the same data options"
    if not any(corpora.glob(f"{data.name}-*/manifest.json")):
        return None, f"not prepared; {advice}"
    try:
        folder = corpora / make_plan(data).corpus_name
    except UserError as error:
        return None, f"not found: {error}"
    if not (folder / "manifest.json").is_file():
        return None, f"not prepared with these options; {advice}"
    return Corpus(folder), ""


def describe(plan: Forecast, reason: str = UNKNOWN) -> str:
    """A forecast as text; `reason` says why there is no corpus."""
    run, groups = plan.run, plan.parameters
    return "\n".join(
        [
            f"run         {run.name if plan.corpus else 'has its name when its corpus is prepared'}",
            f"member      {run.member}: {run.direction}, {run.objective.name}, {run.precision}",
            *_origin(run),
            f"parameters  {sum(groups.values()):,}  ({', '.join(f'{name} {count:,}' for name, count in groups.items())})",
            f"corpus      {plan.corpus}  fingerprint {run.fingerprint[:16]}…"
            if plan.corpus
            else f"corpus      {reason}",
            f"optimiser   {run.optimizer.name}, peak {run.optimizer.learning_rate:g}, decay {run.optimizer.weight_decay:g}",
            *(line for phase in plan.phases for line in _phase(phase)),
            *_passes(plan),
            f"checkpoints {_checkpoints(plan.checkpoints, plan.run.checkpoint.every_steps)}",
            f"total       {run.tokens:,} tokens, about {sum(phase.loss_tokens for phase in plan.phases):,} of them "
            f"loss-bearing, {sum(phase.flops for phase in plan.phases):.3g} FLOPs",
            f"duration    {_duration(plan)}",
            *([] if plan.corpus else [f"not checked {_unchecked(plan)}"]),
        ]
    )


def _origin(run: RunConfig) -> list[str]:
    """Of a conversion: where it starts, and what of it is trained."""
    lines = [f"parent      {run.parent.run} at {run.parent.checkpoint}"] if run.parent else []
    if run.adapter is not None:
        adapter = (
            f"rank {run.adapter.rank}, alpha {run.adapter.alpha}: {run.trained_parameters:,} parameters are trained"
        )
        lines.append(f"adapter     {adapter}")
    return lines


def _phase(phase: PhaseForecast) -> list[str]:
    knots = ", ".join(f"{point:,}: {rate:.3g}" for point, rate in phase.knots)
    bases = "/".join(f"{base:g}" for base in phase.rope_bases)
    lines = [
        f"{phase.name:<12}{_steps(phase)} = {phase.tokens:,} tokens, about "
        f"{phase.loss_tokens:,} of them loss-bearing, {phase.flops:.3g} FLOPs",
        f"rate by tokens {{{knots}}}, rope {bases}"
        + (f", mask rate {phase.mask_rate:g}" if phase.mask_rate is not None else ""),
        f"mixture {_mixture(phase)}",
        _rows(phase),
        f"estimated memory {_memory(phase.memory, phase.context)}",
    ]
    return [lines[0], *(f"{'':<12}{line}" for line in lines[1:])]


def _steps(phase: PhaseForecast) -> str:
    batches, context = phase.batches, phase.context
    whole = f"{phase.steps - batches.warmup_steps:,} steps of {batches.rows} x {context}"
    if not batches.warmup_steps:
        return whole
    smaller = ", ".join(str(size) for size in batches.sizes[:-1])
    return f"{batches.stage_steps:,} steps each of {smaller} and {whole}"


def _mixture(phase: PhaseForecast) -> str:
    if phase.mixture is None:
        return "by size"
    return ", ".join(f"{name} {share:.4g}" for name, share in phase.mixture.items())


def _rows(phase: PhaseForecast) -> str:
    text = f"packing {phase.packing}"
    if phase.repeats is None:
        return f"{text}, passes over sources unknown"
    filled = phase.text_tokens / max(1, phase.tokens)
    return f"{text}, {filled:.0%} of the row positions hold text, passes over sources: {_listed(phase.repeats)}"


def _passes(plan: Forecast) -> list[str]:
    """Passes over each source in all phases together; their limit is the run's."""
    known = [phase.repeats for phase in plan.phases if phase.repeats is not None]
    if not known:
        return []
    limit = f"at most {plan.run.recipe.max_epochs:g} (recipe.max_epochs)"
    return [f"passes      over sources in all phases: {_listed(over_phases(known))}; {limit}"]


def _listed(passes: dict[str, float]) -> str:
    return ", ".join(f"{name} {count:.2f}" for name, count in passes.items())


def _memory(memory: Memory, context: int) -> str:
    parts = ("weights", "gradients", "optimizer", "activations", "loss")
    return (
        f"{_size(memory.total)} per GPU or process, in micro-batches of {memory.rows} x {context} "
        f"({', '.join(f'{name} {_size(getattr(memory, name))}' for name in parts)})"
    )


def _size(number: float) -> str:
    unit, name = next((item for item in BYTES if number >= item[0]), BYTES[-1])
    return f"{number / unit:.3g} {name}"


def _checkpoints(planned: Checkpoints, every: int) -> str:
    names = ", ".join(planned.kept[:8]) + (f" … {planned.kept[-1]}" if len(planned.kept) > 8 else "")
    number = len(planned.kept) + planned.temporary
    newest = f" and the newest {planned.temporary} of those every {every} steps" if planned.temporary else ""
    return (
        f"{names}{newest}: {planned.written:,} written, {number:,} kept, {_size(planned.bytes_each)} each, "
        f"{_size(number * planned.bytes_each)} in all"
    )


def _duration(plan: Forecast) -> str:
    rate = plan.throughput
    if rate is None:
        return f"unknown: no rate was measured for size {plan.run.size}; give machine.tokens_per_second="
    hours, gpus = rate.gpu_hours(sum(phase.text_tokens for phase in plan.phases)), plan.machine.gpus
    wall = f"{hours / gpus:,.4g} hours on {gpus} GPUs, " if gpus > 1 else ""
    amount = f"{hours:,.4g} GPU-hours" if hours >= 1 else f"{60 * hours:.3g} minutes"
    return f"{wall}{amount} at {rate.tokens_per_second:,.0f} tokens/s of each: {rate.source}"


def _unchecked(plan: Forecast) -> str:
    text = (
        "without a corpus: passes over sources against recipe.max_epochs, sources shorter than the context, the "
        f"tokenizer against {plan.run.model.vocab_size} ids"
    )
    if any(phase.packing != "stream" for phase in plan.phases):
        text += "; rows are taken as full, so with padding there are fewer tokens of text and fewer FLOPs than printed"
    return text
