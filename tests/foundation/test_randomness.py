"""Random streams: pure functions of their keys, the same for ever, and independent of one another."""

import hashlib
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ettin_core.foundation.randomness import (
    below,
    bits,
    derive,
    mix,
    permute,
    truncated_normal,
    uniform,
    uniform_between,
)

# The first outputs of splitmix64 from state 0, as every other implementation of it prints them.
SPLITMIX64 = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F, 0xF88BB8A8724C81EC]


def correlation(left: np.ndarray, right: np.ndarray) -> float:
    """Pearson's correlation of two samples."""
    return float(np.corrcoef(left, right)[0, 1])


def test_bits_are_splitmix64() -> None:
    assert bits(0, np.arange(4)).tolist() == SPLITMIX64


def test_golden_values_of_every_function() -> None:
    assert derive(0, "order") == 6060931640893210202
    assert derive(17, "order", "pretrain", 3) == 3407838265264960687
    assert derive(-1, "ünï") == 6840355749642718297
    far = np.array([0, 1, 10**12, 2**64 - 1], dtype=np.uint64)
    expected = [0x29147359D48BC6F0, 0x884124F1CA4D8191, 0x19C5198E4B0AAD4F, 0x39522FFC53A115A3]
    assert bits(derive(17, "order"), far).tolist() == expected
    assert uniform(7, np.arange(3)).tolist() == [0.5243459416779314, 0.30213903321684277, 0.9409962312900013]
    assert below(7, np.arange(8), 10).tolist() == [5, 5, 8, 5, 7, 4, 8, 2]
    assert permute(np.arange(10), 10, 3).tolist() == [1, 4, 0, 7, 5, 3, 9, 2, 6, 8]
    assert permute(np.array([0, 1, 10**12]), 10**12 + 7, 5).tolist() == [702491358456, 940375318248, 141114033609]


def test_derive_is_half_of_a_sha256_prefix() -> None:
    assert derive(3, "masks", "decay") == int(hashlib.sha256(b"3|masks|decay").hexdigest()[:16], 16) // 2


@given(size=st.integers(1, 5000), key=st.integers(0, 2**63 - 1))
def test_permute_is_a_bijection(size: int, key: int) -> None:
    assert np.array_equal(np.sort(permute(np.arange(size), size, key)), np.arange(size))


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 15, 16, 17, 63, 64, 65, 255, 256, 257, 4095, 4096, 4097, 65537])
def test_permute_is_a_bijection_at_powers_of_two(size: int) -> None:
    assert np.array_equal(np.sort(permute(np.arange(size), size, 9)), np.arange(size))


@given(size=st.integers(1, 3000), key=st.integers(0, 2**63 - 1), data=st.data())
def test_one_position_equals_the_whole_permutation(size: int, key: int, data: st.DataObject) -> None:
    position = data.draw(st.integers(0, size - 1))
    assert permute(np.array([position]), size, key)[0] == permute(np.arange(size), size, key)[position]


def test_permute_keeps_shape_and_does_not_write_to_its_input() -> None:
    positions = np.arange(12).reshape(3, 4)
    assert permute(positions, 12, 1).shape == (3, 4)
    assert np.array_equal(positions.ravel(), np.arange(12))


def test_permutations_under_different_keys_agree_by_chance_only() -> None:
    size = 10_000
    fixed = sum(int((permute(np.arange(size), size, key) == np.arange(size)).sum()) for key in range(20))
    assert fixed < 60  # Poisson with mean 20


def test_permute_sends_a_position_everywhere_equally_often() -> None:
    counts = np.bincount([int(permute(np.array([0]), 10, key)[0]) for key in range(2000)], minlength=10)
    chi_square = float(((counts - 200) ** 2 / 200).sum())
    assert chi_square < 27.9  # 0.999 quantile at 9 degrees of freedom


@pytest.mark.parametrize(
    ("size", "seen", "keys", "bound"),
    [
        (2, 2, 6000, 28.4),
        (3, 3, 24_000, 40.9),
        (4, 4, 6000, 77.0),
        (5, 5, 6000, 217.3),
        (6, 4, 6000, 516.1),
        (7, 3, 6000, 333.2),
        (8, 3, 6000, 487.4),
    ],
)
def test_permute_reaches_every_order_of_few_rows_equally_often(size: int, seen: int, keys: int, bound: float) -> None:
    """Chi-square over the orders of the first `seen` of few rows; `bound` is the quantile of 1 - 10^-7."""
    orders = Counter(
        tuple(permute(np.arange(seen), size, derive(5, "small", size, key)).tolist()) for key in range(keys)
    )
    cells = math.perm(size, seen)
    expected = keys / cells
    chi_square = sum((count - expected) ** 2 / expected for count in orders.values()) + (cells - len(orders)) * expected
    assert chi_square < bound


