"""Sweeps of real processes: killed and started again, with cells that fail, beside another process, by every launcher."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ettin_core.foundation.storage import locked
from ettin_core.records.folders import RunFolder, run_folders
from experiments.train import main
from tests.runs import final_state

ROOT = Path(__file__).resolve().parents[2]
SMOKE = ["recipe=smoke", "recipe.tokens=8000", "data.documents=1500", "data.vocab_size=1024"]
OFTEN = ["checkpoint.every_steps=2", "placement.log_every=1"]  # so that a kill falls between two checkpoints
STEPS = list(range(1, 16))


def start(folder: Path, *arguments: str) -> "subprocess.Popen[str]":
    """Start a sweep of trainings in a folder of its own."""
    command = [sys.executable, "-m", "experiments.train", "-m", *SMOKE, *OFTEN, *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def ended(process: "subprocess.Popen[str]") -> tuple[int, str, str]:
    """Exit status and output of a sweep."""
    out, err = process.communicate(timeout=280)
    return process.returncode, out, err


def stop_at_random(folder: Path, number: signal.Signals, generator: random.Random, *arguments: str) -> int:
    """Start a sweep and signal it at a random moment after it has entered a cell that is not complete."""
    process = start(folder, *arguments)
    began = time.time()
    while process.poll() is None and not any(
        sign.stat().st_mtime > began for sign in folder.glob("runs/*/provenance.json")
    ):
        time.sleep(0.02)
    time.sleep(generator.uniform(0.0, 2.0))
    process.send_signal(number)
    return ended(process)[0]


def complete(folder: Path) -> dict[str, RunFolder]:
    """The complete runs of a folder by name."""
    return {run.name: run for run in run_folders(folder / "runs") if run.complete}


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder of folders, and the override that gives all of them one corpus."""
    folder = tmp_path_factory.mktemp("sweeps")
    return folder, f"corpora_dir={folder / 'corpora'}"


def check_disturbed(places: tuple[Path, str], cells: list[str], signals: list[signal.Signals], seed: int) -> None:
    """A sweep that is stopped again and again ends with the same runs as one by joblib that was not, none trained twice."""
    root, corpora = places
    calm, disturbed = root / f"calm{seed}", root / f"disturbed{seed}"
    for folder in (calm, disturbed):
        folder.mkdir()
    status, out, err = ended(start(calm, corpora, "hydra/launcher=joblib", *cells))
    assert status == 0, err
    expected = complete(calm)
    assert f"sweep: {len(expected)} of {len(expected)} cells are done" in out
    assert {path.name for path in calm.iterdir()} == {"runs"}
    generator = random.Random(seed)
    stamps: dict[str, int] = {}
    for number in signals:
        status = stop_at_random(disturbed, number, generator, corpora, *cells)
        assert status in (0, 75 if number == signal.SIGTERM else -number)
        now = {name: (run.path / "COMPLETE").stat().st_mtime_ns for name, run in complete(disturbed).items()}
        assert stamps.items() <= now.items()
        stamps = now
    status, out, err = ended(start(disturbed, corpora, *cells))
    assert status == 0, err
    assert out.count("was complete already") == len(stamps)
    found = complete(disturbed)
    assert set(found) == set(expected)
    for name, run in found.items():
        assert final_state(run) == final_state(expected[name])
        assert [row.step for row in run.training()] == STEPS
        assert len(run.summary()["sessions"]) == 1
        assert stamps.get(name, 0) in (0, (run.path / "COMPLETE").stat().st_mtime_ns)


def test_a_disturbed_sweep_ends_like_an_undisturbed_one(places: tuple[Path, str]) -> None:
    check_disturbed(places, ["member=encoder", "seed=1,2,3"], [signal.SIGKILL, signal.SIGTERM], seed=1)


@pytest.mark.slow
def test_twelve_cells_killed_three_times(places: tuple[Path, str]) -> None:
    check_disturbed(places, ["member=encoder,decoder", "seed=1,2,3,4,5,6"], [signal.SIGKILL] * 3, seed=2)


def test_a_failing_cell_and_another_process_do_not_stop_the_others(places: tuple[Path, str]) -> None:
    root, corpora = places
    folder = root / "failing"
    folder.mkdir()
    cells = [corpora, "optimizer.learning_rate=1000.0,0.001"]
    status, out, err = ended(start(folder, *cells))
    assert status == 2
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 2
    assert "optimizer.learning_rate=1000.0: loss=nan" in errors[0]
    assert "sweep: 1 of 2 cells are not done" in errors[1]
    assert "Traceback" not in err
    assert len(complete(folder)) == 1
    [broken] = [run for run in run_folders(folder / "runs") if not run.complete]
    with locked(broken.path):
        status, out, err = ended(start(folder, *cells))
    assert status == 2
    assert f"{broken.name} is being trained by another process" in err
    assert out.count("was complete already") == 1


def test_submitit_tells_of_a_failing_cell(places: tuple[Path, str]) -> None:
    root, corpora = places
    folder = root / "submitit"
    folder.mkdir()
    cells = [corpora, "optimizer.learning_rate=1000.0,0.001", "hydra/launcher=submitit_local"]
    status, _, err = ended(start(folder, *cells))
    assert status == 2, err
    assert err.count("optimizer.learning_rate=1000.0: loss=nan") == 1
    assert len(complete(folder)) == 1
    assert {path.name for path in folder.iterdir()} == {"runs"}


BAD_SWEEPS = {
    "an unknown key": (["sed=1,2"], "sed=1: Could not override 'sed'"),
    "an unknown member": (["member=encoder,nope"], "Could not find 'member/nope'"),
    "no member": (["member="], "Could not find 'member/'"),
    "no seed": (["seed=[]"], "seed=[] has type list"),
    "an empty range": (["seed=range(0)"], "sweep='seed=range(0)' has no value"),
    "half a list": (["seed=1,"], "seed=1,: mismatched input"),
    "a value of the wrong type": (["size.num_layers=4,five"], "size.num_layers='five' has type str"),
}


@pytest.mark.parametrize("case", BAD_SWEEPS)
def test_a_bad_sweep_is_one_line_before_any_cell(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, message = BAD_SWEEPS[case]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    monkeypatch.setattr(sys, "argv", ["train", "-m", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    [line] = capsys.readouterr().err.splitlines()
    assert message in line
    assert not list(tmp_path.iterdir())
