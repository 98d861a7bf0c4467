"""Sweeps of real processes: killed and started again, with cells that fail, beside another process, by every launcher."""

import random
import signal
import sys
import time
from pathlib import Path

import pytest

from ettin_core.foundation.exits import EXIT_REQUEUE
from ettin_core.foundation.folders import locked
from ettin_core.records.folders import RunFolder, run_folders
from experiments.train import main
from tests import processes
from tests.runs import final_state

SMOKE = ["recipe=smoke", "recipe.tokens=8000", "data.documents=1500", "data.vocab_size=1024"]
OFTEN = ["checkpoint.every_steps=2", "placement.log_every=1"]  # so that a kill falls between two checkpoints
STEPS = list(range(1, 16))


def start(folder: Path, *arguments: str) -> processes.Process:
    """Start a sweep of trainings in a separate folder."""
    return processes.start(folder, "experiments.train", "-m", *SMOKE, *OFTEN, *arguments)


def ended(process: processes.Process) -> tuple[int, str, str]:
    """Exit status and output of a sweep."""
    return process.wait(280), process.stdout, process.stderr


def stop_at_random(
    folder: Path, number: signal.Signals, generator: random.Random, longest: float, *arguments: str
) -> int:
    """Start a sweep and signal it at a random moment after it has entered a cell that is not complete."""
    process = start(folder, *arguments)
    began = time.time()
    while process.poll() is None and not any(
        sign.stat().st_mtime > began for sign in folder.glob("runs/*/provenance.json")
    ):
        time.sleep(0.02)
    time.sleep(generator.uniform(0.0, longest))
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


def disturbed(folder: Path, signals: list[signal.Signals], longest: float, *arguments: str) -> dict[str, int]:
    """Stop a sweep again and again; returns when each complete run was completed, which a new start does not change."""
    generator = random.Random(len(signals))
    stamps: dict[str, int] = {}
    for number in signals:
        status = stop_at_random(folder, number, generator, longest, *arguments)
        assert status in (0, 2, 75 if number == signal.SIGTERM else -number)
        now = completed(folder)
        assert stamps.items() <= now.items()
        stamps = now
    return stamps


def completed(folder: Path) -> dict[str, int]:
    """When each complete run was completed."""
    return {name: (run.path / "COMPLETE").stat().st_mtime_ns for name, run in complete(folder).items()}


def check_like(folder: Path, calm: Path) -> None:
    """Both folders have the same complete runs, bitwise, and in `folder` every step of each is recorded once."""
    runs, expected = complete(folder), complete(calm)
    assert set(runs) == set(expected)
    for name, run in runs.items():
        assert final_state(run) == final_state(expected[name])
        assert [row.step for row in run.training()] == STEPS
        assert len(run.summary()["sessions"]) == 1


@pytest.mark.slow
def test_a_disturbed_sweep_with_failing_cells_ends_like_an_undisturbed_one_by_joblib(places: tuple[Path, str]) -> None:
    root, corpora = places
    calm, folder = root / "calm", root / "disturbed"
    calm.mkdir()
    folder.mkdir()
    cells = [corpora, "seed=1,2", "optimizer.learning_rate=1000.0,0.001"]
    status, _, err = ended(start(calm, "hydra/launcher=joblib", *cells))
    assert status == 2
    assert err.count("optimizer.learning_rate=1000.0: loss=nan") == 2
    assert {path.name for path in calm.iterdir()} == {"runs"}
    broken = next(run for run in run_folders(calm / "runs") if not run.complete)

    stamps = disturbed(folder, [signal.SIGKILL, signal.SIGTERM], 2.0, *cells)
    with locked(folder / "runs" / broken.name):
        status, out, err = ended(start(folder, *cells))
    assert status == EXIT_REQUEUE  # the other process trains it: not a mistake, the same command again finds it done
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 2, err
    assert sum(f"{broken.name} is being trained by another process" in line for line in errors) == 1
    assert sum("optimizer.learning_rate=1000.0: loss=nan" in line for line in errors) == 1
    assert "sweep: 2 of 4 cells are not done" in err.splitlines()[-1]
    assert "Traceback" not in err
    assert out.count("was complete already") == len(stamps)
    assert stamps.items() <= completed(folder).items()
    check_like(folder, calm)


@pytest.mark.slow
def test_twelve_cells_killed_three_times(places: tuple[Path, str]) -> None:
    root, corpora = places
    calm, folder = root / "calm12", root / "disturbed12"
    calm.mkdir()
    folder.mkdir()
    cells = [corpora, "member=encoder,decoder", "seed=1,2,3,4,5,6"]
    status, out, err = ended(start(calm, *cells))
    assert status == 0, err
    assert "sweep: 12 of 12 cells are done" in out
    stamps = disturbed(folder, [signal.SIGKILL] * 3, 6.0, *cells)
    status, out, err = ended(start(folder, *cells))
    assert status == 0, err
    assert "sweep: 12 of 12 cells are done" in out
    assert out.count("was complete already") == len(stamps)
    assert stamps.items() <= completed(folder).items()
    check_like(folder, calm)


def test_submitit_reports_a_failing_cell(places: tuple[Path, str]) -> None:
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
    "an unknown key": (["sed=1,2"], "sed=1: sed=1 is not a key of train; did you mean 'seed'"),
    "an unknown member": (["member=encoder,nope"], "member='nope' is not there"),
    "no member": (["member="], "member='' is not there"),
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
