"""Run every cell of a study, several at a time; a failing one does not stop the others."""

from ettin_core.planning.matching import Ruler
from ettin_core.studies.study import TRAIN, Study, workers
from ettin_core.studies.worker_pool import Outcome, Pool


def run_cells(study: Study) -> list[str]:
    """Run every cell, several at a time; a failing one does not stop the others. Returns the failures."""
    failures: dict[str, str] = {}
    with Pool(workers(study.request)) as pool:
        waiting = [name for name in study.cells if study.cells[name].parent is None]
        costs = {name: Ruler("flops", {}).measure(study.runs[name]) for name in waiting}
        for name in sorted(waiting, key=costs.__getitem__, reverse=True):  # so that no long one is left for the end
            _start(study, pool, name, failures)
        for outcome in pool.outcomes():
            _settle(study, pool, outcome, failures)
    for name, cell in study.cells.items():
        if cell.parent is not None and f"train {cell.parent}" in failures:
            failures[f"train {name}"] = "waits for its parent"
    return [f"  {job}: {reason}" for job, reason in failures.items()]


def _start(study: Study, pool: Pool, name: str, failures: dict[str, str]) -> None:
    """Queue a cell, unless it failed before and retry=false."""
    failure = study.folder(name).failure
    if failure is not None and not study.request.retry:
        failures[f"train {name}"] = f"{failure} (before; retry=true tries it again)"
    else:
        pool.add(study.training_job(name))


def _settle(study: Study, pool: Pool, outcome: Outcome, failures: dict[str, str]) -> None:
    """Record how a job ended, and queue the jobs that follow."""
    if outcome.error is not None:
        failures[outcome.job.name] = outcome.error
        return
    if outcome.job.kind == TRAIN:
        for job in study.followers(outcome.job.cell):
            if job.kind == TRAIN:
                _start(study, pool, job.cell, failures)
            else:
                pool.add(job)
