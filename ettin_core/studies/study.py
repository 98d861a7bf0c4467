"""A study on its prepared corpora: its runs, and the jobs that follow when one is done."""

import os
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ettin_core.data.config import DataConfig
from ettin_core.data.corpus import Corpus
from ettin_core.data.preparation.plan import expected_ids
from ettin_core.data.preparation.prepare import prepared_before
from ettin_core.data.preparation.progress_bar import prepared
from ettin_core.evaluation.suite import all_measured, settings_of
from ettin_core.foundation.errors import invalid
from ettin_core.foundation.storage import canonical_json, content_name, read_json, write_json
from ettin_core.foundation.strict_config import plain
from ettin_core.pairs.audit import NOT_MATCHED, Certificate, certify
from ettin_core.planning.forecast import UNKNOWN
from ettin_core.planning.precision import AUTO, choose, chosen_before, with_precision
from ettin_core.records.folders import RunFolder, folder_of
from ettin_core.records.predictions import hash_of, stated
from ettin_core.studies.grid import Compose, StudyRequest, audits, cells_of, pairs_of, plan_runs
from ettin_core.studies.stage_jobs import StageCommands, StageJobs, check_stages
from ettin_core.studies.stages import stages_of
from ettin_core.studies.stale import KEEP, record_changes, run_changes, set_aside
from ettin_core.studies.worker_pool import Job

TRAIN, EVALUATE, EXPORT = "train", "evaluate", "export"  # kinds of jobs beside the commands of stages


