"""A random prefix of each document is seen from everywhere in it (Raffel et al. 2020, section 3.2.1).

Its length is uniform between nothing and all but the last token, so that something is left to predict.
"""

import numpy as np

from ettin_core.foundation.randomness import uniform
from ettin_core.objectives.targets import Direction


def random_prefix(lengths: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """A length from 0 to length - 1 for each document."""
    return np.floor(uniform(keys, np.zeros(len(lengths), dtype=np.uint64)) * lengths).astype(np.int64)


DIRECTION = Direction("prefix", "prefix", random_prefix, readout="causal")
