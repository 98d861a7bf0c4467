"""Observers of a run: progress bar, records, TensorBoard. They see numbers and never change them."""

import os
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ettin_core.foundation.errors import invalid
from ettin_core.foundation.storage import write_text
from ettin_core.records.folders import RunFolder, append
from ettin_core.records.schema import TimingRecord, TrainingRecord


@dataclass
class Watch:
    """Shows progress with rate and time left, appends records, mirrors to TensorBoard when asked."""

    folder: RunFolder
    total_tokens: int
    tokens: int
    seconds: float
    enabled: bool
    tensorboard: bool = False
    _bar: Any = None
    _writer: Any = None
    _mark: tuple[float, int] = field(default=(0.0, 0))

    def __enter__(self) -> "Watch":
        self._mark = (time.perf_counter(), self.tokens)
        if self.enabled:
            self._bar = tqdm(
                total=self.total_tokens,
                initial=self.tokens,
                unit="tok",
                unit_scale=True,
                desc=self.folder.name,
                position=int(os.environ.get("ETTIN_BAR_LINE", 0)),  # a study gives each worker its own line
                mininterval=0.2 if sys.stderr.isatty() else 10.0,
                dynamic_ncols=True,
            )
            if self.tensorboard:
                from torch.utils.tensorboard import SummaryWriter

                self._writer = SummaryWriter(str(self.folder.path / "tensorboard"))
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bar is not None:
            self._bar.close()
        if self._writer is not None:
            self._writer.close()

    def step(self, tokens: int, loss: float) -> None:
        """After every step."""
        if self._bar is not None:
            self._bar.set_postfix_str(f"loss {loss:.3f}", refresh=False)
            self._bar.update(tokens - self.tokens)
        self.tokens = tokens

    def record(self, row: TrainingRecord) -> None:
        """After every logged step; also the run's heartbeat for `experiments.status`."""
        now = time.perf_counter()
        then, tokens = self._mark
        self.seconds += now - then
        self._mark = (now, row.tokens)
        if not self.enabled:
            return
        rate = (row.tokens - tokens) / max(now - then, 1e-9)
        append(self.folder.metrics_file, [row])
        append(self.folder.timing_file, [TimingRecord(row.step, round(self.seconds, 3), round(rate, 1))])
        if self._writer is not None:
            for name in ("loss", "learning_rate", "gradient_norm"):
                if getattr(row, name) is not None:
                    self._writer.add_scalar(name, getattr(row, name), row.tokens)
            self._writer.add_scalar("tokens_per_second", rate, row.tokens)


def truncate_rows(path: Path, rows: int) -> None:
    """Keep the first `rows` lines of a JSON-lines file: what a killed process wrote after its last checkpoint goes."""
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    if len(lines) < rows:
        raise invalid("records", str(path), f"has {len(lines)} rows instead of {rows}", "restore it, or delete the run")
    if lines:
        write_text(path, "".join(lines[:rows]))
