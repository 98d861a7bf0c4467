"""python -m experiments.status experiment=demo: the grid of a study and where each cell stands."""

import time
from datetime import timedelta

from ettin_core.evaluation.suite import applicable
from ettin_core.foundation.storage import locked
from ettin_core.records.folders import RunFolder
from ettin_core.training.run import RunConfig
from experiments.door import entry
from experiments.study import Study, StudyRequest, planned

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
    possible = len(applicable(run.objective.name))
    measured = len(list(folder.path.glob("evaluations/[!.]*@*/measurements.jsonl")))
    return f"{member:<14}{state(folder, run):<44}{f'{measured}/{possible}':<11}{folder.path}"


def state(folder: RunFolder, run: RunConfig) -> str:
    """Where a run stands, from its records and its lock."""
    if folder.complete:
        summary = folder.summary()
        return f"complete: {summary['tokens']:,} tokens in {timedelta(seconds=round(summary['seconds']))}"
    if not folder.config_file.exists():
        return "missing"
    rows, timing = folder.training(), folder.timing()
    if not rows or not timing:
        return "running: no step logged yet" if _is_locked(folder) else "stopped before the first logged step"
    share = rows[-1].tokens / run.tokens
    if not _is_locked(folder):
        age = timedelta(seconds=round(time.time() - folder.timing_file.stat().st_mtime))
        return f"stopped at {share:.0%}, last sign {age} ago"
    rate = timing[-1].tokens_per_second
    left = timedelta(seconds=round((run.tokens - rows[-1].tokens) / max(rate, 1e-9)))
    return f"running: {share:.0%}, {rate:,.0f} tokens/s, {left} left"


def _is_locked(folder: RunFolder) -> bool:
    try:
        with locked(folder.path):
            return False
    except ValueError:
        return True


if __name__ == "__main__":
    main()
