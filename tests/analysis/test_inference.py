"""The estimators behind every verdict: known values, what cannot be told, and planted studies."""

import numpy as np
import pytest
from scipy import stats

from analysis import inference
from analysis.simulate import calibrations, table
from ettin_core.foundation.intervals import wilson_ends


def test_equal_differences_over_two_seeds_have_the_items_noise_and_a_real_gap_is_found() -> None:
    generator = np.random.default_rng(0)
    documents = generator.normal(0.84, 0.13 * 60**0.5, 60)
    documents += 0.84 - documents.mean()
    right = generator.normal(5, 1, (1, 60)) + np.array([[0.0], [0.2]])
    bounds = inference.difference(right + documents, right)
    assert bounds.value == pytest.approx(0.84) and bounds.p < 0.001
    assert 0.4 < bounds.low < 0.7 and 1.0 < bounds.high < 1.3  # not of no width
    small = inference.difference(right + documents - 0.84 + 0.05, right)
    assert small.p > 0.5 and small.low < 0 < small.high


def test_without_spread_and_without_items_nothing_can_be_told() -> None:
    alike = inference.difference_of_runs(np.array([0.7, 0.7]), np.array([0.5, 0.5]))
    assert np.isnan(alike.p) and np.isnan(alike.low)
    rounding = inference.difference_of_runs(np.array([0.1 + 0.2, 0.3]), np.array([0.1, 0.1]))
    assert np.isnan(rounding.p)
    with_errors = inference.difference_of_runs(
        np.array([0.7, 0.7]), np.array([0.5, 0.5]), (np.array([0.1, 0.1]), np.array([0.1, 0.1]))
    )
    assert with_errors.high - with_errors.value == pytest.approx(1.96 * 0.02**0.5, rel=1e-3)


def test_one_run_is_students_interval_of_its_items() -> None:
    left, right = np.random.default_rng(1).random((2, 1, 80))
    bounds, known = inference.difference(left, right), stats.ttest_rel(left[0], right[0])
    low, high = known.confidence_interval()
    assert (float(bounds.low), float(bounds.high), float(bounds.p)) == pytest.approx((low, high, known.pvalue))


def test_clusters_widen_an_interval_as_their_means_do() -> None:
    generator = np.random.default_rng(2)
    labels = np.repeat(np.arange(20), 10)
    values = generator.normal(0, 1, 20)[labels] + generator.normal(0, 0.1, 200)
    clustered, independent = inference.mean(values[None], labels), inference.mean(values[None])
    means = values.reshape(20, 10).mean(1)
    low, high = stats.t.interval(0.95, 19, means.mean(), stats.sem(means))
    assert (float(clustered.low), float(clustered.high)) == pytest.approx((low, high))
    assert clustered.high - clustered.low > 2.5 * (independent.high - independent.low)
    shuffled = generator.permutation(200)  # the order of items is nothing to them
    assert inference.mean(values[None, shuffled], labels[shuffled]).low == pytest.approx(low)


def test_several_runs_never_have_less_noise_than_their_items_or_than_students_over_runs() -> None:
    left, right = np.random.default_rng(3).normal(0, 1, (2, 3, 40))
    bounds = inference.difference(left, right)
    steps = left.mean(-1) - right.mean(-1)
    items = stats.t.ppf(0.975, 39) * stats.sem((left - right).mean(0))
    alone = stats.t.ppf(0.975, 2) * stats.sem(steps)
    assert bounds.high - bounds.value >= max(items, alone) - 1e-12


def test_a_share_of_answers_that_are_each_runs_own_has_the_width_of_all_of_them() -> None:
    generator = np.random.default_rng(0)
    answers = (generator.random((2000, 5, 400)) < 0.3).astype(float)
    bounds = inference.mean(answers, share=True)
    width = float(np.median(bounds.high - bounds.low)) / (2 * 1.96 * (0.3 * 0.7 / 2000) ** 0.5)
    assert 1 < width < 1.5  # of all answers; those of one run would be 2.2 times as wide
    # A right answer in each run says nothing of how runs differ: ten items, not thirty answers.
    few, ten = (
        inference.mean(np.eye(3, 10)[None], share=True),
        wilson_ends(np.array([0.1]), np.array([1.959964**2 / 10])),
    )
    assert few.high == pytest.approx(ten[1], rel=1e-6)


def test_a_share_is_wilsons_stays_within_bounds_and_is_never_certain() -> None:
    hits = np.repeat([1.0, 0.0], [2, 38])[None]
    z, share, n = 1.959964, 0.05, 40
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    bounds = inference.mean(hits, share=True)
    assert (bounds.low + bounds.high) / 2 == pytest.approx(centre) and bounds.low > 0
    for value in (0.0, 1.0):
        edge = inference.mean(np.full((1, 40), value), share=True)
        assert 0 <= edge.low < edge.high <= 1 and edge.high - edge.low == pytest.approx(0.088, abs=1e-3)
    apart = inference.mean(np.stack([np.ones(40), np.zeros(40)]), share=True)
    assert apart.low >= 0 and apart.high <= 1 and apart.high - apart.low > 0.9


def test_pairs_that_agree_claim_nothing_and_a_handful_claims_little() -> None:
    same = np.array([[0.0, 1.0, 1.0, 0.0]])
    bounds = inference.difference(same, same, share=True)
    assert bounds.low < 0 < bounds.high and bounds.p == 1.0
    few = inference.difference(np.ones((1, 4)), np.zeros((1, 4)), share=True)
    assert few.p > 0.01


def test_a_correlation_is_fishers_and_a_constant_prediction_is_not_certain() -> None:
    bounds = inference.correlation(np.array([0.9]), 12)
    low, high = np.tanh(np.arctanh(0.9) + np.array([-1, 1]) * stats.norm.ppf(0.975) / 3)
    assert (float(bounds.low), float(bounds.high)) == pytest.approx((low, high), abs=1e-4)
    constant = inference.correlation(np.array([0.0]), 103, np.array([0.0]))
    assert constant.low == pytest.approx(-0.19, abs=0.01) and constant.high == pytest.approx(0.19, abs=0.01)


@pytest.mark.slow
def test_planted_studies_are_covered_and_null_ones_have_no_verdicts() -> None:
    rows = calibrations(1200, seed=3)
    for row in rows:
        assert row.coverage >= 0.93 and (row.coverage <= 0.97 or row.runs == 2 or "hare" in row.section), row
        assert not row.error > 0.09, row  # 200 families: 0.05 and two and a half standard errors
    errors = [row.error for row in rows if not np.isnan(row.error)]
    assert np.mean(errors) <= 0.05
    assert all(row.power > 0.15 for row in rows if not np.isnan(row.power))
    assert len(table(rows).sections) > 6


def test_a_planted_study_of_each_kind_is_drawn_and_told() -> None:
    rows = calibrations(48)
    assert {row.runs for row in rows} == {1, 2, 3, 5} and all(0.7 <= row.coverage <= 1 for row in rows)
    assert table(rows).header[2] == "Coverage"
