"""python -m experiments.study experiment=demo: a whole pair study. Runs, conversions, probes, certificates, report.

Every cell is a content-named run folder or a protocol's folder in it, so whatever is complete is skipped, whatever was
interrupted continues, and the numbers are those of an undisturbed study.
"""

import os
import signal
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from ettin_core.checkpoints.retention import CheckpointConfig
from ettin_core.data.config import DataConfig
from ettin_core.data.corpus import Corpus
from ettin_core.evaluation.protocol import SuiteConfig
from ettin_core.foundation.distributed import ProcessGroup
from ettin_core.foundation.errors import invalid
from ettin_core.foundation.storage import content_name, write_json
from ettin_core.foundation.structures import plain
from ettin_core.optim.build import OptimizerConfig
from ettin_core.pairs.audit import NOT_MATCHED, Certificate, audit, certify
from ettin_core.pairs.contract import Contract
from ettin_core.records.folders import RunFolder
from ettin_core.training.phases import RecipeConfig
from ettin_core.training.run import PlacementConfig, Seeds
from ettin_core.training.session import check_fit
from experiments.conversions import Conversion
from experiments.door import CONFIGURATIONS, RunStopped, entry
from experiments.pool import Job, Outcome, Pool
from experiments.requests import MemberConfig, SizeConfig, TrainingParts, prepared
from experiments.stages import evaluate_stage, export_stage, train_stage

CONVERSION_SEED_OFFSET = 189  # the published seeds are 21 and, for conversions, 210
CONVERSIONS = {"dec-from-enc": "encoder", "enc-from-dec": "decoder"}
EXIT_INTERRUPTED = 130


@dataclass(frozen=True)
class StudyRequest:
    """conf/study.yaml."""

    name: str
    size: SizeConfig
    recipe: RecipeConfig
    conversion: RecipeConfig
    data: DataConfig
    optimizer: OptimizerConfig
    placement: PlacementConfig
    suite: SuiteConfig
    members: dict[str, MemberConfig]
    contracts: dict[str, Contract]
    seed: int
    seeds: Seeds
    precision: str
    checkpoint: CheckpointConfig
    budget: float
    jobs: int | None
    export: bool
    runs_dir: str
    corpora_dir: str
    studies_dir: str


def conversion_of(request: StudyRequest, member: str) -> Conversion:
    """How a converted member of a study comes about."""
    seed = request.seed + CONVERSION_SEED_OFFSET
    return Conversion(request.members[member], request.conversion, request.budget, seed, request.checkpoint)


class Study:
    """The plan of a study on a prepared corpus: which runs there are, and what follows when one is done."""

    def __init__(self, request: StudyRequest, corpus: Corpus) -> None:
        self.request = request
        self.corpus = corpus
        self.runs_dir = Path(request.runs_dir)
        parts = TrainingParts(
            request.size, request.recipe, request.optimizer, request.seeds, request.precision, request.checkpoint
        )
        self.runs = {name: parts.run(request.members[name], corpus) for name in ("encoder", "decoder")}

    def check(self) -> None:
        """Refuse, before anything is trained, members that are not matched or do not fit (ValueError)."""
        conversions = [self.conversion(child).plan(self.runs[parent]) for child, parent in CONVERSIONS.items()]
        for run in (*self.runs.values(), *conversions):
            check_fit(run, self.corpus, self.request.placement, ProcessGroup())
        certificate = audit(self.request.contracts["pair"], self.runs["encoder"], self.runs["decoder"])
        print(f"audit: {certificate.sentence()}", flush=True)
        if certificate.verdict == NOT_MATCHED:
            raise invalid("members", certificate.violations, "break the contract", "make them equal or declare it")

    def folder(self, member: str) -> RunFolder:
        """The run folder of a member that is already planned."""
        return RunFolder(self.runs_dir / self.runs[member].name)

    def conversion(self, member: str) -> Conversion:
        """How a converted member comes about."""
        return conversion_of(self.request, member)

    def plan_conversion(self, member: str) -> None:
        """Name a conversion's run, which needs its complete parent."""
        parent = CONVERSIONS[member]
        self.runs[member] = self.conversion(member).of(self.runs[parent], self.folder(parent))

    def training_job(self, member: str) -> Job:
        """The job that trains a planned member."""
        request = self.request
        arguments = (self.runs[member], self.corpus.folder, request.placement, request.runs_dir)
        return Job(f"train {member}", train_stage, arguments, urgent=True)

    def followers(self, member: str) -> list[Job]:
        """What can start when a member is trained: its conversion, its probes and its export."""
        request, path, corpora = self.request, self.folder(member).path, self.corpus.folder.parent
        jobs = []
        for conversion, parent in CONVERSIONS.items():
            if parent == member:
                self.plan_conversion(conversion)
                jobs.append(self.training_job(conversion))
        jobs.append(Job(f"evaluate {member}", evaluate_stage, (path, corpora, request.suite, request.placement)))
        if request.export:
            jobs.append(Job(f"export {member}", export_stage, (path, corpora)))
        return jobs

    def certificates(self) -> list[Certificate]:
        """The certificates of the pair and of each conversion, from the evidence of complete runs."""
        contracts = self.request.contracts
        pairs = [(contracts["pair"], "encoder", "decoder")]
        pairs += [(contracts["conversion"], parent, child) for child, parent in CONVERSIONS.items()]
        found = []
        for contract, left, right in pairs:
            folders = self.folder(left), self.folder(right)
            certificate = certify(contract, self.runs[left], self.runs[right], *folders)
            write_json(folders[1].certificate_file, asdict(certificate))
            found.append(certificate)
        return found

    @property
    def path(self) -> Path:
        """The study's own folder: certificates and report."""
        identity = {"runs": sorted(run.name for run in self.runs.values()), "suite": plain(self.request.suite)}
        return Path(self.request.studies_dir) / content_name(f"{self.request.name}-{self.request.size.name}", identity)


