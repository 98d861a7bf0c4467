"""What quantisation did to a model: its size on disk, its speed and how far its predictions moved."""

import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch

from ettin_core.foundation.storage import read_mapping
from ettin_core.interop.huggingface import METADATA_FILE
from ettin_core.interop.quantisation import GROUPED, load, matrices

ROWS, LONGEST = 4, 128  # of the batch that is timed


@dataclass(frozen=True)
class Side:
    """A folder: bytes of its weights as stored, those at four bits for each int4 value, and tokens per second forwards."""

    size: int
    nominal: int
    tokens_per_second: float


@dataclass(frozen=True)
class Effect:
    """A quantised folder beside the one that it was made of.

    `largest` and `mean` are absolute differences of logits. `divergence` is the mean Kullback-Leibler divergence of the
    quantised predictions from the plain ones, in nats per token, and `agreement` the share of tokens at which both
    predict the same.
    """

    before: Side
    after: Side
    largest: float
    mean: float
    divergence: float
    agreement: float


def effect(plain: Path, quantised: Path, rounds: int) -> Effect:
    """Both folders on the same rows of random tokens (seed 0), timed in turns."""
    models = [load(folder) for folder in (plain, quantised)]
    length = min(LONGEST, models[0].config.max_position_embeddings)
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(models[0].config.vocab_size, (ROWS, length), generator=generator)
    before, after = (_logits(model, ids) for model in models)
    seconds: list[list[float]] = [[], []]
    for _ in range(rounds):
        for model, times in zip(models, seconds, strict=True):
            times.append(_timed(model, ids))
    sides = [
        Side(*_sizes(folder, model), ids.numel() / median(times))
        for folder, model, times in zip((plain, quantised), models, seconds, strict=True)
    ]
    moved = (after - before).abs()
    divergence, agreement = _predictions(before, after)
    return Effect(sides[0], sides[1], float(moved.max()), float(moved.mean()), divergence, agreement)


def _sizes(folder: Path, model: Any) -> tuple[int, int]:
    """Bytes of the weights as stored, where an int4 value takes a whole one, and with half a byte for each of these."""
    stored = sum(file.stat().st_size for file in folder.glob("model*.safetensors"))
    file = folder / METADATA_FILE
    how = read_mapping(file).get("quantisation", {}) if file.is_file() else {}
    values = sum(layer.weight.numel() for _, layer in matrices(model)) if how.get("method") == GROUPED else 0
    return stored, stored - values // 2


def _predictions(before: torch.Tensor, after: torch.Tensor) -> tuple[float, float]:
    """Divergence and agreement of two sets of logits."""
    left, right = before.log_softmax(-1), after.log_softmax(-1)
    divergence = (left.exp() * (left - right)).sum(-1).mean()
    return float(divergence), float((left.argmax(-1) == right.argmax(-1)).float().mean())


@torch.no_grad()
def _logits(model: Any, ids: torch.Tensor) -> torch.Tensor:
    return model(ids).logits.float()


def _timed(model: Any, ids: torch.Tensor) -> float:
    """Seconds of a forward pass."""
    start = time.perf_counter()
    _logits(model, ids)
    return time.perf_counter() - start
