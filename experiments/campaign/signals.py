"""Signals at several moments: the status that a queue expects, one line, and a next start that ends well."""

import signal
import time
from functools import partial
from pathlib import Path

from ettin_core.foundation.exits import EXIT_INTERRUPTED, EXIT_REQUEUE
from experiments.campaign.cases import ACCEPTED, CLEAR, SILENT, TRACEBACK, UNCLEAR, Case, Outcome, judge
from experiments.campaign.place import SUITE, TINY, Place
from experiments.campaign.processes import Process, ready, run
from experiments.campaign.texts import COMMON, LINES, put

STATUS = {"SIGTERM": EXIT_REQUEUE, "SIGUSR1": EXIT_REQUEUE, "SIGINT": EXIT_INTERRUPTED, "SIGKILL": -signal.SIGKILL}
MOMENTS = (0.0, 0.4, 1.2)  # seconds after it began
COMMANDS: dict[str, tuple[str, tuple[str, ...]]] = {
    "train": ("experiments.train", ("member=encoder", *TINY, "recipe.tokens=2e5")),
    "evaluate": ("experiments.evaluate", ("run=latest", *SUITE, "suite.items=13")),
    "export": ("experiments.export", ("run=latest", "out=hf")),
    "prepare": ("experiments.prepare", COMMON),
    "report": ("analysis.report", ("runs=runs", "out=report", "record=study.json")),
}


def cases(place: Place) -> list[Case]:
    """Every signal to every command at every moment."""
    return [
        Case(f"{title}: {name} after {moment} s", partial(_signalled, place, title, name, moment))
        for title in COMMANDS
        for name in STATUS
        for moment in (MOMENTS if title == "train" else MOMENTS[:2])
    ]


def _signalled(place: Place, title: str, name: str, moment: float, folder: Path) -> Outcome:
    place.copy("corpora", "runs", "study.json")(folder)
    put("a.jsonl", LINES, folder)
    command, arguments = COMMANDS[title]
    process = Process(command, arguments, folder)
    ready(process)
    time.sleep(moment)
    process.signal(signal.Signals[name])
    ended = process.wait()
    printed = f"status {ended.status}\n{ended.out[-800:]}\n{ended.err[-1500:]}"
    if "Traceback (most recent call last)" in ended.err:
        return Outcome(TRACEBACK, printed)
    if ended.status is None:
        return Outcome(SILENT, f"does not end\n{printed}")
    if ended.status not in (0, STATUS[name]):  # 0: it had ended before
        return Outcome(UNCLEAR, f"not {STATUS[name]}\n{printed}")
    if ended.status > 0 and "same command again" not in ended.err:  # a progress bar may be printed once more below it
        return Outcome(UNCLEAR, f"does not say how to go on\n{printed}")
    again = judge(run(command, *_again(title, arguments), folder=folder), ACCEPTED, ())
    return again if again.kind != CLEAR else Outcome(CLEAR, printed)


def _again(title: str, arguments: tuple[str, ...]) -> tuple[str, ...]:
    """How a command is started again: a shorter training, and an export that may replace one that was done just before."""
    return arguments[:-1] if title == "train" else (*arguments, "overwrite=true") if title == "export" else arguments
