"""The batch of a step as plain text: its run and phase, what each source gave, and where a row comes from."""

import textwrap
from collections import defaultdict

from ettin_core.planning.source_counts import count_sources
from ettin_core.planning.step_batch import ObjectiveView, StepBatch
from experiments.views.batch_text import WIDTH, counts_of, pieces


def header(step: StepBatch, views: list[ObjectiveView], name: str) -> list[str]:
    """Lines on the run, the step and what each objective scores of its batch."""
    run, phase, batch = step.run, step.phase, step.batch
    total, real = sum(phase.steps for phase in run.phases), int(batch.real.sum())
    mixture = "by size" if phase.mixture is None else ", ".join(f"{name} {w:g}" for name, w in phase.mixture.items())
    number = sum(1 for row in range(len(batch.rows)) for _ in pieces(batch, row))
    entries = {
        "run": f"{name} ({run.direction}, {run.objective.name})",
        "corpus": f"{step.corpus.name}, fingerprint {step.corpus.fingerprint[:16]}",
        "step": f"{step.step} of 0 to {total - 1}; {phase.name} step {step.phase_step} of 0 to {phase.steps - 1}",
        "rows": f"{len(batch.rows)} of {phase.context} tokens, packing {phase.packing}, "
        f"global rows {batch.rows[0]} to {batch.rows[-1]} of the phase",
        "mixture": mixture,
        "utilisation": f"{real / batch.tokens.size:.2%}: {real:,} tokens, {batch.tokens.size - real:,} padding; "
        f"{number:,} pieces of documents",
        "digest": f"{batch.digest():016x}",
    } | {view.objective: counts_of(view, slice(None)) for view in views}
    lines = []
    for name, value in entries.items():
        lines += textwrap.wrap(f"{name:<13}{value}", WIDTH, subsequent_indent=" " * 13)
    return lines


def sources(step: StepBatch) -> list[str]:
    """A line per source: its share of this batch, and what was drawn of it from the beginning up to this step."""
    here = count_sources(step.loader, step.phase.mixture, step.phase.batches.before(step.phase_step + 1))
    before: defaultdict[str, float] = defaultdict(float)
    for phase in step.run.phases[: step.run.phases.index(step.phase)]:
        loader = phase.loader(step.corpus, step.run.seeds.order)
        for name, count in count_sources(loader, phase.mixture, phase.rows).items():
            before[name] += count.passes
    width = max(16, *(len(name) + 2 for name in {*here, *before}))
    real = step.batch.real.sum(axis=1)
    lines = [
        f"{'source':<{width}}{'rows':>6}{'tokens':>9}{'asked':>9}{'in phase':>10}{'rows so far':>13}{'of':>11}{'passes':>9}"
        + f"{'all phases':>12}"
    ]
    drawn_tokens = sum(count.tokens for count in here.values())
    for number, (name, count) in enumerate(here.items()):
        rows = step.batch.sources == number
        lines.append(
            f"{name:<{width}}{int(rows.sum()):>6,}{int(real[rows].sum()):>9,}{count.asked:>9.2%}"
            f"{count.tokens / drawn_tokens:>10.2%}{count.rows:>13,}{step.loader.rows[number].count:>11,}"
            f"{count.passes:>9.3f}{before.get(name, 0.0) + count.passes:>12.3f}"
        )
    lines += [
        f"{name:<{width}}{'not in this phase':<67}{passes:>12.3f}"
        for name, passes in before.items()
        if name not in here
    ]
    return lines


def row_origin(step: StepBatch, number: int) -> str:
    """A line on where a row of the batch comes from and what it holds."""
    source, epoch, row = (
        int(values[number]) for values in (step.location.source, step.location.epoch, step.location.row)
    )
    name, count = step.loader.sources[source], step.loader.rows[source].count
    piece_count = len(list(pieces(step.batch, number)))
    real = int(step.batch.real[number].sum())
    return (
        f"row {step.batch.rows[number]}: source {name}, epoch {epoch}, its row {row:,} of 0 to {count - 1:,}; "
        f"{piece_count} piece{'s' if piece_count > 1 else ''}, {real} tokens, {step.phase.context - real} padding"
    )
