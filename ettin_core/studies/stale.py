"""Complete runs and records of other code than today's: which modules changed since, and what to do about them.

`stale=keep` leaves them alone and reports them, `stale=remeasure` measures such records again, `stale=retrain` trains such
runs again (and in a study measures again too). Runs and records without their code on record count as stale.
"""

import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from ettin_core.evaluation.suite import applicable, settings_of, stale
from ettin_core.evaluation.suite_config import SuiteConfig
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
    """Raises ValueError if a value is not a choice of `stale`."""
    if value not in (KEEP, *choices):
        raise unknown("stale", value, "is not a choice", (KEEP, *choices))


def run_changes(run: RunConfig, folder: RunFolder) -> Changes:
    """The modules that changed since a run was completed; empty for one that is not complete."""
    return changed_since(run, folder.summary()) if folder.complete else []


def record_changes(
    run: RunConfig, folder: RunFolder, suite: SuiteConfig, checkpoint: str | None = None
) -> dict[str, Changes]:
    """By protocol of the suite, what changed since a checkpoint (None: the last) was measured."""
    measured = replace(folder, suite=settings_of(suite, run.read_as))
    return stale(measured, checkpoint, applicable(run.read_as, suite))


def set_aside(run: RunConfig, folder: RunFolder) -> Path | None:
    """Move a complete run of other code aside, so that it is trained again; returns its new place.

    None if the run is not complete or is of today's code, also because another process moved it meanwhile.
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


def stale_line(what: str, changes: Changes, action: str, remedy: str) -> str:
    """A line about a run or record of other code: `action` is trained or measured, `remedy` how to repeat it."""
    if changes is None:
        return f"{what}: {action} before code was recorded, so whether it changed since is not known ({remedy})"
    return f"{what}: {action} by other code, {named(changes)} changed since ({remedy})"


def named(changes: Iterable[str]) -> str:
    """The names of what changed; of many the first."""
    names = list(changes)
    rest = len(names) - FEW
    return ", ".join(names[:FEW]) + (f" and {rest} more" if rest > 0 else "")


def run_line(run: RunConfig, folder: RunFolder) -> str | None:
    """The line about a complete run that is kept (None: it is of today's code)."""
    changes = run_changes(run, folder)
    return (
        None
        if changes == []
        else stale_line(f"run {folder.name}", changes, "trained", f"stale={RETRAIN} trains it again")
    )


def record_lines(by_protocol: dict[str, Changes], remedy: str = f"stale={REMEASURE} measures again") -> list[str]:
    """Lines about records that are kept, one for all protocols with the same changes."""
    groups: dict[tuple[str, ...] | None, list[str]] = {}
    for protocol, changes in by_protocol.items():
        groups.setdefault(None if changes is None else tuple(changes), []).append(protocol)
    return [
        stale_line(named(protocols), None if changes is None else list(changes), "measured", remedy)
        for changes, protocols in groups.items()
    ]
