"""Workers of a preparation: who does which part, and what they report."""

import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from ettin_core.data.preparation.plan import Plan
from ettin_core.data.preparation.worker import do_part
from ettin_core.foundation.errors import DiskFullError, UserError

ReportProgress = Callable[[str, float, float, int], None]  # stage, work done, work in all, documents so far
_UNSEEN_RATIO = 3.0  # bytes of text in a byte of input, until a part has shown it


def cores() -> int:
    """Processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class WorkerDied(UserError):
    """A worker ended without a message. Finished parts are valid and are kept for the next try."""


class StageProgress:
    """Progress over the parts of one stage, in the parts' units of size. Methods may be called from any thread."""

    def __init__(
        self, stage: str, plan: Plan, chosen: Sequence[int], left: Sequence[int], progress: ReportProgress
    ) -> None:
        self.stage, self.plan, self.progress = stage, plan, progress
        self.total = float(sum(plan.parts[number].size for number in chosen))
        self.done = self.total - sum(plan.parts[number].size for number in left)
        self.documents = 0
        self._read: dict[int, int] = {}
        self._seen = [0.0, 0.0]
        self._lock = threading.Lock()
        self._report()

    def tick(self, number: int, documents: int, size: int) -> None:
        """Note documents and bytes of text read of a part."""
        with self._lock:
            self.documents += documents
            self._read[number] = self._read.get(number, 0) + size
            self._report()

    def finish(self, number: int) -> None:
        """Note that a part is done."""
        with self._lock:
            part = self.plan.parts[number]
            self._seen[0] += self._read.pop(number, 0)
            self._seen[1] += part.size
            self.done += part.size
            self._report()

    def _report(self) -> None:
        ratio = self._seen[0] / self._seen[1] if self._seen[0] else _UNSEEN_RATIO
        under_way = sum(min(size / ratio, 0.99 * self.plan.parts[number].size) for number, size in self._read.items())
        self.progress(self.stage, self.done + under_way, self.total, self.documents)


def run_stage(
    stage: str,
    plan: Plan,
    folder: Path,
    chosen: Sequence[int],
    left: Sequence[int],
    workers: int,
    progress: ReportProgress,
) -> None:
    """Do one stage of those of its parts (`chosen`) that are left, the largest first.

    Raises the error of a worker: UserError, DiskFullError or RuntimeError with its traceback.
    """
    work = StageProgress(stage, plan, chosen, left, progress)
    order = sorted(left, key=lambda number: -plan.parts[number].size)
    if min(workers, len(order)) <= 1:
        for number in order:
            do_part(plan, folder, stage, number, partial(work.tick, number))
            work.finish(number)
        return
    _run_parallel(stage, folder, order, min(workers, len(order)), work)


def _run_parallel(stage: str, folder: Path, order: list[int], workers: int, work: StageProgress) -> None:
    tasks: queue.SimpleQueue[int] = queue.SimpleQueue()
    for number in order:
        tasks.put(number)
    failures: list[Exception] = []
    processes = [_start(folder, workers) for _ in range(workers)]

    def attend(process: subprocess.Popen[str]) -> None:
        try:
            while not failures:
                number = tasks.get_nowait()
                _do(process, stage, number, work)
                work.finish(number)
        except queue.Empty:
            pass
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=attend, args=(process,), daemon=True) for process in processes]
    try:
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads) and not failures:
            time.sleep(0.05)
    finally:
        for process in processes:
            process.kill()  # what is finished is on disk, and nothing else counts
            process.wait()
    if failures:
        raise failures[0]


def _start(folder: Path, workers: int) -> subprocess.Popen[str]:
    path = os.pathsep.join(filter(None, [str(Path(__file__).parents[3]), os.environ.get("PYTHONPATH")]))
    threads = {"TOKENIZERS_PARALLELISM": "true", "RAYON_NUM_THREADS": str(max(2, cores() // workers))}
    return subprocess.Popen(
        [sys.executable, "-m", "ettin_core.data.preparation.worker", str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", **threads},
        process_group=0,  # Ctrl-C is the parent's to handle
    )


def _do(process: subprocess.Popen[str], stage: str, number: int, work: StageProgress) -> None:
    """Let a worker do one part. Raises what it reports, or that it died."""
    assert process.stdin is not None and process.stdout is not None
    try:
        process.stdin.write(f"{stage} {number}\n")
        process.stdin.flush()
    except BrokenPipeError:
        pass  # it died, which reading its output shows
    for line in process.stdout:
        message = json.loads(line)
        if "done" in message:
            return
        if "error" in message:
            raise _error(message["error"], message["kind"])
        work.tick(number, message["documents"], message["bytes"])
    name = work.plan.parts[number].name
    raise WorkerDied(
        f"the worker for part {name} died (exit status {process.wait()}), perhaps because memory ran out; start the same "
        "command again with fewer workers: finished parts are kept."
    )


def _error(text: str, kind: str) -> Exception:
    if kind == DiskFullError.__name__:
        return DiskFullError(text)
    return UserError(text) if kind == UserError.__name__ else RuntimeError(text)