@entry("study", StudyRequest)
def main(request: StudyRequest) -> None:
    """Run the study and print verdict, table and paths."""
    signal.signal(signal.SIGTERM, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
    try:
        study = Study(request, prepared(request.data, request.corpora_dir))
        study.check()
        failures = run_cells(study)
        if failures:
            raise RunStopped("\n".join(["not complete:", *failures, "the others are kept; mend this and start again"]))
        report(study)
    except KeyboardInterrupt:
        print("\ninterrupted: start the same command again and it continues where it stopped", file=sys.stderr)
        sys.exit(EXIT_INTERRUPTED)


def run_cells(study: Study) -> list[str]:
    """Run every cell, several at a time; a failing one does not stop the others. Returns the failures."""
    failures = []
    with Pool(workers(study.request)) as pool:
        for member in ("decoder", "encoder"):  # the decoder's steps cost more, so it goes first
            pool.add(study.training_job(member))
        for outcome in pool.outcomes():
            failures += _settle(study, pool, outcome)
    return failures


def _settle(study: Study, pool: Pool, outcome: Outcome) -> list[str]:
    if outcome.error is not None:
        return [f"  {outcome.job.name}: {outcome.error}"]
    stage, member = outcome.job.name.split(" ", 1)
    if stage == "train":
        for job in study.followers(member):
            pool.add(job)
    return []


def workers(request: StudyRequest) -> int:
    """How many cells run at once."""
    if request.jobs is not None:
        if request.jobs < 1:
            raise invalid("jobs", request.jobs, "is not positive", "use 1 or more, or null")
        return request.jobs
    if request.placement.device == "cpu":
        return max(1, (os.cpu_count() or 1) // request.placement.threads)
    return 1


def report(study: Study) -> None:
    """Certificates, then the report by the analysis room, which reads records only."""
    certificates = study.certificates()
    runs = [run.name for run in study.runs.values()]
    content = {"name": study.request.name, "runs": runs, "certificates": [asdict(item) for item in certificates]}
    write_json(study.path / "study.json", content)
    command = [sys.executable, "-m", "analysis.report", f"runs={study.runs_dir.resolve()}"]
    command += [f"out={(study.path / 'report').resolve()}", f"study={(study.path / 'study.json').resolve()}"]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(CONFIGURATIONS.parent), os.environ.get("PYTHONPATH", "")])
    }
    if subprocess.run(command, env=environment).returncode:
        raise RunStopped(f"the runs are complete, the report is not: {' '.join(command)}")
    broken = [certificate.sentence() for certificate in certificates if certificate.verdict == NOT_MATCHED]
    if broken:
        raise RunStopped("\n".join(broken))


def planned(request: StudyRequest) -> Study:
    """The study with every run that can be named today (conversions need their complete parents)."""
    study = Study(request, prepared(request.data, request.corpora_dir))
    for member, parent in CONVERSIONS.items():
        if study.folder(parent).complete:
            study.plan_conversion(member)
    return study


if __name__ == "__main__":
    main()
