"""Run every cell of a study, several at a time; a failing one does not stop the others."""

from typing import Protocol

from ettin_core.planning.matching import Ruler
from ettin_core.studies.study import EVALUATE, EXPORT, TRAIN, Study, workers
from ettin_core.studies.worker_pool import Job, Outcome, Pool


def run_cells(study: Study) -> list[str]:
    """Run every cell, several at a time; a failing one does not stop the others. Returns the failures."""
    with Pool(workers(study.request)) as pool:
        work = StudyProgress(study, pool)
        work.begin()
        for outcome in pool.outcomes():
            work.settle(outcome)
    return [f"  {job}: {reason}" for job, reason in work.failures().items()]


class Queue(Protocol):
    """Where jobs are put."""

    def add(self, job: Job) -> None:
        """Queue a job."""


class StudyProgress:
    """What a study has measured, done and queued, from which it follows what begins next."""

    def __init__(self, study: Study, pool: Queue) -> None:
        self._study, self._pool = study, pool
        self._errors: dict[str, str] = {}
        self._ended: set[str] = set()
        self._queued = {name for name in study.stages.stages if study.stages.result(name) is not None}

    def begin(self) -> None:
        """Queue the cells from scratch, and what follows the stages that are done."""
        study = self._study
        waiting = [name for name, cell in study.cells.items() if cell.parent is None]
        costs = {name: Ruler("flops", {}).measure(study.runs[name]) for name in waiting}
        for name in sorted(waiting, key=costs.__getitem__, reverse=True):  # so that no long one is left for the end
            self._train(name)
        for name in sorted(self._queued, key=list(study.stages.stages).index):
            self._stage_done(name)

    def settle(self, outcome: Outcome) -> None:
        """Record how a job ended, and queue the jobs that follow."""
        job = outcome.job
        if outcome.error is not None:
            self._errors[job.name] = outcome.error
            return
        if job.kind == TRAIN:
            for following in self._study.followers(job.cell):
                if following.kind == TRAIN:
                    self._train(following.cell)
                else:
                    self._add(following)
        elif job.kind == EVALUATE:
            self._ended.add(job.cell)
        elif job.cell in self._study.stages.stages and job.kind != EXPORT:
            self._study.stages.take(job.cell, outcome.result)
            self._stage_done(job.cell)
        self._begin_stages()

    def failures(self) -> dict[str, str]:
        """The failures, with what never began because of them."""
        study, failures = self._study, dict(self._errors)
        for name, cell in study.cells.items():
            if cell.parent is not None and f"train {cell.parent}" in failures:
                failures[f"train {name}"] = "waits for its parent"
        for name, stage in study.stages.stages.items():
            if name not in self._queued:
                lacking = [item for item in stage.waits_for if item not in self._ended]
                failures[f"{stage.config.command} {name}"] = f"waits for {', '.join(lacking)}"
        return failures

    def _train(self, name: str) -> None:
        """Queue a cell, unless it failed before and retry=false."""
        failure = self._study.folder(name).failure
        if failure is not None and not self._study.request.retry:
            self._errors[f"train {name}"] = f"{failure} (before; retry=true tries it again)"
        else:
            self._add(self._study.training_job(name))

    def _add(self, job: Job) -> None:
        """Queue a job, or settle it at once where its work is done: a finished study starts no worker."""
        if self._study.is_done(job):
            self.settle(Outcome(job, None, None))
        else:
            self._pool.add(job)

    def _stage_done(self, name: str) -> None:
        """A stage is done: its cell is measured, or its records are there."""
        if self._study.stages.stages[name].config.makes_run:
            for job in self._study.measuring_jobs(name):
                self._add(job)
        else:
            self._ended.add(name)
        self._begin_stages()

    def _begin_stages(self) -> None:
        for job in self._study.stages.ready(self._ended, self._queued):
            self._queued.add(job.cell)
            self._pool.add(job)
