"""Causal language modelling: every token predicts the next of its document; no prediction crosses documents.

Tokens of an open prefix are seen from before, so they are not predicted (prefix language modelling, Raffel et al. 2020). With
a scored share below 1 only a random share of the predictions bears a loss: as sparse as a masked objective's.
"""

import numpy as np

from ettin_core.data.loader import Batch
from ettin_core.foundation.randomness import uniform
from ettin_core.objectives.targets import Masking, Objective, Vocabulary, row_keys


def clm(
    batch: Batch, vocabulary: Vocabulary, masking: Masking, key: int, prefix_mask: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Inputs, positions and labels."""
    within = batch.real.copy()
    within[:, -1] = False
    within[:, :-1] &= (batch.document_ids[:, :-1] == batch.document_ids[:, 1:]) & ~prefix_mask[:, 1:]
    if masking.scored_share < 1:
        within &= (
            uniform(row_keys(batch, key), np.arange(within.shape[1], dtype=np.uint64)[None, :]) < masking.scored_share
        )
    scored_positions = np.flatnonzero(within)
    return batch.tokens, scored_positions, batch.tokens.flat[scored_positions + 1]


OBJECTIVE = Objective(
    "clm",
    clm,
    corrupts=False,
    readout="clm",
    leaks_under=("bidirectional",),
    remedy="use direction=causal or prefix, or objective mlm or mntp",
)
