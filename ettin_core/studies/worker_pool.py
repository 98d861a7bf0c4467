"""Worker processes for the cells of a study: they die with their parent, leave Ctrl-C to it, and have a bar line each."""

import multiprocessing
import os
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from typing import Any

from tqdm import tqdm

from ettin_core.foundation.exits import line_of
from ettin_core.foundation.processes import die_with_parent
from ettin_core.foundation.progress_bars import take_line

GRACE_SECONDS = 20.0  # to write a checkpoint in


@dataclass(frozen=True)
class Job:
    """A call in a worker for a cell; `function` must be importable from a module. Urgent jobs start first."""

    kind: str
    cell: str
    function: Callable[..., Any]
    arguments: tuple[Any, ...] = field(default=())
    urgent: bool = False

    @property
    def name(self) -> str:
        """Its name in messages, e.g. `train encoder s21`."""
        return f"{self.kind} {self.cell}"


@dataclass(frozen=True)
class Outcome:
    """How a job ended: its result, or the error's first line."""

    job: Job
    result: Any
    error: str | None


class Pool:
    """Runs jobs side by side, urgent ones first; jobs may be added while others run."""

    def __init__(self, workers: int) -> None:
        context = multiprocessing.get_context("spawn")
        arguments = (context.Value("i", 0), context.RLock(), os.getpid())
        self._workers = workers
        self._executor = ProcessPoolExecutor(workers, context, _start, arguments)
        self._waiting: list[Job] = []
        self._running: dict[Future[Any], Job] = {}

    def add(self, job: Job) -> None:
        """Queue a job."""
        self._waiting.append(job)

    def outcomes(self) -> Iterator[Outcome]:
        """Outcomes as they come, until nothing is queued or running."""
        while self._waiting or self._running:
            while self._waiting and len(self._running) < self._workers:
                job = max(self._waiting, key=lambda item: item.urgent)  # the first of the most urgent
                self._waiting.remove(job)
                try:
                    self._running[self._executor.submit(job.function, *job.arguments)] = job
                except BrokenProcessPool:
                    yield Outcome(job, None, "not started, because another cell's process was killed")
            done, _ = wait(self._running, return_when=FIRST_COMPLETED)
            for future in done:
                yield _outcome(self._running.pop(future), future)

    def __enter__(self) -> "Pool":
        return self

    def __exit__(self, kind: type | None, *exception: object) -> None:
        if kind is not None:
            _stop(list((self._executor._processes or {}).values()))
        self._executor.shutdown(wait=True, cancel_futures=True)


def _stop(processes: list[Any]) -> None:
    """End workers: one that trains saves first, and ends at the next signal. One that takes too long is killed, safely."""
    deadline = time.monotonic() + GRACE_SECONDS
    while (alive := [process for process in processes if process.is_alive()]) and time.monotonic() < deadline:
        for process in alive:
            process.terminate()
        time.sleep(0.2)
    for process in alive:
        process.kill()


def _outcome(job: Job, future: "Future[Any]") -> Outcome:
    error = future.exception()
    if isinstance(error, BrokenProcessPool):
        return Outcome(job, None, "its process was killed (out of memory?)")
    if error is not None:
        if line_of(error) is None:
            traceback.print_exception(error)  # a fault of the program: the line below is not enough to find it
        return Outcome(job, None, f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}")
    return Outcome(job, future.result(), None)


def _start(counter: Any, lock: Any, parent: int) -> None:
    """Set up a worker: die with the parent (Linux), ignore Ctrl-C, take the next line of the terminal for bars."""
    die_with_parent(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    tqdm.set_lock(lock)
    with counter.get_lock():
        take_line(counter.value)
        counter.value += 1
