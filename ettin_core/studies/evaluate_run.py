"""Measure one run, or its kept checkpoints, with a progress bar over protocols."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from tqdm import tqdm

from ettin_core.checkpoints import native
from ettin_core.evaluation.suite import (
    applicable,
    evaluate,
)
from ettin_core.evaluation.suite_config import SuiteConfig
from ettin_core.foundation.progress_bars import own_line
from ettin_core.planning.run_plan import open_corpus, open_run
from ettin_core.records.folders import RunFolder
from ettin_core.records.schema import Measurement

ALL = "all"


def evaluate_run(
    path: Path,
    corpora: Path,
    suite: SuiteConfig,
    device: str,
    threads: int,
    checkpoint: str | None = None,
    remeasure: bool = False,
) -> list[Measurement]:
    """Measure a run, or a checkpoint of it, or all that were kept, with a bar over protocols."""
    folder, run = open_run(str(path))
    corpus = open_corpus(run, corpora)
    torch.set_num_threads(threads)
    chosen = applicable(run.read_as, suite)
    names = checkpoints_named(folder, checkpoint)
    measurements: list[Measurement] = []
    with protocol_bar(folder.name, len(names) * len(chosen)) as bar:
        for name in names:

            def progress(protocol: str, checkpoint: str | None = name) -> None:
                bar.step(protocol, checkpoint)

            rows = evaluate(run, folder, corpus, suite, name, device, progress, remeasure=remeasure)
            measurements += [row for row in rows if row.protocol in {protocol.name for protocol in chosen}]
    return measurements


def checkpoints_named(folder: RunFolder, checkpoint: str | None) -> list[str | None]:
    """The checkpoints that a request's `checkpoint` names (None: the last)."""
    return [item.name for item in native.ordered(folder.checkpoints)] if checkpoint == ALL else [checkpoint]


class ProtocolBar(tqdm):
    """A bar over protocols, which names the last one measured."""

    def step(self, protocol: str, checkpoint: str | None) -> None:
        """One more protocol is measured."""
        self.set_postfix_str(protocol if checkpoint is None else f"{checkpoint} {protocol}")
        self.update()


@contextmanager
def protocol_bar(name: str, total: int) -> Iterator[ProtocolBar]:
    """The bar of a run's evaluation."""
    with ProtocolBar(total=total, desc=f"evaluate {name}", unit="protocol", position=own_line()) as bar:
        yield bar
