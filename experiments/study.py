"""python -m experiments.study study=demo: every cell of a study. Runs, conversions, probes, certificates, report.

Every cell is a content-named run folder, or a protocol's folder in it: whatever is complete is skipped, whatever was
interrupted continues, and the numbers are those of an undisturbed study.
"""

from hydra.core.hydra_config import HydraConfig

from ettin_core.foundation.errors import RunStopped
from ettin_core.foundation.storage import write_json
from ettin_core.pairs.audit import NOT_MATCHED
from ettin_core.requests.compose import composer
from ettin_core.requests.stages import Commands
from ettin_core.studies.grid import StudyRequest
from ettin_core.studies.run_cells import run_cells
from ettin_core.studies.stale import RETRAIN
from ettin_core.studies.study import Study
from experiments.cli.entry import entry
from experiments.cli.report import analyse


@entry("study", StudyRequest)
def main(request: StudyRequest) -> None:
    """Run the study and print verdict, table and paths."""
    overrides = list(HydraConfig.get().overrides.task)
    compose, commands = composer("study", StudyRequest), Commands()
    study = Study(request, overrides, compose, commands=commands)
    study.check()
    if request.stale == RETRAIN and study.set_aside_stale():
        study = Study(request, overrides, compose, commands=commands)  # what follows from those trained again waits
    study.state()
    failures = run_cells(study)
    if failures:
        raise RunStopped("\n".join(["not complete:", *failures, "the others are kept; mend this and start again"]))
    report(study)


def report(study: Study) -> None:
    """Certificates, then the report by a command of analysis/, which reads records only."""
    certificates = study.certificates()
    write_json(study.path / "study.json", study.record(certificates))
    paths = {"runs": study.runs_dir, "out": study.path / "report", "record": study.path / "study.json"}
    analyse("report", "the runs are complete, the report is not", **paths)
    broken = [certificate.sentence() for certificate in certificates if certificate.verdict == NOT_MATCHED]
    if broken:
        raise RunStopped("\n".join(broken))


if __name__ == "__main__":
    main()
