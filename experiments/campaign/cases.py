"""A case of bad input and its outcome, judged in the same way in all areas.

A case is clear if it ends with the right status, loses no file and leaves nothing half-written. If it ends in an error, one
line has to name what is wrong and what to do.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ettin_core.foundation.exits import EXIT_FAULT, EXIT_NOBODY_READS, EXIT_REQUEUE, EXIT_USER_ERROR
from experiments.campaign.processes import PLAIN, Ended, Environment, run

CLEAR, TRACEBACK, SILENT, UNCLEAR, IMPOSSIBLE = KINDS = ("clear", "traceback", "silent", "unclear", "not possible here")
REFUSED, ACCEPTED, EITHER = "refused", "accepted", "either"
HALF_WRITTEN = re.compile(r"\..*\.(building|tmp|replaced|removing)")
_LINES = 1500  # characters of what was printed that an outcome keeps


@dataclass(frozen=True)
class Outcome:
    """The outcome of a case: one of KINDS, and what was printed."""

    kind: str
    printed: str


@dataclass(frozen=True)
class Case:
    """A case: its name, and what tries it in an empty folder."""

    name: str
    trial: Callable[[Path], Outcome]


def nothing(folder: Path) -> None:
    """Prepare nothing."""


@dataclass(frozen=True)
class Input:
    """A command with a bad input, prepared in its folder; `names`: one of them has to be in the line of an error.

    An accepted command with another `answer` than the `usual` one has to name what is wrong as well.
    """

    command: str
    arguments: tuple[str, ...]
    names: tuple[str, ...] = ()
    expect: str = REFUSED
    prepare: Callable[[Path], None] = nothing
    environment: Environment = PLAIN
    answer: Callable[[Path, Ended], str] | None = None
    usual: Callable[[], str] = str
    leaves: bool = False  # a full disk may leave what the next start continues

    def __call__(self, folder: Path) -> Outcome:
        """Try it."""
        self.prepare(folder)
        before = files(folder)
        ended = run(self.command, *self.arguments, folder=folder, environment=self.environment)
        outcome = judge(ended, self.expect, self.names)
        if outcome.kind != CLEAR:
            return outcome
        lost = sorted(before - files(folder)) if ended.status else []
        half = [] if self.leaves else sorted(path for path in files(folder) - before if _half_written(path))
        if lost or half:
            return Outcome(SILENT, f"lost: {lost[:3]}; half-written: {half[:3]}\n{outcome.printed}")
        if ended.status == 0 and self.answer is not None and self.answer(folder, ended) != self.usual():
            named = any(name in ended.err + ended.out for name in self.names)
            return outcome if named else Outcome(SILENT, f"another answer, and nothing is said\n{outcome.printed}")
        return outcome


def judge(ended: Ended, expect: str, names: tuple[str, ...]) -> Outcome:
    """The outcome of a command that should have ended in an error (or well, or either)."""
    printed = f"status {ended.status}\n{ended.out[-_LINES:]}\n{ended.err[-_LINES:]}"
    if "Traceback (most recent call last)" in ended.err or (ended.status or 0) < 0:
        return Outcome(TRACEBACK, printed)
    if ended.status is None:
        return Outcome(SILENT, f"does not end\n{printed}")
    if ended.status == 0:
        return Outcome(SILENT if expect == REFUSED else CLEAR, printed)
    if ended.status == EXIT_NOBODY_READS and not ended.err:
        return Outcome(CLEAR, printed)
    if expect == ACCEPTED or ended.status not in (EXIT_USER_ERROR, EXIT_FAULT, EXIT_REQUEUE):
        return Outcome(UNCLEAR, printed)
    if "Error executing job" in ended.err:  # a line of Hydra's beside our own
        return Outcome(UNCLEAR, printed)
    named = not names or any(name in ended.line for name in names)
    remedy = ";" in ended.line or ":" in ended.line.removeprefix("error: ")
    return Outcome(CLEAR if named and remedy else UNCLEAR, printed)


def files(folder: Path) -> set[str]:
    """The files below a folder that are not locks, as paths in it."""
    paths = (path for path in folder.rglob("*") if not path.is_dir() or path.is_symlink())
    return {str(path.relative_to(folder)) for path in paths if not path.name.endswith(".lock")}


def _half_written(path: str) -> bool:
    return any(HALF_WRITTEN.fullmatch(part) for part in Path(path).parts)


def spread(cases: list[Case], most: int | None) -> list[Case]:
    """At most `most` of the cases, spread evenly."""
    if most is None or most >= len(cases):
        return cases
    return [cases[number * len(cases) // most] for number in range(most)]


def counts(outcomes: Mapping[str, list[Outcome]]) -> list[dict[str, object]]:
    """A row of counts for each area."""
    rows = []
    for area, items in outcomes.items():
        row: dict[str, object] = {"area": area, "tried": sum(item.kind != IMPOSSIBLE for item in items)}
        rows.append(row | {kind: sum(item.kind == kind for item in items) for kind in KINDS})
    return rows
