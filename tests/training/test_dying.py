"""A process that raises, dies or stalls ends the whole job with its reason, and the run continues from its last checkpoint."""

import multiprocessing
import os
import socket
import time
from functools import partial
from pathlib import Path

import pytest
import torch.distributed as dist
from torch.distributed.run import main as torchrun
from torch.multiprocessing.spawn import ProcessContext

from ettin_core.checkpoints import native
from ettin_core.data.corpus import Corpus
from ettin_core.foundation.distributed import join
from ettin_core.records.folders import RunFolder
from tests.processes import Process
from tests.runs import tiny_run, train_tiny

CHILD = """
import os, signal, sys, time, traceback
from dataclasses import replace
from pathlib import Path
from torch.distributed.elastic.multiprocessing.errors import record
from ettin_core.data.corpus import Corpus
from ettin_core.training.preemption import Watchdog
from ettin_core.studies.train_run import train_run
from tests.processes import Process
from tests.runs import PLACEMENT, tiny_run

fault, parallel = sys.argv[3:]
steps, noted = 0, Watchdog.step

def step(watchdog):
    global steps
    steps += 1
    if steps == 6 and os.environ["RANK"] == "1":
        if fault == "raise":
            raise RuntimeError("the lights went out")
        if fault == "sleep":
            time.sleep(1e6)
        os.kill(os.getpid(), signal.Signals[fault])
    noted(watchdog)

@record
def main():
    Watchdog.step = step
    corpus = Corpus(Path(sys.argv[1]))
    placement = replace(PLACEMENT, parallel=parallel, stall_seconds=4.0)
    train_run(tiny_run(corpus), corpus, placement, sys.argv[2])

if __name__ == "__main__":
    try:
        main()
    except Exception:
        traceback.print_exc()  # as Python does of a process that was not forked
        raise
"""


def impatient_torchrun(words: list[str]) -> None:
    """torchrun, which waits a second, and not 30, for a process that does not answer before it kills it."""
    ProcessContext.join.__defaults__ = (None, 1.0)
    os.environ["PYTHONPATH"] = str(Path(__file__).resolve().parents[2])
    torchrun(words)


@pytest.mark.parametrize(
    ("fault", "parallel", "reason"),
    [
        ("raise", "ddp", "RuntimeError: the lights went out"),
        ("sleep", "fsdp", "no step for 4 seconds (placement.stall_seconds)"),
        ("SIGKILL", "fsdp", "Signal 9 (SIGKILL) received by PID"),
        ("SIGSTOP", "ddp", "no step for 4 seconds (placement.stall_seconds)"),
    ],
)
def test_the_job_ends_with_its_reason_and_continues(
    fault: str, parallel: str, reason: str, corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = tmp_path / "child.py"
    script.write_text(CHILD)
    words = ["--standalone", "--nproc-per-node=2", str(script)]  # not forked: then a dead rank's reason may be lost
    job = partial(impatient_torchrun, [*words, str(corpus.folder), str(tmp_path), fault, parallel])
    done = Process(tmp_path, job)
    done.wait()
    assert done.returncode != 0 and reason in done.stderr, done.stderr[-3000:]
    run = tiny_run(corpus)
    folder = RunFolder(tmp_path / run.name)
    assert [path.name for path in native.ordered(folder.checkpoints)] == ["step0", "step4"]
    assert not folder.complete
    train_tiny(run, tmp_path, corpus)
    assert folder.complete and "continuing from step4" in capsys.readouterr().out


def wait_for_the_other(rank: int, port: int, report: Path) -> None:
    """Join a group of two in which one process never comes to the barrier."""
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "RANK": str(rank)}
    os.environ.update(address)
    group = join("gloo", stall_seconds=1.0)
    if rank == 1:
        time.sleep(60)
    began = time.monotonic()
    try:
        group.barrier()
    except RuntimeError as error:
        report.write_text(f"{time.monotonic() - began:.1f} {error}")


def test_a_collective_waits_no_longer_than_the_stall_seconds(tmp_path: Path) -> None:
    """And the grace; outside the loop of steps, where no watchdog runs."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    fork = multiprocessing.get_context("fork")
    report = tmp_path / "report"
    processes = [fork.Process(target=wait_for_the_other, args=(rank, port, report)) for rank in (0, 1)]
    for process in processes:
        process.start()
    processes[0].join(30)
    processes[1].kill()
    processes[1].join()
    seconds, message = report.read_text().split(" ", 1)
    assert 3 < float(seconds) < 10 and "imed out" in message


def test_without_stall_seconds_the_timeout_is_torchs_own(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "localhost", "MASTER_PORT": "29500"}.items():
        monkeypatch.setenv(name, value)
    timeouts = []
    monkeypatch.setattr(dist, "is_initialized", lambda: False)
    monkeypatch.setattr(dist, "init_process_group", lambda backend, timeout: timeouts.append(timeout))
    monkeypatch.setattr(dist, "get_rank", lambda: 0)
    monkeypatch.setattr(dist, "get_world_size", lambda: 1)
    join("gloo")
    join("gloo", stall_seconds=0)
    join("gloo", stall_seconds=90)
    assert timeouts[:2] == [None, None] and timeouts[2].total_seconds() == 93
