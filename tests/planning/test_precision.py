"""precision=auto: measured once, the same for all members and cells, and a concrete value in every configuration."""

from dataclasses import replace
from pathlib import Path

import pytest
from hydra import initialize_config_dir

from ettin_core.data.corpus import Corpus
from ettin_core.foundation.errors import UserError
from ettin_core.foundation.storage import read_json
from ettin_core.planning import precision
from ettin_core.records.precision_choice import FILE, PrecisionChoice, find_choice, keep_choice
from ettin_core.requests.compose import composed, composer
from ettin_core.requests.train import TrainRequest
from ettin_core.studies.grid import StudyRequest
from ettin_core.studies.study import Study
from ettin_core.training.config import PRECISIONS, PlacementConfig
from experiments.cli.entry import CONFIGURATIONS
from tests.runs import PLACEMENT, tiny_run, train_tiny

BF16 = PrecisionChoice("bf16", "because", "a processor", {"fp32": 2.0, "bf16": 1.0}, {"fp32": 1e11, "bf16": 2e11})


@pytest.mark.parametrize(("seconds", "chosen"), [(1.0, "fp32"), (0.95, "fp32"), (0.9, "bf16"), (1.3, "fp32")])
def test_bf16_must_gain_a_tenth(seconds: float, chosen: str) -> None:
    choice = precision.judged({"fp32": 1.0, "bf16": seconds}, {"fp32": 9.3e10, "bf16": 2.1e11}, "a processor")
    assert choice.precision == chosen
    assert f"{1 / seconds:.2f} times as fast as in fp32 on a processor" in choice.reason
    assert "93 GFLOP/s in fp32 and 210 GFLOP/s in bf16" in choice.reason


def test_a_choice_is_measured_once_and_kept(corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "PROBE_SECONDS", 0.0)
    run, runs = tiny_run(corpus), str(tmp_path / "runs")
    assert precision.choose(run, PLACEMENT, runs, keep=False) in PRECISIONS
    assert not (tmp_path / "runs").exists()
    first = precision.choose(run, PLACEMENT, runs)
    kept = find_choice(tmp_path / "runs", "tiny", "cpu")
    assert kept is not None and kept.precision == first and min(kept.step_seconds.values()) > 0
    content = (tmp_path / "runs" / FILE).read_bytes()
    assert precision.choose(tiny_run(corpus, "decoder"), PLACEMENT, runs) == first
    assert (tmp_path / "runs" / FILE).read_bytes() == content
    precision.choose(replace(run, size="other"), PLACEMENT, runs)
    assert set(read_json(tmp_path / "runs" / FILE)) == {"tiny on cpu", "other on cpu"}


def test_several_machines_are_asked_for_a_precision(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "16")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "8")
    with pytest.raises(UserError, match="precision='auto' is chosen on one machine"):
        precision.choose(tiny_run(corpus), PLACEMENT, str(tmp_path))


def test_members_get_one_choice_and_the_names_of_its_value(tmp_path: Path) -> None:
    keep_choice(tmp_path, "nano", "cpu", BF16)
    with initialize_config_dir(str(CONFIGURATIONS), version_base="1.3"):
        for member in ("encoder", "decoder"):
            overrides = [f"member={member}", f"runs_dir={tmp_path}"]
            automatic = composed("train", TrainRequest, [*overrides, "precision=auto"]).settled()
            stated = composed("train", TrainRequest, [*overrides, "precision=bf16"]).settled()
            assert automatic == stated and automatic.planned().name == stated.planned().name


def study(runs: Path, value: str) -> Study:
    """The smoke study, looked at."""
    overrides = ["study=smoke", f"precision={value}", f"runs_dir={runs}", f"corpora_dir={runs}"]
    with initialize_config_dir(str(CONFIGURATIONS), version_base="1.3"):
        request = composed("study", StudyRequest, overrides)
        return Study(request, overrides, composer("study", StudyRequest), prepares=False)


def test_all_cells_of_a_study_get_one_choice(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="precision='auto' was not chosen yet for nano"):
        study(tmp_path, "auto")
    keep_choice(tmp_path, "nano", "cpu", BF16)
    automatic, stated = study(tmp_path, "auto"), study(tmp_path, "bf16")
    assert automatic.runs == stated.runs and {run.precision for run in automatic.runs.values()} == {"bf16"}
    assert {cell.request.precision for cell in automatic.cells.values()} == {"bf16"}


def test_the_record_says_why(corpus: Corpus, tmp_path: Path) -> None:
    keep_choice(tmp_path, "tiny", "cpu", BF16)
    for value in PRECISIONS:
        folder = train_tiny(tiny_run(corpus, precision=value), tmp_path, corpus, stop_after=1)
        record = read_json(folder.path / "provenance.json").get("precision")
        assert record == (None if value == "fp32" else vars(BF16))


def test_a_damaged_choice_is_reported(corpus: Corpus, tmp_path: Path) -> None:
    (tmp_path / FILE).write_text('{"tiny on auto": {"precision": 3}}')
    with pytest.raises(UserError):
        precision.choose(tiny_run(corpus), PlacementConfig(device="auto"), str(tmp_path))
