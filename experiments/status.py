"""python -m experiments.status experiment=demo: the grid of a study and where each cell stands."""

import socket
import time
from datetime import timedelta

from ettin_core.evaluation.suite import applicable
from ettin_core.foundation.storage import locked, read_json
from ettin_core.records.folders import RunFolder
from ettin_core.training.watch import HEARTBEAT_SECONDS
from experiments.door import entry
from experiments.study import Study, StudyRequest, planned

ALIVE = timedelta(seconds=6 * HEARTBEAT_SECONDS)  # the last sign of life of a run that is well is younger
MEMBERS = ("encoder", "decoder", "enc-from-dec", "dec-from-enc")


@entry("status", StudyRequest)
def main(request: StudyRequest) -> None:
    """Print one line per cell."""
    study = planned(request)
    print(f"{'member':<14}{'state':<44}{'protocols':<11}run")
    for member in MEMBERS:
        print(line(study, member))


def line(study: Study, member: str) -> str:
    """A member's state: missing, running with rate and time left, stopped, or complete; and its measured protocols."""
    if member not in study.runs:
        return f"{member:<14}{'waits for its parent':<44}"
    folder, run = study.folder(member), study.runs[member]
    possible = len(applicable(run.readout[1]))
    measured = len(list(folder.path.glob("evaluations/[!.]*@*/measurements.jsonl")))
    return f"{member:<14}{state(folder):<44}{f'{measured}/{possible}':<11}{folder.path}"


def state(folder: RunFolder) -> str:
    """Where a run stands, from its records, its last sign of life and its lock (which only this machine sees)."""
    if folder.complete:
        summary = folder.summary()
        return f"complete: {summary['tokens']:,} tokens in {timedelta(seconds=round(summary['seconds']))}"
    if not folder.config_file.exists():
        return "missing"
    sign = read_json(folder.heartbeat_file) if folder.heartbeat_file.exists() else None
    if sign is None:
        return "running: no step done yet" if _is_locked(folder) else "stopped before the first step"
    age = timedelta(seconds=round(max(0.0, time.time() - sign["time"])))
    share = f"{sign['clock'] / sign['of']:.0%}"
    elsewhere = sign["host"] != socket.gethostname()
    if not (_is_locked(folder) or (elsewhere and age < ALIVE)):
        return f"stopped at {share}, last sign {age} ago"
    if age > ALIVE:
        return f"at {share}, but no step for {age} (process {sign['process']})"
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
