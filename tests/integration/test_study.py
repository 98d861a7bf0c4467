"""A whole study in a tiny setting: killed and started again it ends with the numbers of an undisturbed one."""

import re
import shutil
import signal
import socket
import time
from pathlib import Path

import pytest

from ettin_core.records.folders import run_folders
from tests import processes
from tests.evaluation.small_sets import SETS


def start(folder: Path, *options: str) -> processes.Process:
    """Start a smoke study of few steps in a folder."""
    return processes.start(folder, "experiments.study", "study=smoke", "recipe.tokens=8000", "export=false", *options)


def finished(folder: Path, *options: str) -> str:
    """Run the smoke study to its end and return what it printed."""
    study = start(folder, *options)
    assert study.wait() == 0, study.stderr[-3000:]
    return study.stdout


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a study that nobody touched."""
    folder = tmp_path_factory.mktemp("undisturbed")
    (folder / "printed").write_text(finished(folder, "jobs=1"))
    return folder


def numbers(folder: Path) -> dict[str, tuple]:
    """Weights, training rows and measurements by run: everything but the wall clock."""
    found = {}
    for run in run_folders(folder / "runs"):
        measured = [(row.protocol, row.task, row.metric, row.value, row.n) for row in run.measurements()]
        found[run.name] = (run.summary()["final_weights"], run.metrics_file.read_text(), measured)
    return found


def test_it_ends_with_verdict_table_and_paths(undisturbed: Path) -> None:
    printed = (undisturbed / "printed").read_text()
    assert "encoder_decoder: matched except: member, direction, objective.name" in printed
    verdict = "conversion: matched except: member, direction, objective, recipe, seeds, parent"
    assert printed.count(f"{verdict} [") == 2 and f"{verdict} (2 comparisons)" in printed
    for word in ("encoder", "decoder", "enc-from-dec", "dec-from-enc", "Facts", "left to right", "Pronouns"):
        assert word in printed
    page = next(line for line in printed.splitlines() if line.startswith("page ")).split()[-1]
    assert Path(page).exists()
    assert (Path(page).parent / "loss.pdf").exists()


def test_conversions_start_from_their_parents(undisturbed: Path) -> None:
    summaries = {run.summary()["member"]: run.summary() for run in run_folders(undisturbed / "runs")}
    for child, parent in (("enc-from-dec", "decoder"), ("dec-from-enc", "encoder")):
        assert summaries[child]["initial_weights"] == summaries[parent]["final_weights"]
        assert summaries[child]["parent"] == summaries[parent]["run"]


def test_again_it_repeats_nothing(undisturbed: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in undisturbed.glob("runs/*/COMPLETE")}
    before |= {path: path.stat().st_mtime_ns for path in undisturbed.glob("runs/*/evaluations/*/measurements.jsonl")}
    finished(undisturbed, "jobs=1")
    assert len(before) > 20
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_killed_and_started_again_ends_with_the_same_numbers(undisturbed: Path, tmp_path: Path) -> None:
    """With one worker and with two; each worker imports torch, so the kills between have one."""
    moments = {
        "runs/*/checkpoints/step0": (signal.SIGKILL, "jobs=1"),
        "runs/*/COMPLETE": (signal.SIGINT, "jobs=2"),
        "runs/*/evaluations/*/measurements.jsonl": (signal.SIGKILL, "jobs=1"),
    }
    for sign, (how, jobs) in moments.items():
        study = start(tmp_path, jobs)
        while not list(tmp_path.glob(sign)) and study.poll() is None:
            time.sleep(0.01)
        study.send_signal(how)
        assert study.wait() == (130 if how == signal.SIGINT else -how)
    finished(tmp_path, "jobs=1")
    assert numbers(tmp_path) == numbers(undisturbed)


def test_a_failing_cell_leaves_the_others_and_a_non_zero_status(undisturbed: Path, tmp_path: Path) -> None:
    """What is measured of every cell fails, and the conversions are trained all the same."""
    shutil.copytree(undisturbed / "corpora", tmp_path / "corpora")
    for run in run_folders(undisturbed / "runs"):
        if run.summary()["parent"] is None:
            shutil.copytree(run.path, tmp_path / "runs" / run.name)
    for name in SETS:
        (tmp_path / "sets" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "sets" / name).write_bytes(b"this is not gzip")
    study = start(tmp_path, f"suite.eval_data={tmp_path / 'sets'}", "jobs=1")
    assert study.wait() == 2
    for member in ("encoder", "decoder", "enc-from-dec", "dec-from-enc"):
        assert re.search(rf"  evaluate {member}: UserError: .*cut short or damaged", study.stderr)
    assert all(run.complete for run in run_folders(tmp_path / "runs"))
    assert len(run_folders(tmp_path / "runs")) == 4


def test_a_cell_that_fails_by_itself_waits_until_it_is_to_be_retried(tmp_path: Path) -> None:
    grid = [
        "study=grid",
        "recipe=smoke",
        "recipe.tokens=8000",
        "suite=smoke",
        "data.documents=1500",
        "data.vocab_size=1024",
        "+knobs={rate:[optimizer.learning_rate]}",
        "+axes={rate:[1e-3,1e30],member:[encoder]}",
        "+contracts.pair.may_differ.optimizer='what is varied'",
        "jobs=1",
    ]

    def run(module: str, *options: str) -> str:
        done = processes.run(tmp_path, module, *grid, *options)
        assert done.returncode == (0 if module == "experiments.status" else 2), done.stderr[-2000:]
        return done.stdout + done.stderr

    assert re.search(r"  train rate=1e\+30 encoder: RunStopped: loss=nan", run("experiments.study"))
    printed = run("experiments.status")
    assert re.search(r"rate=0.001 encoder +complete: ", printed)
    assert re.search(r"rate=1e\+30 encoder +failed: NonFiniteError: ", printed) and "1 complete, 1 failed" in printed
    again = run("experiments.study")
    assert "(before; retry=true tries it again)" in again and "tok/s" not in again, "nothing is trained"
    assert "(before;" not in run("experiments.study", "retry=true")


def test_what_cannot_be_converted_is_refused_before_training(tmp_path: Path) -> None:
    study = start(tmp_path, "conversion.phases.conversion.context=1000000")
    assert study.wait() == 2
    assert "error: " in study.stderr
    assert not (tmp_path / "runs").exists()


def test_evaluations_never_touch_the_checkpoint(undisturbed: Path) -> None:
    runs = run_folders(undisturbed / "runs")
    weights = {run.name: {row.provenance["weights"] for row in run.measurements()} for run in runs}
    assert weights == {run.name: {run.summary()["final_weights"]} for run in runs} and len(weights) == 4


def test_what_it_writes_names_no_place_and_no_machine(undisturbed: Path) -> None:
    """Records, reports and corpora can be given away as they are."""
    names = [str(undisturbed).encode(), str(Path.home()).encode(), f'"{socket.gethostname()}"'.encode()]
    files = [
        path for top in ("runs", "corpora", "studies") for path in undisturbed.glob(f"{top}/**/*") if path.is_file()
    ]
    assert len(files) > 100
    assert [path for path in files if any(name in path.read_bytes() for name in names)] == []