def test_permute_leaves_no_trend() -> None:
    size = 20_000
    assert abs(correlation(permute(np.arange(size), size, 4), np.arange(size))) < 4 / size**0.5


@pytest.mark.parametrize("size", [0, -3])
def test_permute_refuses_an_empty_range(size: int) -> None:
    with pytest.raises(ValueError, match=f"size={size} cannot be permuted"):
        permute(np.array([0]), size, 1)


def test_uniform_has_the_moments_of_the_uniform_distribution() -> None:
    count = 200_000
    sample = uniform(derive(1, "moments"), np.arange(count))
    assert sample.min() >= 0 and sample.max() < 1
    assert abs(sample.mean() - 1 / 2) < 4 * (1 / 12 / count) ** 0.5
    assert abs(sample.var() - 1 / 12) < 4 * (1 / 180 / count) ** 0.5
    assert abs(correlation(sample[1:], sample[:-1])) < 4 / count**0.5


def test_every_bit_is_fair() -> None:
    count = 20_000
    words = bits(derive(2, "fair"), np.arange(count))
    shares = np.array([((words >> np.uint64(bit)) & np.uint64(1)).mean() for bit in range(64)])
    assert np.abs(shares - 0.5).max() < 4.5 * 0.5 / count**0.5


def test_below_stays_in_range_and_is_uniform() -> None:
    counts = np.bincount(below(5, np.arange(70_000), 7), minlength=7)
    assert len(counts) == 7
    assert float(((counts - 10_000) ** 2 / 10_000).sum()) < 22.5  # 0.999 quantile at 6 degrees of freedom


def unmix(value: int) -> int:
    """The inverse of `mix`, in Python's own integers."""
    for shift, factor in ((31, 0x94D049BB133111EB), (27, 0xBF58476D1CE4E5B9), (30, 1)):
        source = value
        for _ in range(64 // shift):
            source = value ^ (source >> shift)
        value = source * pow(factor, -1, 2**64) % 2**64
    return value


@given(st.integers(0, 2**64 - 1))
def test_mix_is_a_bijection(value: int) -> None:
    assert unmix(int(mix(np.array([value], dtype=np.uint64))[0])) == value


@pytest.mark.parametrize(
    "other_key",
    [
        derive(0, "masks"),
        derive(1, "order"),
        derive(0, "order", 0),
        derive(0, "order", "decay"),
        derive(0, "order") + 1,
    ],
)
def test_streams_of_other_names_seeds_and_keys_are_uncorrelated(other_key: int) -> None:
    count = 40_000
    here = derive(0, "order")
    assert here != other_key
    for lag in (0, 1, 2):
        left, right = uniform(here, np.arange(count)), uniform(other_key, np.arange(count) + lag)
        assert abs(correlation(left, right)) < 4.5 / count**0.5


def test_an_array_of_keys_gives_each_its_own_stream() -> None:
    keys = np.array([[3], [4]], dtype=np.uint64)
    both = uniform(keys, np.arange(5)[None, :])
    assert np.array_equal(both, np.stack([uniform(3, np.arange(5)), uniform(4, np.arange(5))]))


def test_order_of_evaluation_does_not_matter() -> None:
    index = np.arange(1000)
    assert np.array_equal(bits(8, index)[::-1], bits(8, index[::-1]))


def test_truncated_normal_has_the_quantiles_of_one() -> None:
    """Each draw is the quantile (by another algorithm, of the standard library) of its uniform number."""
    from statistics import NormalDist

    draws, uniforms = truncated_normal(7, 40_000, 0.02), uniform(7, np.arange(40_000, dtype=np.uint64))
    normal = NormalDist(0.0, 0.02)
    low, high = normal.cdf(-0.04), normal.cdf(0.04)
    wanted = np.array([normal.inv_cdf(low + value * (high - low)) for value in uniforms])
    assert (
        draws.dtype == np.float32 and np.abs(draws - wanted).max() < 4e-9
    )  # half a float32's last place at 0.04 is 2e-9
    assert np.array_equal(draws[:100], truncated_normal(7, 100, 0.02)), "the stream does not depend on its length"
    assert abs(draws).max() <= 0.04


def test_uniform_between_fills_its_range() -> None:
    draws = uniform_between(3, 10_000, 0.25)
    assert -0.25 <= draws.min() < -0.2499 and 0.2499 < draws.max() <= 0.25
    assert abs(draws.mean()) < 0.25 * 3**-0.5 * 4 / 100