class Study:
    """A study on its prepared corpora: its runs, and the jobs that follow when one is done.

    `runs` are by cell. The run of a conversion has its starting weights, and so its name, once its parent is complete
    (`ready`). So has the run that a stage makes, once that is done. Without `prepares` missing corpora are not prepared.
    `commands` run the stages, which a study that only looks does without; those that cannot run are reported first.
    """

    def __init__(
        self,
        request: StudyRequest,
        overrides: list[str],
        compose: Compose,
        prepares: bool = True,
        commands: StageCommands | None = None,
    ) -> None:
        if request.precision == AUTO:
            overrides = with_precision(overrides, _settled(request, overrides, compose, prepares))
            request = compose(overrides)
        self.request, self._prepares = request, prepares
        self.runs_dir = Path(request.runs_dir)
        self.cells = cells_of(request, overrides, compose)
        stages = stages_of(request, self.cells)
        if commands is not None:
            check_stages(stages, commands)  # before a corpus is prepared
        self._corpora: dict[str, Corpus | None] = {}
        self.runs = plan_runs(self.cells, self._corpus)
        self._planned = sorted(run.name for run in self.runs.values())
        self.ready = [name for name, cell in self.cells.items() if cell.parent is None]
        for name, cell in self.cells.items():
            if cell.parent is not None and self.folder(cell.parent).complete:
                self.make_ready(name)
        self.stages = StageJobs(self, stages, commands)

    def corpus(self, data: DataConfig) -> Corpus:
        """The prepared corpus of a cell."""
        corpus = self._corpus(data)
        assert corpus is not None, "without prepares nothing that needs a corpus is called"
        return corpus

    def _corpus(self, data: DataConfig) -> Corpus | None:
        key = canonical_json(plain(data))
        if key not in self._corpora:
            folder = self.request.corpora_dir
            self._corpora[key] = prepared(data, folder) if self._prepares else prepared_before(data, Path(folder))
        return self._corpora[key]

    def has_corpus(self, name: str) -> bool:
        """Whether the corpus of a cell is prepared, without which its run has no name."""
        return self._corpus(self.request_of(name).data) is not None

    def check(self) -> None:
        """Raises ValueError, before anything is trained, if cells are not matched or do not fit their corpus or placement."""
        from ettin_core.foundation.distributed import ProcessGroup  # with torch, which a look at a study does without
        from ettin_core.training.setup import check_fit

        for name, cell in self.cells.items():
            check_fit(self.runs[name], self.corpus(cell.request.data), cell.request.placement, ProcessGroup())
        certificates = list(audits(self.cells, self.runs).values())
        for line in [f"audit: {line}" for line in summarise(certificates)] + self.request.unanswerable():
            print(line, flush=True)
        broken = [violation for certificate in certificates for violation in certificate.violations]
        if broken:
            raise invalid("axes", broken[0], "breaks the contract", "make it equal, or declare it in the contract")

    def folder(self, name: str) -> RunFolder:
        """The run folder of a cell that is ready."""
        return folder_of(self.runs[name].name, self.runs_dir)

    def make_ready(self, name: str) -> None:
        """Name a conversion's run, which needs its complete parent."""
        cell = self.cells[name]
        assert cell.parent is not None
        self.runs[name] = cell.request.as_conversion.of(self.runs[cell.parent], self.folder(cell.parent))
        self.ready.append(name)

    def training_job(self, name: str) -> Job:
        """The job that trains a cell."""
        from ettin_core.studies.run_jobs import train_stage

        request = self.cells[name].request
        corpus = self.corpus(request.data).folder
        return Job(TRAIN, name, train_stage, (self.runs[name], corpus, request.placement, request.runs_dir), True)

    def followers(self, name: str) -> list[Job]:
        """The jobs that follow once a cell is trained: its conversions (first), its measurements and its export."""
        children = [child for child, cell in self.cells.items() if cell.parent == name]
        for child in children:
            if child not in self.ready:
                self.make_ready(child)
        return [self.training_job(child) for child in children] + self.measuring_jobs(name)

    def request_of(self, name: str) -> StudyRequest:
        """The request of a cell, also of one that a stage makes."""
        return self.cells[name].request if name in self.cells else self.stages.stages[name].request

    def measuring_jobs(self, name: str) -> list[Job]:
        """The measurements and the export of a complete cell."""
        from ettin_core.studies.run_jobs import evaluate_stage, export_stage

        request, path = self.request_of(name), self.folder(name).path
        corpora = self.corpus(request.data).folder.parent
        again = self.request.stale != KEEP
        jobs = [Job(EVALUATE, name, evaluate_stage, (path, corpora, request.suite, request.placement, again))]
        if request.export:
            jobs.append(Job(EXPORT, name, export_stage, (path, corpora)))
        return jobs

    def is_done(self, job: Job) -> bool:
        """Whether a job that trains, measures or exports would find its work done, so that no worker is needed for it."""
        from ettin_core.evaluation.exports import has_own_export  # with torch, which a look at a study does without

        folder = self.folder(job.cell)
        if not folder.complete:
            return False
        if job.kind == EVALUATE:
            request = self.request_of(job.cell)
            return all_measured(self.runs[job.cell], folder, request.suite, request.stale != KEEP)
        return job.kind == TRAIN or has_own_export(folder)

    def stale(self) -> dict[str, dict[str, Any]]:
        """By stale cell: what changed since its run was trained (`run`) and its protocols were measured (`records`)."""
        stale_cells = {}
        for name in self.ready:
            run, folder = self.runs[name], self.folder(name)
            records = record_changes(run, folder, self.request_of(name).suite)
            if (changes := run_changes(run, folder)) != [] or records:
                stale_cells[name] = {"run": changes, "records": records}
        return stale_cells

    def set_aside_stale(self) -> bool:
        """Set aside the runs that other code trained; returns whether there were any."""
        places = {name: set_aside(self.runs[name], self.folder(name)) for name in self.ready}
        for name, place in places.items():
            if place is not None:
                print(f"{name} was trained by other code: its run is set aside as {place}", flush=True)
        return any(places.values())

    def certificates(self) -> list[Certificate]:
        """The certificates of every pair, from the evidence of complete runs."""
        certificates = []
        for contract, left, right in pairs_of(self.cells):
            folders = self.folder(left), self.folder(right)
            certificate = certify(contract, self.runs[left], self.runs[right], *folders)
            write_json(folders[1].certificate_file, asdict(certificate))
            certificates.append(certificate)
        return certificates

    @property
    def path(self) -> Path:
        """The folder of the study: certificates and report."""
        identity: dict[str, Any] = {"runs": sorted(run.name for run in self.runs.values()), "suite": self.request.suite}
        if self.request.stages:  # whose runs have no names yet
            identity |= {"runs": self._planned, "stages": self.request.stages}
        if self.request.predictions:  # they are stated before the names of conversions are known, so by planned names
            identity |= {"runs": self._planned, "predictions": hash_of(self.request.predictions)}
        return Path(self.request.studies_dir) / content_name(f"{self.request.name}-{self.request.size.name}", identity)

    def state(self) -> None:
        """Write the predictions, once, with the cells that had begun to train by then."""
        file = self.path / "study.json"
        if self.request.predictions and not file.exists():
            begun = [name for name in self.ready if self.folder(name).metrics_file.exists()]
            write_json(file, self.record([]) | {"predictions": stated(self.request.predictions, begun)})

    def _stated(self) -> dict[str, Any] | None:
        file = self.path / "study.json"
        return read_json(file)["predictions"] if self.request.predictions and file.exists() else None

    def record(self, certificates: list[Certificate]) -> dict[str, Any]:
        """study.json: what the analysis reads about the cells."""
        stale = self.stale()
        runs = {name: run.name for name, run in self.runs.items()}
        return {
            "name": self.request.name,
            "claim": self.request.claim,
            "runs": list(runs.values()),
            "cells": [
                {
                    "name": name,
                    "run": runs[name],
                    "axes": cell.axes,
                    "parent": runs[cell.parent] if cell.parent else None,
                    "stale": stale.get(name),
                }
                for name, cell in self.cells.items()
            ]
            + [
                {
                    "name": name,
                    "run": runs[name],
                    "axes": stage.axes,
                    "parent": runs[stage.sources[0]],
                    "stale": stale.get(name),
                }
                for name, stage in self.stages.stages.items()
                if name in runs
            ],
            "suite": {
                run.name: settings_of(self.request.suite, run.read_as) | self.stages.measured(run.name)
                for run in self.runs.values()
            },
            "analysis": self.request.analysis,
            "predictions": self._stated(),
            "certificates": [asdict(item) for item in certificates],
        }


