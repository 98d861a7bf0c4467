"""Masked language modelling (Devlin et al. 2019): the selected token is predicted at its own position."""

import numpy as np

from ettin_core.data.loader import Batch
from ettin_core.objectives.targets import Masking, Objective, Vocabulary, select


def mlm(
    batch: Batch, vocabulary: Vocabulary, masking: Masking, key: int, prefix_mask: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Inputs, positions and labels."""
    inputs, selected = select(batch, vocabulary, masking, key)
    scored_positions = np.flatnonzero(selected)
    return inputs, scored_positions, batch.tokens.flat[scored_positions]


OBJECTIVE = Objective("mlm", mlm, corrupts=True, readout="mlm")
