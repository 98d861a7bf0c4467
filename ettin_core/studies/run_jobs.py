"""What a worker of a study does: train a run, measure it, export it. Arguments are plain data, and nothing is shared."""

import math
import os
from dataclasses import dataclass
from pathlib import Path

from ettin_core.data.corpus import Corpus
from ettin_core.evaluation.exports import own_export
from ettin_core.evaluation.protocol import Protocol
from ettin_core.evaluation.registry import CHOICES
from ettin_core.evaluation.suite import applicable, evaluate
from ettin_core.evaluation.suite_config import SuiteConfig
from ettin_core.foundation.errors import RunStopped
from ettin_core.planning.run_plan import open_corpus, open_run
from ettin_core.studies.evaluate_run import evaluate_run
from ettin_core.studies.train_run import train_run
from ettin_core.training.config import PlacementConfig, RunConfig
from ettin_core.training.step import NonFiniteError


def train_stage(run: RunConfig, corpus: Path, placement: PlacementConfig, runs_dir: str) -> str:
    """Train a run to its end; returns its name."""
    return train_run(run, Corpus(corpus), placement, runs_dir).name


def evaluate_stage(
    path: Path, corpora: Path, suite: SuiteConfig, placement: PlacementConfig, remeasure: bool = False
) -> int:
    """Measure a complete run; returns how many measurements it now has."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # a worker has one thread
    return len(evaluate_run(path, corpora, suite, placement.device, placement.threads, remeasure=remeasure))


def export_stage(path: Path, corpora: Path) -> str:
    """Write the transformers folder of a complete run, once."""
    folder, run = open_run(str(path))
    return str(own_export(run, folder, open_corpus(run, corpora)))


@dataclass(frozen=True)
class HeldoutLoss:
    """The validation loss of a run on its own objective with its standard error; None for a run that diverged."""

    loss: float | None
    standard_error: float | None = None


def choosing(run: RunConfig) -> Protocol:
    """The protocol that measures a run's objective on validation text; searches choose by it, and no report shows it.

    Raises ValueError if the objective is not read.
    """
    return next(protocol for protocol in applicable(run.check_readable()) if protocol.name in CHOICES)


def score_stage(
    run: RunConfig, corpus: Path, placement: PlacementConfig, runs_dir: str, suite: SuiteConfig
) -> HeldoutLoss:
    """Train a run to its end and measure its validation loss; a run that diverges has none, which is a result."""
    protocol = choosing(run)
    try:
        folder = train_run(run, Corpus(corpus), placement, runs_dir)
    except RunStopped as error:
        if isinstance(error.__cause__, NonFiniteError):
            return HeldoutLoss(None)
        raise
    rows = evaluate(run, folder, Corpus(corpus), suite, device=placement.device, protocols=[protocol])
    key = (protocol.name, protocol.version, "loss")
    row = next(row for row in rows if (row.protocol, row.version, row.metric) == key)
    if row.value is None or not math.isfinite(row.value):
        return HeldoutLoss(None)
    return HeldoutLoss(row.value, row.standard_error)