def _settled(request: StudyRequest, overrides: list[str], compose: Compose, prepares: bool) -> str:
    """The precision that `auto` means in all cells of a study; one that only looks probes nothing."""
    if not prepares:
        return chosen_before(request.size.name, request.placement, request.runs_dir)
    plain_request = compose(with_precision(overrides, "fp32"))
    run = plain_request.parts.planned(request.member, expected_ids(request.data), UNKNOWN, UNKNOWN)
    return choose(run, request.placement, request.runs_dir)


def summarise(certificates: list[Certificate]) -> list[str]:
    """A line for each kind of verdict, and each pair that is not matched in full."""
    lines = [certificate.sentence() for certificate in certificates if certificate.verdict == NOT_MATCHED]
    kinds = Counter(
        (item.pair, item.verdict, ", ".join(dict.fromkeys(difference["under"] for difference in item.differences)))
        for item in certificates
        if item.verdict != NOT_MATCHED
    )
    for (pair, verdict, allowed), count in kinds.items():
        lines.append(f"{pair}: {count} {'pair' if count == 1 else 'pairs'} {verdict} {allowed}".rstrip())
    return lines


def workers(request: StudyRequest) -> int:
    """How many cells run at once."""
    if request.jobs is not None:
        return request.jobs
    if request.placement.device == "cpu":
        return max(1, (os.cpu_count() or 1) // request.placement.threads)
    return 1
