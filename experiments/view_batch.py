"""python -m experiments.view_batch run=runs/<run> step=10: the exact global batch of any step of any run, decoded."""

import sys
import textwrap
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ettin_core.data.corpus import Corpus
from ettin_core.foundation.errors import invalid
from ettin_core.foundation.storage import read_json
from ettin_core.foundation.terminal import printable
from ettin_core.objectives.config import ObjectiveConfig
from ettin_core.objectives.directions import DIRECTIONS
from ettin_core.objectives.kinds import OBJECTIVES
from ettin_core.objectives.targets import Vocabulary, mask_key
from ettin_core.planning.run_plan import open_corpus, open_run
from ettin_core.planning.source_counts import count_sources
from ettin_core.records.folders import RunFolder
from ettin_core.training.config import RunConfig
from ettin_core.training.phases import Phase
from ettin_core.training.progress import roll
from experiments.cli.entry import entry
from experiments.views.batch_text import WIDTH, ObjectiveView, RowText, pieces

EXIT_DIFFERS = 1


@dataclass(frozen=True)
class ViewRequest:
    """conf/view_batch.yaml."""

    run: str
    step: int
    rows: int
    row: int | None
    objective: Any
    targets: int
    check: bool
    corpora_dir: str

    def __post_init__(self) -> None:
        for name in ("rows", "targets"):
            if getattr(self, name) < 0:
                raise invalid(name, getattr(self, name), "is negative", "use 0 or more")


@entry("view_batch", ViewRequest)
def main(request: ViewRequest) -> None:
    """Print the batch; exit status 1 when the data was to be checked and differs."""
    folder, run = open_run(request.run)
    corpus = open_corpus(run, Path(request.corpora_dir))
    print(printable(describe(StepBatch(run, corpus, request.step), request, folder.name)))
    sentence, differs = check(folder, run, corpus, request.step, request.check)
    print(f"\n{sentence}")
    if differs:
        sys.exit(EXIT_DIFFERS)


class StepBatch:
    """The batch of a global step, where each of its rows comes from, and its phase."""

    def __init__(self, run: RunConfig, corpus: Corpus, step: int) -> None:
        """Raises ValueError for a step that the run does not have."""
        self.run, self.corpus, self.step = run, corpus, step
        self.phase, self.phase_step = phase_of(run, step)
        self.loader = self.phase.loader(corpus, run.seeds.order)
        self.batch = self.loader.batch(self.phase_step)
        self.location = self.loader.order.locate(self.batch.rows)

    def through(self, objective: str) -> ObjectiveView:
        """The batch as an objective presents it to a model: under the run's direction, or one under which it does not leak."""
        run, config, direction = self.run, self.run.objective, self.run.direction
        if objective != config.name:
            config = ObjectiveConfig(objective, config.mask_share, config.random_share)
            leaks = OBJECTIVES[objective].leaks_under
            direction = next(name for name in (direction, *DIRECTIONS) if name not in leaks)
        vocabulary = Vocabulary.of(self.corpus.tokenizer)
        key, rate = mask_key(run.seeds.masks, self.phase.name), self.phase.mask_rate_at(self.phase_step)
        return ObjectiveView.through(
            config, direction, self.batch, vocabulary, rate, key, run.position(self.phase, self.phase_step)
        )


def phase_of(run: RunConfig, step: int) -> tuple[Phase, int]:
    """The phase of a global step and the step within it. Raises ValueError beyond the run's end."""
    left = step
    for phase in run.phases:
        if 0 <= left < phase.steps:
            return phase, left
        left -= phase.steps
    total = sum(phase.steps for phase in run.phases)
    remedy = f"use 0 to {total - 1}" if total else "view its parent"
    raise invalid("step", step, f"is not a step of the run, which has {total}", remedy)


def describe(view: StepBatch, request: ViewRequest, name: str | None = None) -> str:
    """The batch as text, of a run of this name (None: that of its configuration).

    Raises ValueError for a row that is not in it, or an unknown objective.
    """
    seen = [view.through(name) for name in objectives(view.run, request.objective)]
    chosen = range(min(request.rows, len(view.batch.rows)))
    if request.row is not None:
        first, last = int(view.batch.rows[0]), int(view.batch.rows[-1])
        if not first <= request.row <= last:
            raise invalid("row", request.row, f"is not in the batch of step {view.step}", f"use {first} to {last}")
        chosen = range(request.row - first, request.row - first + 1)
    text = RowText(view.batch, view.corpus.tokenizer, request.targets, request.row is not None)
    lines = [*_header(view, seen, name or view.run.name), "", *_sources(view)]
    for number in chosen:
        lines += ["", _row(view, number), *text.stored(number), *text.through(seen, number)]
    return "\n".join(lines)


def objectives(run: RunConfig, asked: Any) -> list[str]:
    """Names of the objectives asked for: `run`, `all`, one, or a list. Raises ValueError for one that there is not."""
    named = {"run": [run.objective.name], "all": list(OBJECTIVES)}
    names = named.get(asked, [asked]) if isinstance(asked, str) else asked
    known = (run.objective.name, *OBJECTIVES)
    if not isinstance(names, list) or not names or any(name not in known for name in names):
        raise invalid("objective", asked, "is no objective", f"use run, all, or a list of {', '.join(OBJECTIVES)}")
    return names


