"""Masked next-token prediction (BehnamGhader et al. 2024): the selected token is predicted one position earlier.

The first token of a piece has no position before it in its document; it is corrupted but not scored.
"""

import numpy as np

from ettin_core.data.loader import Batch
from ettin_core.objectives.targets import Masking, Objective, Vocabulary, select


def mntp(
    batch: Batch, vocabulary: Vocabulary, masking: Masking, key: int, prefix_mask: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Inputs, positions and labels."""
    inputs, selected = select(batch, vocabulary, masking, key)
    labelled = np.flatnonzero(selected & (batch.position_ids > 0))
    return inputs, labelled - 1, batch.tokens.flat[labelled]


OBJECTIVE = Objective("mntp", mntp, corrupts=True, readout="mntp")
