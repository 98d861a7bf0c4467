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
TABLE_SIZE = 1024

_CUT_MASS = 0.9544997361036416  # of a normal distribution between minus and plus two standard deviations
_BLOCK = 1 << 14  # numbers drawn at a time: they stay in the processor's cache
# Acklam's rational approximation of the normal quantile in its central region (2003), highest power first. Up to the cut its
# relative error is below 2e-8, less than the rounding of a float32.
_NUMERATOR = (
    -3.969683028665376e01,
    2.209460984245205e02,
    -2.759285104469687e02,
    1.383577518672690e02,
    -3.066479806614716e01,
    2.506628277459239e00,
)
_DENOMINATOR = (
    -5.447609879822406e01,
    1.615858368580409e02,
    -1.556989798598866e02,
    6.680131188771972e01,
    -1.328068155288572e01,
    1.0,
)


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


def truncated_normal(key: int, count: int, std: float) -> np.ndarray:
    """The first `count` numbers (float32) of a stream, normal with standard deviation `std` before they are cut at twice it.

    The quantile of a uniform draw, by sums, products and quotients in float64 only: each is rounded as IEEE 754 says, so the
    numbers are the same on every processor, which those of a vectorised logarithm or error function are not.
    """
    values = np.empty(count, dtype=np.float32)
    for start in range(0, count, _BLOCK):
        index = np.arange(start, min(start + _BLOCK, count), dtype=np.uint64)
        mass = (uniform(key, index) - 0.5) * _CUT_MASS
        square = mass * mass
        values[start : start + _BLOCK] = (
            _polynomial(_NUMERATOR, square) / _polynomial(_DENOMINATOR, square) * mass * std
        )
    return values


def _polynomial(coefficients: tuple[float, ...], values: np.ndarray) -> np.ndarray:
    """A polynomial by Horner's rule, highest power first."""
    result = values * coefficients[0]
    for coefficient in coefficients[1:-1]:
        result += coefficient
        result *= values
    return result + coefficients[-1]


def uniform_between(key: int, count: int, bound: float) -> np.ndarray:
    """The first `count` numbers (float32) of a stream, uniform in [-bound, bound)."""
    return ((2.0 * uniform(key, np.arange(count, dtype=np.uint64)) - 1.0) * bound).astype(np.float32)


def below(key: np.ndarray | int, index: np.ndarray, bound: int) -> np.ndarray:
    """Uniform integers in [0, bound) at each index; the modulo bias is under bound / 2**64."""
    return (bits(key, index) % np.uint64(bound)).astype(np.int64)


def permute(position: np.ndarray, size: int, key: int) -> np.ndarray:
    """Where a keyed permutation of range(size) sends each position, in memory that does not grow with the size.

    A four-round Feistel network over the next even power of two, with cycle walking back into range. Over few bits such a
    network does not reach all permutations equally often (a chi-square test sees it up to 64 elements), so up to
    TABLE_SIZE elements are shuffled in a table. Raises ValueError for a size that is not positive.
    """
    if size <= 0:
        raise ValueError(f"size={size} cannot be permuted; give at least one element.")
    if size <= TABLE_SIZE:
        return _table(size, key)[position]
    return _feistel(np.asarray(position, dtype=np.uint64), size, key)


def _feistel(values: np.ndarray, size: int, key: int) -> np.ndarray:
    half = ((size - 1).bit_length() + 1) // 2
    mask = np.uint64((1 << half) - 1)
    keys = _round_keys(key)
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
def _table(size: int, key: int) -> np.ndarray:
    """A whole permutation: the order of as many random numbers."""
    return np.argsort(bits(derive(key, "table"), np.arange(size)), kind="stable")


@lru_cache(maxsize=256)
def _round_keys(key: int) -> list[int]:
    return [derive(key, "feistel", number) for number in range(4)]
