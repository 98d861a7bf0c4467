"""Named, counter-based random streams.

Every draw is a pure function of (seed, stream name, keys, index): nothing is consumed in order, so nothing can drift with
the number of workers, ranks, micro-batches or restarts. Integer arithmetic only (splitmix64, Steele et al. 2014), because
numpy promises no stable streams between versions.
"""

import hashlib
from functools import lru_cache

import numpy as np

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


def derive(seed: int, stream: str, *keys: int | str) -> int:
    """A 63-bit seed for the named stream (63 bits so that torch and numpy both take it)."""
    text = "|".join([str(seed), stream, *map(str, keys)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def mix(values: np.ndarray) -> np.ndarray:
    """The splitmix64 finaliser: a bijection of uint64 values that scatters every input bit."""
    with np.errstate(over="ignore"):
        values = (values ^ (values >> np.uint64(30))) * _MIX_1
        values = (values ^ (values >> np.uint64(27))) * _MIX_2
        return values ^ (values >> np.uint64(31))


def bits(key: np.ndarray | int, index: np.ndarray) -> np.ndarray:
    """64 random bits at each `index` (uint64) of the stream `key` (scalar or broadcastable uint64 array)."""
    with np.errstate(over="ignore"):
        start = mix(np.asarray(key, dtype=np.uint64))
        return mix(start + (np.asarray(index, dtype=np.uint64) + np.uint64(1)) * _GOLDEN)


def uniform(key: np.ndarray | int, index: np.ndarray) -> np.ndarray:
    """Uniform float64 in [0, 1) with 53 random bits at each index of the stream."""
    return (bits(key, index) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def below(key: np.ndarray | int, index: np.ndarray, bound: int) -> np.ndarray:
    """Uniform integers in [0, bound) at each index; the modulo bias is under bound / 2**64."""
    return (bits(key, index) % np.uint64(bound)).astype(np.int64)


def permute(position: np.ndarray, size: int, key: int) -> np.ndarray:
    """Where a keyed permutation of range(size) sends each position, in O(1) memory.

    A four-round Feistel network over the next even power of two, with cycle walking back into range.
    """
    if size <= 0:
        raise ValueError(f"size={size} cannot be permuted; give at least one element.")
    half = max(1, ((size - 1).bit_length() + 1) // 2)
    mask = np.uint64((1 << half) - 1)
    keys = _round_keys(key)
    values = np.asarray(position, dtype=np.uint64)
    pending = np.ones(values.shape, dtype=bool)
    result = values.copy()
    while pending.any():
        left, right = result[pending] >> np.uint64(half), result[pending] & mask
        for round_key in keys:
            left, right = right, left ^ (bits(round_key, right) & mask)
        result[pending] = (left << np.uint64(half)) | right
        pending = result >= np.uint64(size)
    return result.astype(np.int64)


@lru_cache(maxsize=256)
def _round_keys(key: int) -> list[int]:
    return [derive(key, "feistel", number) for number in range(4)]