def _header(view: StepBatch, seen: list[ObjectiveView], name: str) -> list[str]:
    run, phase, batch = view.run, view.phase, view.batch
    total, real = sum(phase.steps for phase in run.phases), int(batch.real.sum())
    mixture = "by size" if phase.mixture is None else ", ".join(f"{name} {w:g}" for name, w in phase.mixture.items())
    count = sum(1 for row in range(len(batch.rows)) for _ in pieces(batch, row))
    entries = {
        "run": f"{name} ({run.direction}, {run.objective.name})",
        "corpus": f"{view.corpus.name}, fingerprint {view.corpus.fingerprint[:16]}",
        "step": f"{view.step} of 0 to {total - 1}; {phase.name} step {view.phase_step} of 0 to {phase.steps - 1}",
        "rows": f"{len(batch.rows)} of {phase.context} tokens, packing {phase.packing}, "
        f"global rows {batch.rows[0]} to {batch.rows[-1]} of the phase",
        "mixture": mixture,
        "utilisation": f"{real / batch.tokens.size:.2%}: {real:,} tokens, {batch.tokens.size - real:,} padding; "
        f"{count:,} pieces of documents",
        "digest": f"{batch.digest():016x}",
    } | {item.objective: item.counts(slice(None)) for item in seen}
    lines = []
    for name, value in entries.items():
        lines += textwrap.wrap(f"{name:<13}{value}", WIDTH, subsequent_indent=" " * 13)
    return lines


def _sources(view: StepBatch) -> list[str]:
    """A line per source: its part of this batch, and what was drawn of it from the beginning up to this step."""
    here = count_sources(view.loader, view.phase.mixture, view.phase.batches.before(view.phase_step + 1))
    before: defaultdict[str, float] = defaultdict(float)
    for phase in view.run.phases[: view.run.phases.index(view.phase)]:
        loader = phase.loader(view.corpus, view.run.seeds.order)
        for name, draw in count_sources(loader, phase.mixture, phase.rows).items():
            before[name] += draw.passes
    width = max(16, *(len(name) + 2 for name in {*here, *before}))
    real = view.batch.real.sum(axis=1)
    lines = [
        f"{'source':<{width}}{'rows':>6}{'tokens':>9}{'asked':>9}{'in phase':>10}{'rows so far':>13}{'of':>11}{'passes':>9}"
        + f"{'all phases':>12}"
    ]
    drawn_tokens = sum(draw.tokens for draw in here.values())
    for number, (name, draw) in enumerate(here.items()):
        mine = view.batch.sources == number
        lines.append(
            f"{name:<{width}}{int(mine.sum()):>6,}{int(real[mine].sum()):>9,}{draw.asked:>9.2%}"
            f"{draw.tokens / drawn_tokens:>10.2%}{draw.rows:>13,}{view.loader.rows[number].count:>11,}"
            f"{draw.passes:>9.3f}{before.get(name, 0.0) + draw.passes:>12.3f}"
        )
    lines += [
        f"{name:<{width}}{'not in this phase':<67}{passes:>12.3f}"
        for name, passes in before.items()
        if name not in here
    ]
    return lines


def _row(view: StepBatch, number: int) -> str:
    source, epoch, row = (int(part[number]) for part in (view.location.source, view.location.epoch, view.location.row))
    name, count = view.loader.sources[source], view.loader.rows[source].count
    cut = len(list(pieces(view.batch, number)))
    real = int(view.batch.real[number].sum())
    return (
        f"row {view.batch.rows[number]}: source {name}, epoch {epoch}, its row {row:,} of 0 to {count - 1:,}; "
        f"{cut} piece{'s' if cut > 1 else ''}, {real} tokens, {view.phase.context - real} padding"
    )


def check(folder: RunFolder, run: RunConfig, corpus: Corpus, step: int, replay: bool) -> tuple[str, bool]:
    """A sentence on the recorded rolling hash of the data up to a step, and whether a replay of the loader differs."""
    recorded = recorded_hashes(folder)
    done = max((steps for steps in recorded if steps <= step + 1), default=None)
    if done is None:
        later = f"; the first is recorded after step {min(recorded) - 1}" if recorded else ""
        return f"data hash    none recorded up to step {step}{later}", False
    if not replay:
        return (
            f"data hash    {recorded[done]}, recorded after step {done - 1}; check=true replays steps 0 to {done - 1} "
            "and compares",
            False,
        )
    found = replayed(run, corpus, done)
    if found == recorded[done]:
        return f"check        matches: steps 0 to {done - 1} replayed give the recorded {found}", False
    return f"check        DIFFERS: steps 0 to {done - 1} replayed give {found}, recorded is {recorded[done]}", True


def recorded_hashes(folder: RunFolder) -> dict[int, str]:
    """The rolling hash by number of steps done: of a complete run as it was closed, else of its rows so far."""
    if folder.data_order_file.exists():
        return {int(steps): value for steps, value in read_json(folder.data_order_file)["steps"].items()}
    return {row.step: row.data_hash for row in folder.training()}


def replayed(run: RunConfig, corpus: Corpus, steps: int) -> str:
    """The rolling hash of the first `steps` global batches as the loader gives them now."""
    rolling, left = "", steps
    with tqdm(total=steps, desc="replay", unit="step") as bar:
        for phase in run.phases:
            loader = phase.loader(corpus, run.seeds.order)
            for step in range(min(left, phase.steps)):
                rolling = roll(rolling, loader.batch(step).digest())
                bar.update()
            left = max(0, left - phase.steps)
            if not left:
                break
    return rolling


if __name__ == "__main__":
    main()
