"""Observers of a run: progress bar, records, heartbeat, trackers. They see numbers and never change them."""

import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from tqdm import tqdm

from ettin_core.foundation.errors import invalid
from ettin_core.foundation.progress_bars import own_line
from ettin_core.foundation.provenance import machine_code
from ettin_core.foundation.storage import write_bytes, write_json
from ettin_core.records.folders import RunFolder, append
from ettin_core.records.schema import TimingRecord, TrainingRecord
from ettin_core.training.expected_rate import ExpectedRate
from ettin_core.training.trackers import Tracker, open_trackers, scalars_of

HEARTBEAT_SECONDS = 10.0

Item = TypeVar("Item")


@dataclass(frozen=True)
class Snapshot:
    """Tokens and FLOPs of a run at a time, in seconds of `time.perf_counter`."""

    seconds: float
    tokens: int
    flops: float


@dataclass
class Monitor:
    """Shows progress with rate, MFU and time left, appends records, writes the heartbeat, feeds the trackers.

    `clock` counts tokens by the schedules' clock out of `total_tokens`. `last` is the run at the last record, or at the
    start of the session. `seconds` sum the training so far. `peak_flops` is that of all processes. The cause of a rate
    below the `expected` one is reported once. A disabled monitor only counts seconds.
    """

    folder: RunFolder
    total_tokens: int
    clock: int
    last: Snapshot
    seconds: float
    enabled: bool
    peak_flops: float
    trackers: tuple[str, ...] = ()
    expected: ExpectedRate | None = None
    _waited: float = 0.0  # seconds for batches, since the last record
    _records: int = 0
    _bar: Any = None
    _open: list[Tracker] = field(default_factory=list)
    _beat: float = float("-inf")
    _mfu: float | None = None
    _loss: float = float("nan")

    def __enter__(self) -> "Monitor":
        if self.enabled:
            self._open = open_trackers(self.trackers, self.folder, self.last.tokens)
            self._bar = tqdm(
                total=self.total_tokens,
                initial=self.clock,
                unit="tok",
                unit_scale=True,
                desc=self.folder.name,
                position=own_line(),
                mininterval=0.2 if sys.stderr.isatty() else 10.0,
                dynamic_ncols=True,
            )
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bar is not None:
            self._bar.close()
        for tracker in self._open:
            tracker.close()

    def watched(self, items: Iterator[Item]) -> Iterator[Item]:
        """The items, while the time that they are waited for is counted."""
        while True:
            begin = time.perf_counter()
            item = next(items, None)
            self._waited += time.perf_counter() - begin
            if item is None:
                return
            yield item

    def step(self, clock: int, step: int, loss: float | None) -> None:
        """After every step: the bar, and every few seconds the heartbeat, which `experiments.status` reads.

        A loss that has not been read (None) leaves the last one in the bar.
        """
        self._loss = self._loss if loss is None else loss
        if self._bar is None:
            return
        mfu = "" if self._mfu is None else f", MFU {self._mfu:.0%}"
        self._bar.set_postfix_str(f"loss {self._loss:.3f}{mfu}", refresh=False)
        self._bar.update(clock - self.clock)
        self.clock = clock
        if time.monotonic() - self._beat > HEARTBEAT_SECONDS:
            self._beat = time.monotonic()
            heartbeat = {"time": time.time(), "host": machine_code(), "process": os.getpid(), "step": step}
            write_json(self.folder.heartbeat_file, heartbeat | {"clock": clock, "of": self.total_tokens})

    def record(self, row: TrainingRecord) -> None:
        """After every logged step."""
        now = Snapshot(time.perf_counter(), row.tokens, row.flops)
        elapsed = max(now.seconds - self.last.seconds, 1e-9)
        rate, flops = (now.tokens - self.last.tokens) / elapsed, (now.flops - self.last.flops) / elapsed
        self.seconds += elapsed
        self.last = now
        if not self.enabled:
            return
        self._mfu = flops / self.peak_flops
        self._compare(rate, self._waited / elapsed)
        timing = TimingRecord(row.step, round(self.seconds, 3), round(rate, 1), round(self._mfu, 4))
        append(self.folder.metrics_file, [row])
        append(self.folder.timing_file, [timing])
        for tracker in self._open:
            tracker.log(scalars_of(row, timing), row)

    def _compare(self, rate: float, waited: float) -> None:
        """Report once why a rate is below what was expected; the first record is left out, as it holds the compilation."""
        self._records, self._waited = self._records + 1, 0.0
        if self.expected is not None and self._records > 1 and (cause := self.expected.cause(rate, waited)):
            tqdm.write(cause, sys.stderr)
            self.expected = None


def truncate_rows(path: Path, rows: int) -> None:
    """Keep the first `rows` lines of a JSON-lines file; later ones were written after the last checkpoint."""
    lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    if len(lines) < rows:
        raise invalid("records", str(path), f"has {len(lines)} rows instead of {rows}", "restore it, or delete the run")
    if lines:
        write_bytes(path, b"".join(lines[:rows]))
