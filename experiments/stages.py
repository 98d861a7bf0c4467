"""What a worker of a study does: train a run, measure it, export it. Plain arguments in, nothing shared."""

import os
from pathlib import Path

from ettin_core.data.corpus import Corpus
from ettin_core.evaluation.protocol import SuiteConfig
from ettin_core.training.run import PlacementConfig, RunConfig
from experiments.evaluate import evaluate_run
from experiments.export import export_run
from experiments.train import train_run


def train_stage(run: RunConfig, corpus: Path, placement: PlacementConfig, runs_dir: str) -> str:
    """Train a run to its end; returns its name."""
    return train_run(run, Corpus(corpus), placement, runs_dir).name


def evaluate_stage(path: Path, corpora: Path, suite: SuiteConfig, placement: PlacementConfig) -> int:
    """Measure a complete run; returns how many measurements it now has."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # a worker has one thread
    return len(evaluate_run(path, corpora, suite, placement.device, placement.threads))


def export_stage(path: Path, corpora: Path) -> str:
    """Write the transformers folder of a complete run, once."""
    target = path / "hf"
    if not (target / "config.json").exists():
        export_run(path, target, corpora)
    return str(target)
