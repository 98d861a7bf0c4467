"""Ending before time: a signal saves and asks for a requeue, a stall ends the process."""

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from ettin_core.data.corpus import Corpus
from ettin_core.foundation.distributed import ProcessGroup
from ettin_core.foundation.exits import EXIT_INTERRUPTED, EXIT_REQUEUE, StopRequested, status_of
from ettin_core.training import loop
from ettin_core.training.preemption import EXIT_STALLED, PreemptionSignal, Watchdog
from tests import processes
from tests.runs import final_state, tiny_run, train_tiny


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_a_signal_saves_and_the_run_continues_bitwise(
    number: signal.Signals, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tiny_run(corpus)
    undisturbed = final_state(train_tiny(run, tmp_path / "undisturbed", corpus))
    advance = loop.train_step

    def and_a_signal(*arguments: object) -> object:
        progress = advance(*arguments)  # type: ignore[arg-type]
        if progress.global_step == 6:  # no checkpoint is due here
            os.kill(os.getpid(), number)
        return progress

    monkeypatch.setattr(loop, "train_step", and_a_signal)
    with pytest.raises(StopRequested, match=f"{number.name} at step 6; saved") as stopped:
        train_tiny(run, tmp_path / "stopped", corpus)
    assert status_of(stopped.value) == (EXIT_INTERRUPTED if number == signal.SIGINT else EXIT_REQUEUE)
    monkeypatch.undo()
    assert (tmp_path / "stopped" / run.name / "checkpoints" / "step6" / "index.json").exists()
    assert final_state(train_tiny(run, tmp_path / "stopped", corpus)) == undisturbed


def test_a_second_ctrl_c_ends_at_once_and_an_ignored_one_stays_ignored() -> None:
    with PreemptionSignal(ProcessGroup()) as request:
        os.kill(os.getpid(), signal.SIGINT)
        assert request.agreed() and request.interrupted
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with PreemptionSignal(ProcessGroup()) as request:
            os.kill(os.getpid(), signal.SIGINT)
            assert not request.agreed()
    finally:
        signal.signal(signal.SIGINT, before)


def test_handlers_are_put_back_and_other_threads_are_left_alone() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)]
    with PreemptionSignal(ProcessGroup()) as request:
        assert not request.agreed()
        os.kill(os.getpid(), signal.SIGUSR1)
        assert request.agreed() and request.name == "SIGUSR1"
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)] == before
    failures: list[BaseException] = []

    def elsewhere() -> None:
        try:
            with PreemptionSignal(ProcessGroup()) as request:
                assert not request.agreed()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert not failures


def test_the_command_ends_with_the_requeue_code(tmp_path: Path) -> None:
    options = [
        "recipe=smoke",
        "recipe.tokens=3e6",
        "recipe.max_epochs=100",
        "data.documents=1500",
        "data.vocab_size=1024",
    ]
    process = processes.start(tmp_path, "experiments.train", *options)
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("runs/*/metrics.jsonl")) and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    process.wait(60)
    output = process.stderr
    assert process.returncode == EXIT_REQUEUE, output
    assert "SIGTERM at step" in output and "start the same command again" in output


def stalling() -> None:
    """Six lively steps, then none."""
    with Watchdog(0.6, "my-run") as dog:
        for _ in range(6):
            time.sleep(0.2)
            dog.step()
        print("lively", flush=True)
        time.sleep(60)


def test_a_stall_ends_the_process_with_its_reason(tmp_path: Path) -> None:
    done = processes.Process(tmp_path, stalling)
    done.wait(60)
    assert done.returncode == EXIT_STALLED and "lively" in done.stdout
    assert "my-run: no step for 0.6 seconds" in done.stderr and "time.sleep" in done.stderr or "line" in done.stderr
