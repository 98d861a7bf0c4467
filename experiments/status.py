"""python -m experiments.status study=demo: the grid of a study and the state of each cell."""

import time
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from textwrap import shorten

from hydra.core.hydra_config import HydraConfig

from ettin_core.evaluation.suite import settings_of
from ettin_core.foundation.folders import locked
from ettin_core.foundation.provenance import machine_code
from ettin_core.foundation.storage import read_mapping
from ettin_core.records.folders import RunFolder
from ettin_core.requests.compose import composer
from ettin_core.studies.grid import StudyRequest
from ettin_core.studies.study import Study
from ettin_core.training.monitor import HEARTBEAT_SECONDS
from experiments.cli.entry import entry

ALIVE = timedelta(seconds=6 * HEARTBEAT_SECONDS)  # a heartbeat of a healthy run is younger
REASON_WIDTH = 90  # characters of the reason why a cell failed
WAITS = "waits for its parent"
UNPREPARED = "missing: its corpus is not prepared"


@entry("status", StudyRequest)
def main(request: StudyRequest) -> None:
    """Print one line per cell, and the number of cells in each state."""
    study = Study(request, list(HydraConfig.get().overrides.task), composer("study", StudyRequest), prepares=False)
    print("\n".join(table(study)))


def table(study: Study) -> list[str]:
    """A line per cell, and the number of cells in each state."""
    named = [name for name in study.ready if study.has_corpus(name)]
    states = {name: UNPREPARED if name in study.ready else WAITS for name in study.cells}
    states |= {name: study.stages.state(name) for name in study.stages.stages}
    states |= {name: state(study.folder(name)) for name in named}
    wide = max(len("cell"), *map(len, states))
    width = max(len("state"), *(len(item) for item in states.values()))
    lines = [f"{'cell':<{wide}}  {'state':<{width}}  protocols  run"]
    for name in states:
        line = f"{name:<{wide}}  {states[name]:<{width}}"
        known = f"  {measured(study, name):<9}  {study.folder(name).path}" if name in named else ""
        lines.append((line + known).rstrip())
    kinds = Counter(item.partition(":")[0].partition(" at ")[0] for item in states.values())
    return [*lines, ", ".join(f"{count} {kind}" for kind, count in kinds.items())]


def measured(study: Study, name: str) -> str:
    """With how many of its applicable protocols a cell was measured."""
    asked = settings_of(study.request_of(name).suite, study.runs[name].read_as)
    return f"{len(asked.keys() & replace(study.folder(name), suite=asked).evaluations().keys())}/{len(asked)}"


def state(folder: RunFolder) -> str:
    """The state of a run, from its records, its last sign of life and its lock (which only this machine sees)."""
    if folder.complete:
        summary = folder.summary()
        return f"complete: {summary['tokens']:,} tokens in {timedelta(seconds=round(summary['seconds']))}"
    if folder.damage is not None:
        return f"damaged: {folder.damage}"
    if not folder.config_file.exists():
        return "missing"
    if folder.failure is not None:
        return f"failed: {shorten(folder.failure, REASON_WIDTH)}"
    sign = read_mapping(folder.heartbeat_file) if folder.heartbeat_file.exists() else None
    if sign is None:
        return "running: no step done yet" if _is_locked(folder) else "stopped before the first step"
    age = timedelta(seconds=round(max(0.0, time.time() - sign["time"])))
    share = f"{sign['clock'] / sign['of']:.0%}"
    elsewhere = sign["host"] != machine_code()
    if not (_is_locked(folder) or (elsewhere and age < ALIVE)):
        return f"stopped at {share}, last sign {age} ago"
    if age > ALIVE:
        return f"running: at {share}, but no step for {age} (process {sign['process']})"
    timing = folder.timing()
    if not timing:
        return f"running: {share}"
    rate = timing[-1].tokens_per_second
    left = timedelta(seconds=round((sign["of"] - sign["clock"]) / max(rate, 1e-9)))
    return f"running: {share}, {rate:,.0f} tokens/s, {left} left"


def _is_locked(folder: RunFolder) -> bool:
    try:
        with locked(folder.path):
            return False
    except ValueError:
        return True


if __name__ == "__main__":
    main()
