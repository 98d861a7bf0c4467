"""What an objective makes of a batch: inputs, where predictions are read, and their labels.

Everything here happens after the batch exists, with separate random streams keyed by (seed, phase, global row). The data
stream is never touched, and neither masks nor prefixes depend on micro-batches or ranks.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ettin_core.data.loader import Batch
from ettin_core.data.tokenizer import SpecialTokens
from ettin_core.foundation.randomness import below, derive, mix, uniform
from ettin_core.records.readout import NOT_READ, readout_named


class HasIds(Protocol):
    """The part of a tokenizer that makes a vocabulary."""

    special: SpecialTokens
    vocab_size: int
    ids: np.ndarray


@dataclass(frozen=True)
class Vocabulary:
    """What an objective must know of the tokenizer: ids are below `size`, and `ids` have a token (None: all of them)."""

    size: int
    special: SpecialTokens
    ids: np.ndarray | None = None

    @classmethod
    def of(cls, tokenizer: HasIds) -> "Vocabulary":
        """The vocabulary of a tokenizer of ours or of Hugging Face."""
        whole = len(tokenizer.ids) == tokenizer.vocab_size
        return cls(tokenizer.vocab_size, tokenizer.special, None if whole else tokenizer.ids)

    def draw(self, key: np.ndarray, index: np.ndarray) -> np.ndarray:
        """A random id that has a token, at each index of the streams `key` (randomness.below)."""
        if self.ids is None:
            return below(key, index, self.size)
        return self.ids[below(key, index, len(self.ids))]


@dataclass(frozen=True)
class Masking:
    """How tokens are corrupted: rate of selection, then shares of mask token and random token; the rest stay.

    `scored_share` is the share of its predictions that an objective without corruption scores.
    """

    rate: float
    mask_share: float = 0.8
    random_share: float = 0.1
    scored_share: float = 1.0


@dataclass(frozen=True)
class Targets:
    """`inputs` (B, S); predictions are read at the flat `scored_positions` (N,) and scored against `labels` (N,).

    `direction` is how the model is to look at the rows: bidirectional, causal, or prefix with `prefix_mask` (B, S) bool.
    """

    inputs: np.ndarray
    scored_positions: np.ndarray
    labels: np.ndarray
    direction: str
    prefix_mask: np.ndarray | None = None


# (batch, vocabulary, masking, key, prefix mask (B, S) bool) -> (inputs (B, S), scored positions (N,), labels (N,))
MakeTargets = Callable[[Batch, Vocabulary, Masking, int, np.ndarray], tuple[np.ndarray, np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Objective:
    """An objective: its name, what it makes of a batch, and whether it corrupts its inputs (and so has a mask rate).

    `readout` is how a model of it is read (records/readout.py): `clm` at the token before, `mlm` at the mask, `mntp` before the
    mask, `ahead2` two tokens before. With `none` the model trains and measurements raise ValueError. `leaks_under` names the
    directions that show the answer in the input; `remedy` says what to use instead. Raises ValueError for an unknown readout.
    """

    name: str
    make: MakeTargets
    corrupts: bool
    readout: str = NOT_READ
    leaks_under: tuple[str, ...] = ()
    remedy: str = ""

    def __post_init__(self) -> None:
        readout_named(self.readout)


def select(batch: Batch, vocabulary: Vocabulary, masking: Masking, key: int) -> tuple[np.ndarray, np.ndarray]:
    """Corrupted inputs (B, S) and which tokens were selected (B, S) bool. Special tokens are never selected."""
    rows = row_keys(batch, key)
    index = np.arange(batch.tokens.shape[1], dtype=np.uint64)[None, :] * np.uint64(3)
    eligible = batch.real & ~np.isin(batch.tokens, vocabulary.special.ids)
    selected = eligible & (uniform(rows, index) < masking.rate)
    kind = uniform(rows, index + np.uint64(1))
    random_ids = vocabulary.draw(rows, index + np.uint64(2))
    inputs = np.where(selected & (kind < masking.mask_share), vocabulary.special.mask, batch.tokens)
    randomise = selected & (kind >= masking.mask_share) & (kind < masking.mask_share + masking.random_share)
    return np.where(randomise, random_ids, inputs), selected


def row_keys(batch: Batch, key: int) -> np.ndarray:
    """The key of each row's own random stream, (B, 1) uint64."""
    return mix(np.uint64(key) ^ batch.rows.astype(np.uint64))[:, None]


def mask_key(seed: int, phase: str) -> int:
    """The key of a phase's mask stream."""
    return derive(seed, "masks", phase)
