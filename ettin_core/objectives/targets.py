"""What an objective makes of a batch: inputs, where predictions are read, and their labels.

An objective is a pure function of the batch and its own random stream, keyed by (seed, phase, global row): it never touches
the data stream, and masks do not depend on micro-batches or ranks.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ettin_core.data.loader import Batch
from ettin_core.data.tokenizer import SpecialTokens
from ettin_core.foundation.errors import invalid
from ettin_core.foundation.randomness import below, derive, mix, uniform


@dataclass(frozen=True)
class Vocabulary:
    """What an objective must know of the tokenizer."""

    size: int
    special: SpecialTokens


@dataclass(frozen=True)
class Masking:
    """How tokens are corrupted: rate of selection, then shares of mask token and random token; the rest stay."""

    rate: float
    mask_share: float = 0.8
    random_share: float = 0.1


@dataclass(frozen=True)
class Targets:
    """`inputs` (B, S); predictions are read at flat positions `read` (N,) and scored against `labels` (N,)."""

    inputs: np.ndarray
    read: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class ObjectiveConfig:
    """The objective by name and its corruption shares; the mask rate belongs to the phase."""

    name: str
    mask_share: float = 0.8
    random_share: float = 0.1

    def __post_init__(self) -> None:
        if self.name not in OBJECTIVES:
            raise invalid("objective.name", self.name, "is not an objective", f"use one of {', '.join(OBJECTIVES)}")
        if min(self.mask_share, self.random_share) < 0 or self.mask_share + self.random_share > 1:
            raise invalid(
                "objective.mask_share", self.mask_share, "does not leave a share for the rest", "use 0.8 and 0.1"
            )


def select(batch: Batch, vocabulary: Vocabulary, masking: Masking, key: int) -> tuple[np.ndarray, np.ndarray]:
    """Corrupted inputs (B, S) and which tokens were selected (B, S) bool. Special tokens are never selected."""
    rows = mix(np.uint64(key) ^ batch.rows.astype(np.uint64))[:, None]
    index = np.arange(batch.tokens.shape[1], dtype=np.uint64)[None, :] * np.uint64(3)
    eligible = batch.real & ~np.isin(batch.tokens, vocabulary.special.ids)
    selected = eligible & (uniform(rows, index) < masking.rate)
    kind = uniform(rows, index + np.uint64(1))
    random_ids = below(rows, index + np.uint64(2), vocabulary.size)
    inputs = np.where(selected & (kind < masking.mask_share), vocabulary.special.mask, batch.tokens)
    randomise = selected & (kind >= masking.mask_share) & (kind < masking.mask_share + masking.random_share)
    return np.where(randomise, random_ids, inputs), selected


def mlm(batch: Batch, vocabulary: Vocabulary, masking: Masking, key: int) -> Targets:
    """Masked language modelling (Devlin et al. 2019): the selected token is predicted where it stood."""
    inputs, selected = select(batch, vocabulary, masking, key)
    read = np.flatnonzero(selected)
    return Targets(inputs, read, batch.tokens.flat[read])


def clm(batch: Batch, vocabulary: Vocabulary, masking: Masking, key: int) -> Targets:
    """Causal language modelling: every token predicts the next of its document; no prediction crosses documents."""
    within = batch.real.copy()
    within[:, -1] = False
    within[:, :-1] &= batch.documents[:, :-1] == batch.documents[:, 1:]
    read = np.flatnonzero(within)
    return Targets(batch.tokens, read, batch.tokens.flat[read + 1])


def mntp(batch: Batch, vocabulary: Vocabulary, masking: Masking, key: int) -> Targets:
    """Masked next-token prediction (BehnamGhader et al. 2024): the selected token is predicted one position earlier.

    The first token of a piece has no position before it in its document; it is corrupted but not scored.
    """
    inputs, selected = select(batch, vocabulary, masking, key)
    labelled = np.flatnonzero(selected & (batch.positions > 0))
    return Targets(inputs, labelled - 1, batch.tokens.flat[labelled])


Objective = Callable[[Batch, Vocabulary, Masking, int], Targets]
OBJECTIVES: dict[str, Objective] = {"mlm": mlm, "clm": clm, "mntp": mntp}
MASKED = ("mlm", "mntp")  # objectives that corrupt their input and therefore have a mask rate


def mask_key(seed: int, phase: str) -> int:
    """The key of a phase's mask stream."""
    return derive(seed, "masks", phase)


def check_well_posed(direction: str, objective: str) -> None:
    """Refuse (ValueError) a combination in which the answer is visible in the input."""
    if direction == "bidirectional" and objective == "clm":
        raise invalid(
            "objective.name",
            objective,
            "leaks under direction='bidirectional': the next token is visible",
            "use direction=causal, or objective mlm or mntp",
        )
