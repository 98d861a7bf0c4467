"""Runs and records of other code are named, kept by default, and repeated on request; unaffected ones are not named."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from analysis.stale import stale_lines
from ettin_core.data.corpus import Corpus
from ettin_core.evaluation.made_with import FILE
from ettin_core.evaluation.registry import PROTOCOLS
from ettin_core.evaluation.suite_config import SuiteConfig
from ettin_core.foundation.errors import UserError
from ettin_core.foundation.manual import CONFIGURATIONS
from ettin_core.foundation.storage import read_json, write_json
from ettin_core.foundation.strict_config import build
from ettin_core.records.folders import RunFolder, run_folders
from ettin_core.requests.compose import composer, to_plain
from ettin_core.studies.evaluate_run import evaluate_run
from ettin_core.studies.grid import StudyRequest
from ettin_core.studies.stale import ASIDE, RETRAIN, check_choice, record_changes, run_changes
from ettin_core.studies.study import Study
from ettin_core.studies.train_run import trained
from ettin_core.training.config import RunConfig
from experiments.evaluate import print_stale
from tests.runs import PLACEMENT, edit, tiny_run, train_tiny

SUITE = SuiteConfig(300, 4, 5, None, None, protocols=("pronouns", "heldout_mlm"))


def short(corpus: Corpus) -> RunConfig:
    """A run of a few steps."""
    run = tiny_run(corpus)
    return replace(run, recipe=replace(run.recipe, tokens=1600))


def test_a_complete_run_of_other_code_is_named_and_trained_again_on_request(
    corpus: Corpus, tmp_path: Path, code: Path
) -> None:
    run, runs = short(corpus), str(tmp_path / "runs")
    where = f"run {runs}/{run.name}"
    assert trained(run, corpus, PLACEMENT, runs) == where
    edit(code, "objectives.kinds.clm", "LATER = 1")
    edit(code, "objectives.kinds.mlm", "# a comment")
    edit(code, "evaluation.scoring", "LATER = 1")
    for stale in ("keep", RETRAIN):
        assert trained(run, corpus, PLACEMENT, runs, stale) == f"{where} was complete already"
    edit(code, "objectives.kinds.mlm", "LATER = 1")
    first = RunFolder(Path(runs) / run.name).summary()
    kept = trained(run, corpus, PLACEMENT, runs)
    assert kept.splitlines()[0] == f"{where} was complete already"
    assert "trained by other code, objectives.kinds.mlm changed since (stale=retrain" in kept
    assert RunFolder(Path(runs) / run.name).summary() == first
    assert trained(run, corpus, PLACEMENT, runs, RETRAIN) == where
    again, aside = RunFolder(Path(runs) / run.name), RunFolder(Path(runs) / ASIDE / f"{run.name}-1")
    assert run_changes(run, again) == [] and aside.summary() == first
    assert [folder.name for folder in run_folders(Path(runs))] == [run.name]
    edit(code, "optim.schedules", "LATER = 1")
    assert trained(run, corpus, PLACEMENT, runs, RETRAIN) == where
    assert (Path(runs) / ASIDE / f"{run.name}-2").is_dir(), "nothing that was set aside is lost"


def test_a_run_without_its_code_on_record_is_reported(corpus: Corpus, tmp_path: Path) -> None:
    run = short(corpus)
    folder = train_tiny(run, tmp_path, corpus)
    session = json.loads(folder.summary()["sessions"][0])
    old = (
        session["placement"]
        | session["libraries"]
        | {"code": "a" * 64, "device": "cpu", "libraries": session["libraries"]}
    )
    write_json(folder.path / "COMPLETE", folder.summary() | {"sessions": [json.dumps(old)]})
    assert run_changes(run, folder) is None
    assert "before code was recorded" in trained(run, corpus, PLACEMENT, str(tmp_path))


def test_records_of_other_code_are_named_and_measured_again_on_request(
    corpus: Corpus, corpora_dir: Path, tmp_path: Path, code: Path, capsys: pytest.CaptureFixture
) -> None:
    run = short(corpus)
    folder = train_tiny(run, tmp_path, corpus)

    def measured(remeasure: bool = False) -> dict[str, int]:
        evaluate_run(folder.path, corpora_dir, SUITE, "cpu", 1, remeasure=remeasure)
        files = folder.path.glob("evaluations/*@*/measurements.jsonl")
        return {file.parent.name.partition("@")[0]: file.stat().st_mtime_ns for file in files}

    before = measured()
    edit(code, "evaluation.bias.stereoset", "LATER = 1")  # of another protocol
    edit(code, "training.step", "LATER = 1")
    assert record_changes(run, folder, SUITE) == {} and measured(remeasure=True) == before
    edit(code, "objectives.kinds.mntp", "LATER = 1")  # by which held-out text is masked
    edit(code, "evaluation.pronouns", "LATER = 1")
    changes = {"heldout_mlm": ["objectives.kinds.mntp"], "pronouns": ["evaluation.pronouns"]}
    assert record_changes(run, folder, SUITE) == changes
    assert measured() == before
    print_stale(folder, None, PROTOCOLS)
    printed = capsys.readouterr().out
    assert "heldout_mlm: measured by other code, objectives.kinds.mntp changed since (stale=remeasure" in printed
    after = measured(remeasure=True)
    assert all(after[name] > before[name] for name in before) and record_changes(run, folder, SUITE) == {}
    libraries = folder.evaluation_folder("pronouns", 1) / FILE
    write_json(libraries, read_json(libraries) | {"libraries": {"torch": "1.0"}})
    (folder.evaluation_folder("heldout_mlm", 2) / FILE).unlink()
    changes = record_changes(run, folder, SUITE)
    assert changes["heldout_mlm"] is None and str(changes["pronouns"]).startswith("['torch 1.0 (now ")
    assert measured(remeasure=True).keys() == before.keys() and record_changes(run, folder, SUITE) == {}


def test_a_study_names_its_stale_cells(corpora_dir: Path, tmp_path: Path, code: Path) -> None:
    overrides = [
        *("study=smoke", "~conversions", "+conversions={}", "axes={member:[encoder]}", "jobs=1", "export=false"),
        *("recipe.tokens=4e3", f"runs_dir={tmp_path}/runs", f"corpora_dir={corpora_dir}", "suite.protocols=[pronouns]"),
    ]
    with initialize_config_dir(str(CONFIGURATIONS), version_base="1.3"):
        request = build(StudyRequest, to_plain(compose("study", overrides)))
        study = Study(request, overrides, composer("study", StudyRequest))
        (name,) = study.cells
        job = study.training_job(name)
        job.function(*job.arguments)
        evaluate = study.followers(name)[0]
        evaluate.function(*evaluate.arguments)
        assert study.stale() == {} and stale_lines(_cells(study)) == [] and not study.set_aside_stale()
        edit(code, "objectives.kinds.mlm", "LATER = 1")
        edit(code, "evaluation.pronouns", "LATER = 1")
        assert study.stale() == {
            name: {"run": ["objectives.kinds.mlm"], "records": {"pronouns": ["evaluation.pronouns"]}}
        }
        lines = stale_lines(_cells(study))
        assert len(lines) == 2 and f"cell {name} was trained by other code (objectives.kinds.mlm" in lines[0]
        again = replace(request, stale="remeasure")
        evaluate = Study(again, overrides, composer("study", StudyRequest)).followers(name)[0]
        evaluate.function(*evaluate.arguments)
        assert study.stale() == {name: {"run": ["objectives.kinds.mlm"], "records": {}}}
        assert study.set_aside_stale() and not study.folder(name).complete


def _cells(study: Study) -> dict[str, dict]:
    return {cell["name"]: cell for cell in study.record([])["cells"]}


def test_what_is_not_recorded_is_said_once() -> None:
    cells = {f"cell {number}": {"stale": {"run": None, "records": {"pronouns": None}}} for number in range(3)}
    assert stale_lines(cells) == ["Stale or not: of 3 runs and 3 protocols the code that made them is not recorded."]
    assert stale_lines({"old": {}, "fresh": {"stale": None}}) == []


def test_another_choice_is_refused() -> None:
    check_choice("retrain", "retrain")
    with pytest.raises(UserError, match="stale='remeasure' is not a choice; use one of keep, retrain"):
        check_choice("remeasure", "retrain")
