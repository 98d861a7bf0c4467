"""Two commands at once in one folder: each ends well, or prints that the other is working, and nothing is damaged."""

import shutil
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ettin_core.foundation.exits import EXIT_REQUEUE
from experiments.campaign.cases import ACCEPTED, CLEAR, EITHER, SILENT, Case, Outcome, files, judge
from experiments.campaign.place import SUITE, TINY, Place
from experiments.campaign.processes import Process, run
from experiments.campaign.texts import COMMON, LINES, put


@dataclass(frozen=True)
class Two:
    """Two commands, and the path that both write."""

    command: str
    arguments: tuple[str, ...]
    target: str
    before: bool = False  # the command ran once already
    second: tuple[str, tuple[str, ...]] | None = None  # the second, if it is another command


EXPORT = ("run=latest", "out=out/hf")
REPORT = ("runs=runs", "out=out/report", "record=study.json")
TRAIN = ("member=encoder", *TINY)
PAIRS = {
    "export": Two("experiments.export", EXPORT, "out/hf"),
    "export over an old one": Two("experiments.export", (*EXPORT, "overwrite=true"), "out/hf", before=True),
    "revisions": Two("experiments.export", ("run=latest", "out=out/cache", "revisions=all"), "out/cache"),
    "report": Two("analysis.report", REPORT, "out/report"),
    "report over an old one": Two("analysis.report", REPORT, "out/report", before=True),
    "train": Two("experiments.train", TRAIN, "runs"),
    "prepare": Two("experiments.prepare", COMMON, "corpora"),
    "evaluate": Two("experiments.evaluate", ("run=latest", *SUITE, "suite.items=13"), "runs"),
    "remove and evaluate": Two("experiments.evaluate", ("run=latest", *SUITE, "suite.items=13"), "corpora",
                               second=("experiments.runs", ("remove=[latest]", "ask=false"))),
    "sweep": Two("experiments.train", ("-m", *TINY, "member=encoder,decoder", "seed=3"), "runs"),
}  # fmt: skip


def cases(place: Place) -> list[Case]:
    """Each pair, the second as soon as the first and a little later."""
    return [Case(title, partial(_both, place, two)) for title, two in PAIRS.items()]


def _both(place: Place, two: Two, folder: Path) -> Outcome:
    place.copy("corpora", "runs", "study.json")(folder)
    put("a.jsonl", LINES, folder)
    (folder / "out").mkdir()
    if two.before and (first := run(two.command, *two.arguments, folder=folder)).status != 0:
        return judge(first, ACCEPTED, ())
    old = files(folder / two.target) if two.before else set()
    command, arguments = two.second or (two.command, two.arguments)
    pair = [Process(two.command, two.arguments, folder), Process(command, arguments, folder)]
    endings = [process.wait() for process in pair]
    outcomes = [judge(ended, EITHER, ()) for ended in endings]
    for outcome in outcomes:
        if outcome.kind != CLEAR:
            return outcome
    printed = "\n".join(outcome.printed for outcome in outcomes)
    shared = two.second is not None or "-m" in two.arguments  # cells of a sweep are trained by either
    if not shared and not any(ended.status == 0 for ended in endings):
        return Outcome(SILENT, f"neither did the work\n{printed}")
    if two.second is None and any(ended.status not in (0, 2, EXIT_REQUEUE) for ended in endings):
        return Outcome(SILENT, f"another status than 0, 2 and {EXIT_REQUEUE}\n{printed}")
    there = files(folder / two.target)
    if not there or old - there:
        return Outcome(SILENT, f"lost: {sorted(old - there)[:3] or two.target}\n{printed}")
    return _again(two, folder, printed)


def _again(two: Two, folder: Path, printed: str) -> Outcome:
    """Afterwards the command ends well; an export without `overwrite` is made elsewhere."""
    if two.second is not None:
        return Outcome(CLEAR, printed)
    if (
        two.command == "experiments.export"
        and "overwrite=true" not in two.arguments
        and "revisions=all" not in two.arguments
    ):
        again = run(two.command, *two.arguments[:-1], "out=out/new", folder=folder)
        if again.status == 0 and files(folder / "out/new") != files(folder / two.target):
            return Outcome(SILENT, f"two together wrote something else than one alone\n{printed}")
        shutil.rmtree(folder / "out/new", ignore_errors=True)
        return judge(again, ACCEPTED, ())
    return judge(run(two.command, *two.arguments, folder=folder), ACCEPTED, ())
