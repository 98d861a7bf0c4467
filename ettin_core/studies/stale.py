"""What is complete and was made by other code than today's: which modules changed since, and what may be done about it.

`stale=keep` leaves it alone and says so, `stale=remeasure` measures such records again, `stale=retrain` trains such runs again
(and in a study measures again too). What does not say by which code it was made counts as made by another.
"""

import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from ettin_core.evaluation.protocol import SuiteConfig
from ettin_core.evaluation.suite import applicable, settings_of, stale
from ettin_core.foundation.errors import unknown
from ettin_core.foundation.folders import locked
from ettin_core.records.folders import RunFolder
from ettin_core.training.config import RunConfig
from ettin_core.training.environment import changed_since

KEEP, REMEASURE, RETRAIN = "keep", "remeasure", "retrain"
ASIDE = ".stale"  # of the folder of runs: where runs go that are trained again
FEW = 6

Changes = list[str] | None  # names of what changed; None: not recorded


def check_choice(value: str, *choices: str) -> None:
    """Raise ValueError for what is not a choice of `stale`."""
    if value not in (KEEP, *choices):
        raise unknown("stale", value, "is not a choice", (KEEP, *choices))


def run_changes(run: RunConfig, folder: RunFolder) -> Changes:
    """The modules that changed since a run was completed; nothing for one that is not complete."""
    return changed_since(run, folder.summary()) if folder.complete else []


def record_changes(
    run: RunConfig, folder: RunFolder, suite: SuiteConfig, checkpoint: str | None = None
) -> dict[str, Changes]:
    """By protocol of the suite, what changed since a run's records of a checkpoint (None: the last) were made."""
    own = replace(folder, suite=settings_of(suite, run.read_as))
    return stale(own, checkpoint, applicable(run.read_as, suite))


def set_aside(run: RunConfig, folder: RunFolder) -> Path | None:
    """Move a complete run of other code out of the way, so that it is trained again; returns where it is now.

    None for a run that is not complete, or is of today's code: also where another process has moved it meanwhile.
    """
    aside = folder.path.parent / ASIDE
    with locked(aside, wait=True):
        if run_changes(run, folder) == []:
            return None
        number = 1
        while (place := aside / f"{folder.name}-{number}").exists():
            number += 1
        os.rename(folder.path, place)
        return place


def told(what: str, changes: Changes, made: str, remedy: str) -> str:
    """A line about something of other code: `made` says how it came to be, `remedy` what would make it anew."""
    if changes is None:
        return f"{what}: {made} before code was recorded, so whether it changed since is not known ({remedy})"
    return f"{what}: {made} by other code, {named(changes)} changed since ({remedy})"


def named(changes: Iterable[str]) -> str:
    """The names of what changed, the first of them where they are many."""
    names = list(changes)
    rest = len(names) - FEW
    return ", ".join(names[:FEW]) + (f" and {rest} more" if rest > 0 else "")


def run_line(run: RunConfig, folder: RunFolder) -> str | None:
    """The line about a complete run that is kept (None: it is of today's code)."""
    changes = run_changes(run, folder)
    return None if changes == [] else told(f"run {folder.name}", changes, "trained", f"stale={RETRAIN} trains it again")


def record_lines(found: dict[str, Changes], remedy: str = f"stale={REMEASURE} measures again") -> list[str]:
    """Lines about records that are kept: protocols of the same changes in one."""
    groups: dict[tuple[str, ...] | None, list[str]] = {}
    for protocol, changes in found.items():
        groups.setdefault(None if changes is None else tuple(changes), []).append(protocol)
    return [
        told(named(protocols), None if changes is None else list(changes), "measured", remedy)
        for changes, protocols in groups.items()
    ]
