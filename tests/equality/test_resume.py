"""Exact resume: an interrupted run ends with the same bytes as an undisturbed one (invariant 6)."""

import contextlib
import os
import random
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from ettin_core.checkpoints import native
from ettin_core.data.corpus import Corpus
from ettin_core.records.folders import RunFolder
from tests.processes import Process
from tests.runs import MEMBERS, PLACEMENT, final_state, tiny_run, train_tiny


@pytest.mark.parametrize("member", MEMBERS)
@pytest.mark.parametrize("stop", [5, 14])
def test_stopped_and_continued_equals_undisturbed(member: str, stop: int, corpus: Corpus, tmp_path: Path) -> None:
    run = tiny_run(corpus, member)
    straight = train_tiny(run, tmp_path / "straight", corpus)
    train_tiny(run, tmp_path / "resumed", corpus, stop_after=stop)
    resumed = train_tiny(run, tmp_path / "resumed", corpus)
    assert final_state(resumed) == final_state(straight)


@pytest.mark.parametrize("stop", [4, 9, 12])
def test_stopped_while_the_batch_grows(stop: int, corpus: Corpus, tmp_path: Path) -> None:
    run = tiny_run(corpus)
    phases = {name: replace(phase, batch_warmup_share=0.4) for name, phase in run.recipe.phases.items()}
    run = replace(run, recipe=replace(run.recipe, phases=phases))
    assert [phase.batches.warmup_steps for phase in run.phases] == [9, 3]
    straight = train_tiny(run, tmp_path / "straight", corpus)
    train_tiny(run, tmp_path / "resumed", corpus, stop_after=stop)
    assert final_state(train_tiny(run, tmp_path / "resumed", corpus)) == final_state(straight)
    assert straight.summary()["tokens"] == run.tokens


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("stop", [5, 14])
def test_batches_made_ahead_change_nothing(stop: int, workers: int, corpus: Corpus, tmp_path: Path) -> None:
    """Not in a run without a break, and not when it is continued with another number of workers."""
    others = set(psutil.Process().children())  # of earlier tests in this process
    run, fed = tiny_run(corpus), replace(PLACEMENT, workers=workers)
    straight = final_state(train_tiny(run, tmp_path / "straight", corpus))
    assert final_state(train_tiny(run, tmp_path / "fed", corpus, placement=fed)) == straight
    train_tiny(run, tmp_path / "resumed", corpus, stop_after=stop, placement=fed)
    assert set(psutil.Process().children()) <= others, "stopping leaves no worker"
    other = replace(PLACEMENT, workers=2 - workers)
    assert final_state(train_tiny(run, tmp_path / "resumed", corpus, placement=other)) == straight


@pytest.mark.parametrize(("member", "workers"), [("encoder", 0), ("decoder", 2)])
def test_killed_at_random_moments_equals_undisturbed(member: str, workers: int, corpus: Corpus, tmp_path: Path) -> None:
    run = tiny_run(corpus, member)
    straight = train_tiny(run, tmp_path / "straight", corpus)
    folder = RunFolder(tmp_path / "killed" / run.name)
    chance = random.Random(member)
    for _ in range(3):
        child = start_child(corpus, tmp_path / "killed", member, workers)
        wait_for(lambda: native.ordered(folder.checkpoints) != [], child)
        time.sleep(chance.uniform(0.0, 0.4))
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
    child = start_child(corpus, tmp_path / "killed", member, workers)
    assert child.wait(timeout=120) == 0
    assert final_state(folder) == final_state(straight)


def test_a_killed_run_can_be_continued_at_once(corpus: Corpus, tmp_path: Path) -> None:
    """While workers that nobody killed are still there for a few seconds."""
    run = tiny_run(corpus)
    straight = train_tiny(run, tmp_path / "straight", corpus)
    folder = RunFolder(tmp_path / "killed" / run.name)
    child = start_child(corpus, tmp_path / "killed", "encoder", workers=2)
    wait_for(lambda: len(native.ordered(folder.checkpoints)) > 1, child)
    workers = psutil.Process(child.pid).children()
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert len(workers) == 2 and all(worker.is_running() for worker in workers)
    assert final_state(train_tiny(run, tmp_path / "killed", corpus)) == final_state(straight)
    with contextlib.suppress(ProcessLookupError):  # they may have ended meanwhile
        os.killpg(child.pid, signal.SIGKILL)


def start_child(corpus: Corpus, root: Path, member: str, workers: int = 0) -> Process:
    """A process that trains the tiny run."""
    run, placement = tiny_run(corpus, member), replace(PLACEMENT, workers=workers)
    return Process(root.parent, lambda: train_tiny(run, root, corpus, placement=placement))


def wait_for(condition: Callable[[], bool], child: Process) -> None:
    """Wait until the condition holds or the child has ended."""
    deadline = time.monotonic() + 60
    while not condition() and child.poll() is None:
        assert time.monotonic() < deadline, "the child wrote no checkpoint"
        time.sleep(0.01)


def test_a_damaged_checkpoint_is_passed_over(corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    run = tiny_run(corpus)
    straight = train_tiny(run, tmp_path / "straight", corpus)
    folder = train_tiny(run, tmp_path / "damaged", corpus, stop_after=9)
    newest = native.ordered(folder.checkpoints)[-1]
    content = bytearray((newest / "optimizer.safetensors").read_bytes())
    content[-7] ^= 1
    (newest / "optimizer.safetensors").write_bytes(bytes(content))
    resumed = train_tiny(run, tmp_path / "damaged", corpus)
    assert f"{newest}/optimizer.safetensors" in capsys.readouterr().out
    assert final_state(resumed) == final_state(straight)


def test_a_complete_run_is_left_alone(corpus: Corpus, tmp_path: Path) -> None:
    run = tiny_run(corpus)
    folder = train_tiny(run, tmp_path, corpus)
    before = {path: path.stat().st_mtime_ns for path in folder.path.rglob("*")}
    train_tiny(run, tmp_path, corpus)
    assert {path: path.stat().st_mtime_ns for path in folder.path.rglob("*")} == before


def test_a_checkpoint_of_another_run_is_refused(corpus: Corpus, tmp_path: Path) -> None:
    run, other = tiny_run(corpus), tiny_run(corpus, "decoder")
    folder = train_tiny(run, tmp_path, corpus, stop_after=5)
    folder.path.rename(tmp_path / other.name)
    with pytest.raises(ValueError, match=f"belongs to {run.name}, not to {other.name}"):
        train_tiny(other, tmp_path, corpus)


def test_two_processes_cannot_write_one_run(corpus: Corpus, tmp_path: Path) -> None:
    run = tiny_run(corpus)
    child = start_child(corpus, tmp_path, "encoder")
    folder = RunFolder(tmp_path / run.name)
    wait_for(lambda: (folder.path / ".lock").exists(), child)
    if child.poll() is None:
        with pytest.raises(ValueError, match="is being written by another process"):
            train_tiny(run, tmp_path, corpus)
    assert child.wait(timeout=120) == 0
    assert folder.complete
