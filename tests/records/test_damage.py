"""Damaged run folders and study files: every reader gives the right result or one line that names the file."""

import json
import shutil
from pathlib import Path

import pytest

from analysis.load import load
from ettin_core.data.corpus import Corpus
from ettin_core.evaluation.suite import evaluate, settings_of
from ettin_core.evaluation.suite_config import SuiteConfig
from ettin_core.foundation.errors import UserError
from ettin_core.planning.run_plan import open_run
from ettin_core.records.folders import RunFolder, run_folders
from experiments.campaign.damages import FILES, document, setting
from experiments.status import state
from tests.runs import tiny_run, train_tiny

SUITE = SuiteConfig(300, 4, 1, None, 4096, protocols=("heldout_clm", "agreement"))


@pytest.fixture(scope="module")
def whole(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with runs/<one measured run> and study.json."""
    root = tmp_path_factory.mktemp("whole")
    run = tiny_run(corpus, "decoder")
    folder = train_tiny(run, root / "runs", corpus)
    evaluate(run, folder, corpus, SUITE)
    certificate = {"pair": "p", "left": run.name, "right": run.name, "verdict": "matched", "differences": []}
    cell = {"name": "a", "run": run.name, "axes": {"seed": 0}, "parent": None}
    study = {"name": "demo", "claim": "", "runs": [run.name], "cells": [cell], "analysis": {}}
    study["certificates"] = [certificate | {"evidence": {}}]
    (root / "study.json").write_text(json.dumps(study))
    (folder.certificate_file).write_text(json.dumps(study["certificates"][0]))
    return root


def read_everything(root: Path, study: str | None = None) -> None:
    """What commands read of a run and a study."""
    (folder,) = [RunFolder(path.parent) for path in root.glob("runs/[!.]*/config.yaml")]
    open_run(str(folder.path))
    folder.summary()
    folder.training(), folder.timing()
    load(root / "runs", None if study is None else root / study)


@pytest.mark.parametrize("name", FILES)
def test_every_damage_is_one_line_that_names_the_file(name: str, whole: Path, tmp_path: Path) -> None:
    root = tmp_path / "copy"
    shutil.copytree(whole, root, ignore=shutil.ignore_patterns("checkpoints"))
    study = name if name == "study.json" else None
    read_everything(root, study)
    file = root / name if name == "study.json" else next(root.glob("runs/*/config.yaml")).parent / name
    before, wrong = file.read_bytes(), {}
    for damage, apply in FILES[name].items():
        apply(file)
        try:
            read_everything(root, study)
            wrong[damage] = "silent"
        except UserError as error:
            if str(file) not in str(error) or "\n" in str(error):
                wrong[damage] = f"unclear: {error}"
        except Exception as error:
            wrong[damage] = f"traceback: {error!r:.200}"
        file.write_bytes(before)
    assert not wrong, f"{len(wrong)} of {len(FILES[name])}: " + "\n".join(
        f"{key}: {outcome}" for key, outcome in wrong.items()
    )


def test_a_run_is_known_by_what_its_folder_holds(whole: Path, tmp_path: Path, corpus: Corpus) -> None:
    root = tmp_path / "copy"
    shutil.copytree(whole, root)
    (folder,) = run_folders(root / "runs")
    name = folder.name
    folder.path.rename(root / "runs" / "my best run")
    (renamed,) = run_folders(root / "runs")
    expected = load(whole / "runs", whole / "study.json")
    loaded = load(root / "runs", root / "study.json")
    assert renamed.name == name and loaded.measurements.equals(expected.measurements) and not loaded.missing
    assert len(evaluate(open_run(str(renamed.path))[1], renamed, corpus, SUITE)) == len(renamed.measurements())
    shutil.copytree(renamed.path, root / "runs" / "copy of it")
    with pytest.raises(ValueError, match=f"runs='{name}' is in .*; move one of them elsewhere"):
        load(root / "runs", root / "study.json")


def test_what_a_study_measured_and_is_gone_is_named(whole: Path, tmp_path: Path) -> None:
    root = tmp_path / "copy"
    shutil.copytree(whole, root, ignore=shutil.ignore_patterns("checkpoints"))
    (folder,) = run_folders(root / "runs")
    keys = settings_of(SUITE, open_run(str(folder.path))[1].read_as)
    document(setting(suite={folder.name: keys}))(root / "study.json")
    assert load(root / "runs", root / "study.json").missing == []
    shutil.rmtree(folder.path / "evaluations" / "agreement@1")
    assert load(root / "runs", root / "study.json").missing == [f"{folder.name}: agreement@1"]
    shutil.rmtree(folder.path / "evaluations")
    alone = load(root / "runs")  # nothing says that there were measurements: its training is reported
    assert alone.missing == [] and alone.analysis["kind"] == "sweep" and not alone.training.empty


def test_a_damaged_last_record_is_not_complete_and_is_written_anew(whole: Path, tmp_path: Path, corpus: Corpus) -> None:
    root = tmp_path / "copy"
    shutil.copytree(whole, root)
    (folder,) = run_folders(root / "runs")
    summary = folder.summary()
    (folder.path / "COMPLETE").write_text("{")
    assert not folder.complete and folder.damage and state(folder).startswith("damaged: file=")
    train_tiny(tiny_run(corpus, "decoder"), root / "runs", corpus)
    assert folder.complete and folder.summary()["final_weights"] == summary["final_weights"]
