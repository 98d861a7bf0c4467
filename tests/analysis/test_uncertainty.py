"""Intervals cover, corrections match hand-worked examples, and tiny samples claim nothing."""

import numpy as np
import pytest
from scipy import stats

from analysis.uncertainty import Interval, around, holm, over_seeds, paired_items, paired_seeds, proportion


def test_wilson_agrees_with_the_textbook_and_never_vanishes() -> None:
    interval = proportion(0.8, 50)
    z, share, n = 1.959964, 0.8, 50
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    reach = z * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    assert (interval.low, interval.high) == pytest.approx((centre - reach, centre + reach), abs=1e-5)
    assert proportion(1.0, 20).low < 0.9 and proportion(1.0, 20).high <= 1.0


def test_normal_interval() -> None:
    interval = around(0.5, 0.1)
    assert (interval.low, interval.high) == pytest.approx((0.304, 0.696), abs=1e-3)


def test_paired_bootstrap_covers_the_true_difference() -> None:
    generator = np.random.default_rng(3)
    covered = 0
    for trial in range(120):
        shared = generator.random(150)
        left, right = (shared < 0.8).astype(float), (shared + generator.normal(0, 0.1, 150) < 0.7).astype(float)
        truth = 0.8 - 0.7
        difference = paired_items(left, right, seed=trial)
        covered += difference.interval.low <= truth <= difference.interval.high
    assert 0.88 <= covered / 120 <= 0.99


def test_paired_bootstrap_agrees_with_scipy() -> None:
    generator = np.random.default_rng(5)
    left, right = generator.random(80), generator.random(80) * 0.8
    ours = paired_items(left, right, seed=1).interval
    theirs = stats.bootstrap(
        (left, right),
        lambda one, other, axis: np.mean(one - other, axis=axis),
        paired=True,
        vectorized=True,
        n_resamples=10_000,
        method="percentile",
        rng=np.random.default_rng(2),
    ).confidence_interval
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=6e-3)


def test_randomisation_p_is_exact_for_a_handful_of_items() -> None:
    difference = paired_items(np.ones(5), np.zeros(5), seed=0)
    assert difference.p == pytest.approx(2 / 2**5, abs=0.01)  # five equal signs, two-sided
    assert difference.value == 1.0 and difference.n == 5


def test_no_difference_is_not_distinguishable() -> None:
    same = np.array([0.0, 1.0, 1.0, 0.0])
    difference = paired_items(same, same, seed=0)
    assert difference.interval.contains_zero and difference.p == 1.0


def test_the_same_seed_gives_the_same_interval() -> None:
    left, right = np.arange(20.0), np.arange(20.0)[::-1] * 0.9
    assert paired_items(left, right, seed=7) == paired_items(left, right, seed=7)


def test_seeds_use_students_t() -> None:
    values = np.array([0.70, 0.74, 0.72])
    low, high = stats.t.interval(0.95, 2, values.mean(), stats.sem(values))
    assert over_seeds(values) == Interval(pytest.approx(low), pytest.approx(high))
    difference = paired_seeds(values, values - np.array([0.1, 0.12, 0.11]))
    assert difference.p < 0.01 and difference.n == 3 and not difference.interval.contains_zero


def test_holm_by_hand() -> None:
    # sorted 0.01, 0.02, 0.03, 0.04 times 4, 3, 2, 1 gives 0.04, 0.06, 0.06, 0.04, made monotone
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.6, 0.5]) == pytest.approx([1.0, 1.0])
    assert holm([]) == []
