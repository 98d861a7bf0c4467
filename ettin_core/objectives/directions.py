"""The directions, a row each: the mask that the model gets, and how much of each document is open.

Open tokens are seen from everywhere in their document, the others only from themselves and what follows them:

    name            mask            open in a document of n tokens                      measured and exported as
    bidirectional   bidirectional   all n                                               bidirectional
    causal          causal          none                                                causal
    prefix          prefix          the first 0 to n - 1, at random (Raffel 2020)       causal

The open tokens are always a prefix. Were they elsewhere, tokens before them would see tokens after them through them.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ettin_core.foundation.randomness import uniform

# (lengths of documents (N,), their random keys (N,) uint64) -> number of open tokens of each (N,)
PrefixLength = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Direction:
    """A direction: the mask that the model is asked for, how many first tokens are open, and how it is read out.

    `visibility` is bidirectional, causal or prefix (model/attention_mask.py). `readout` is the direction in which a trained
    model is measured and exported: bidirectional or causal.
    """

    name: str
    visibility: str
    prefix_length: PrefixLength
    readout: str


def random_prefix(lengths: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Uniform from 0 to length - 1 (Raffel et al. 2020, section 3.2.1), so that something is left to predict."""
    return np.floor(uniform(keys, np.zeros(len(lengths), dtype=np.uint64)) * lengths).astype(np.int64)


DIRECTIONS: dict[str, Direction] = {
    direction.name: direction
    for direction in (
        Direction("bidirectional", "bidirectional", lambda lengths, keys: lengths, readout="bidirectional"),
        Direction("causal", "causal", lambda lengths, keys: lengths * 0, readout="causal"),
        Direction("prefix", "prefix", random_prefix, readout="causal"),
    )
}
