"""Preparation with a progress bar, as every command does it."""

import sys
from pathlib import Path

from tqdm import tqdm

from ettin_core.data.config import DataConfig
from ettin_core.data.corpus import Corpus
from ettin_core.data.preparation.prepare import prepare


def prepared(data: DataConfig, corpora_dir: str, workers: int | None = None) -> Corpus:
    """The prepared corpus of a data configuration; prepares it, with a bar, when it is not there."""
    with PreparationBar() as bar:
        return prepare(data, Path(corpora_dir), workers, bar)


class PreparationBar:
    """A progress bar for each stage of a preparation, with rate and time left."""

    def __init__(self) -> None:
        self._bar: tqdm | None = None
        self._stage = ""

    def __enter__(self) -> "PreparationBar":
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def __call__(self, stage: str, done: float, total: float, documents: int) -> None:
        if self._bar is None or self._stage != stage:
            self.__exit__()
            self._stage = stage
            self._bar = tqdm(
                total=total,
                initial=done,
                desc=f"prepare {stage}",
                unit="B",
                unit_scale=True,
                mininterval=0.5 if sys.stderr.isatty() else 10.0,
                dynamic_ncols=True,
            )
        self._bar.set_postfix_str(f"{documents:,} documents", refresh=False)
        self._bar.update(max(0.0, done - self._bar.n))
