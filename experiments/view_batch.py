"""python -m experiments.view_batch run=runs/<run> step=10: the exact global batch of any step of any run, decoded."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ettin_core.data.corpus import Corpus
from ettin_core.foundation.errors import invalid
from ettin_core.foundation.terminal import printable
from ettin_core.objectives.kinds import OBJECTIVES
from ettin_core.planning.run_plan import open_corpus, open_run
from ettin_core.planning.step_batch import StepBatch, recorded_hashes, replayed_hash
from ettin_core.records.folders import RunFolder
from ettin_core.training.config import RunConfig
from experiments.cli.entry import entry
from experiments.views.batch_text import RowText
from experiments.views.step_text import header, row_origin, sources

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


def describe(step: StepBatch, request: ViewRequest, name: str | None = None) -> str:
    """The batch as text, of a run of this name (None: that of its configuration).

    Raises ValueError for a row that is not in it, or an unknown objective.
    """
    views = [step.through(name) for name in objectives(step.run, request.objective)]
    chosen = range(min(request.rows, len(step.batch.rows)))
    if request.row is not None:
        first, last = int(step.batch.rows[0]), int(step.batch.rows[-1])
        if not first <= request.row <= last:
            raise invalid("row", request.row, f"is not in the batch of step {step.step}", f"use {first} to {last}")
        chosen = range(request.row - first, request.row - first + 1)
    text = RowText(step.batch, step.corpus.tokenizer, request.targets, request.row is not None)
    lines = [*header(step, views, name or step.run.name), "", *sources(step)]
    for number in chosen:
        lines += ["", row_origin(step, number), *text.stored(number), *text.through(views, number)]
    return "\n".join(lines)


def objectives(run: RunConfig, asked: Any) -> list[str]:
    """Names of the objectives asked for: `run`, `all`, one, or a list. Raises ValueError for an unknown one."""
    named = {"run": [run.objective.name], "all": list(OBJECTIVES)}
    names = named.get(asked, [asked]) if isinstance(asked, str) else asked
    known = (run.objective.name, *OBJECTIVES)
    if not isinstance(names, list) or not names or any(name not in known for name in names):
        raise invalid("objective", asked, "is not an objective", f"use run, all, or a list of {', '.join(OBJECTIVES)}")
    return names


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
    replayed = replayed_hash(run, corpus, done)
    if replayed == recorded[done]:
        return f"check        matches: steps 0 to {done - 1} replayed give the recorded {replayed}", False
    return f"check        DIFFERS: steps 0 to {done - 1} replayed give {replayed}, recorded is {recorded[done]}", True


if __name__ == "__main__":
    main()
