"""Means of items and their paired differences: estimate, interval and p-value from runs (seeds) and items together.

The model has a run effect a_s (seed x member), a cluster effect c, and what is left:  value[s, i] = mean + a_s + c + e.
So the variance of the mean is  runs + items, where `items` is cluster-robust (CR2: Bell and McCaffrey 2002) over the
items' means of all runs, and `runs` is the variance of the runs' means less the share of it that items explain.

An interval is the wider of two: Student's over runs and items together, and Student's over the runs alone. A difference is
paired by run: the seed, and so the order of the data, is the same on both sides. So the error never falls below the items'
noise, and a small spread between two runs, which is a matter of luck, does not make it narrow. The degrees of freedom of the
sum are weighted by the parts of the variance, not by their squares: with two to five runs Satterthwaite's interval is too
narrow. This one is nearly always wider than its level asks; where most of the items' noise is each run's own and a test's
level is 0.8 %, its error reaches 1.0 % at five runs and 1.2 % at ten (numerical integration). `analysis.simulate` shows both.

Every function takes leading axes: arrays of (..., runs, items) give arrays of (...), so that studies are simulated in bulk.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from scipy import stats

from analysis.observed import estimator
from ettin_core.foundation.intervals import wilson_ends

LEVEL = 0.95
Z = float(stats.norm.ppf(0.5 + LEVEL / 2))
RARE = 5  # items of a kind, below which a normal approximation of their number is poor
TINY = 1e-24  # a variance below this share of the squared values is rounding


class Bounds(NamedTuple):
    """Estimates with 95% intervals and p-values against no effect, as arrays; not a number: cannot be told."""

    value: np.ndarray
    low: np.ndarray
    high: np.ndarray
    p: np.ndarray


@dataclass(frozen=True)
class VarianceComponents:
    """Where the variance of a mean comes from, (...): between runs (`residual` of it is items), and items in clusters."""

    value: np.ndarray
    runs: np.ndarray
    residual: np.ndarray
    items: np.ndarray
    run_freedom: int
    item_freedom: float | np.ndarray


def in_clusters(values: np.ndarray, clusters: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Sums of (..., items) by cluster, (..., clusters), and the clusters' sizes; without clusters each item is its own."""
    values = np.asarray(values, dtype=float)
    if clusters is None:
        return values, np.ones(values.shape[-1])
    _, place, sizes = np.unique(np.asarray(clusters), return_inverse=True, return_counts=True)
    if len(sizes) == values.shape[-1]:
        return values, np.ones(len(sizes))
    order = np.argsort(place, kind="stable")
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    return np.add.reduceat(values[..., order], starts, axis=-1), sizes.astype(float)


@estimator
def variance_components(values: np.ndarray, clusters: np.ndarray | None = None) -> VarianceComponents:
    """The variance components of the mean of (..., runs, items). One run has no variance between runs (not a number)."""
    sums, sizes = in_clusters(values, clusters)
    runs, n = sums.shape[-2], sizes.sum()
    means = sums.sum(-1) / n
    value = means.mean(-1)
    share = sizes / n
    common = sums.mean(-2) - value[..., None] * sizes
    items = cluster_variance(common, share) / n**2
    freedom = max(1.0, 1 / float((share**2).sum()) - 1)  # effective clusters less one (Carter et al. 2017)
    if runs == 1:
        unknown = np.full(value.shape, np.nan)
        return VarianceComponents(value, unknown, unknown, items, 0, freedom)
    left = sums - sums.mean(-2, keepdims=True) - (means - value[..., None])[..., None] * sizes
    residual = cluster_variance(left, share).sum(-1) / (runs - 1) / runs / n**2
    return VarianceComponents(value, means.var(-1, ddof=1) / runs, residual, items, runs - 1, freedom)


def cluster_variance(sums: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Variance of a total from centred cluster sums (..., clusters) and the clusters' shares of the items: CR2.

    A single cluster has none (not a number).
    """
    if len(share) < 2:
        return np.full(sums.shape[:-1], np.nan)
    return (sums**2 / (1 - share)).sum(-1)


@estimator
def difference(
    left: np.ndarray,
    right: np.ndarray,
    clusters: np.ndarray | None = None,
    share: bool = False,
    level: float = LEVEL,
) -> Bounds:
    """The mean of left - right, both (..., runs, items), paired by run and by item, with the interval at a level.

    For shares of 0/1 items the items' noise is that with one more item of either sign (Bonett and Price 2012), so that a
    handful of items that agree claims nothing.
    """
    return judged(components_of_difference(left, right, clusters, share), _largest(left) + _largest(right), level)


@estimator
def components_of_difference(
    left: np.ndarray, right: np.ndarray, clusters: np.ndarray | None = None, share: bool = False
) -> VarianceComponents:
    """The variance components of `difference`."""
    left, right = np.asarray(left, dtype=float), np.asarray(right, dtype=float)
    components = variance_components(left - right, clusters)
    if share:
        components = replace(components, items=components.items + 2 / left.shape[-2] / left.shape[-1] ** 2)
    return components


@estimator
def difference_of_runs(
    left: np.ndarray,
    right: np.ndarray,
    errors: tuple[np.ndarray, np.ndarray] | None = None,
    level: float = LEVEL,
) -> Bounds:
    """The mean of left - right, both (..., runs), where no items are known, paired by run.

    `errors` are the standard errors over items of both, (..., runs); the items' noise is then that of unpaired items, which
    is the most that it can be where both sides answered the same ones.
    """
    left, right = np.asarray(left, dtype=float), np.asarray(right, dtype=float)
    components = components_of_runs(left - right, None if errors is None else errors[0] ** 2 + errors[1] ** 2)
    return judged(components, _largest(left) + _largest(right), level)


@estimator
def mean_of_runs(values: np.ndarray, errors: np.ndarray | None = None) -> Bounds:
    """The mean of (..., runs) where no items are known; `errors` are their standard errors over items."""
    values = np.asarray(values, dtype=float)
    return judged(components_of_runs(values, None if errors is None else errors**2), _largest(values))


@estimator
def correlation(values: np.ndarray, n: int, errors: np.ndarray | None = None) -> Bounds:
    """The mean of correlations of `n` pairs, (..., runs), on Fisher's scale; a constant prediction has an interval too."""
    values = np.asarray(values, dtype=float)
    inside = np.clip(values, -1 + 1e-9, 1 - 1e-9)
    least = np.full(values.shape, 1 / max(1, n - 3) ** 0.5)
    if errors is not None:
        known = np.isfinite(errors) & (errors > 0)
        least = np.where(known, errors / (1 - inside**2), least)
    bounds = mean_of_runs(np.arctanh(inside), least)
    return Bounds(values.mean(-1), np.tanh(bounds.low), np.tanh(bounds.high), bounds.p)


@estimator
def contrasts(
    values: np.ndarray, weights: np.ndarray, clusters: np.ndarray | None = None, errors: np.ndarray | None = None
) -> list[Bounds]:
    """Contrasts of cell means in a complete design: values (..., cells, blocks, items), weights (contrasts, cells).

    A contrast is taken within each block (seed), and its interval is that of its mean over blocks, as a difference's is: from
    its own spread, with blocks - 1 degrees of freedom. The estimate is least squares' with blocks as fixed effects. Pooling
    the spread of all cells has more degrees of freedom, and is too narrow for cells whose runs vary more than others'. One
    block has no interval. Where no items are known, `values` have one and `errors` are their standard errors, (..., cells,
    blocks).
    """
    values = np.asarray(values, dtype=float)
    bounds = []
    for weight in np.asarray(weights, dtype=float):
        of_blocks = np.einsum("...cbi,c->...bi", values, weight)
        if of_blocks.shape[-2] == 1:
            value = of_blocks.mean((-2, -1))
            bounds.append(Bounds(value, *([np.full(value.shape, np.nan)] * 3)))
            continue
        if errors is None:
            components = variance_components(of_blocks, clusters)
        else:
            variances = np.einsum("...cb,c->...b", np.asarray(errors, dtype=float) ** 2, weight**2)
            components = components_of_runs(of_blocks[..., 0], variances)
        bounds.append(judged(components, _largest(values) * len(weight)))
    return bounds


@estimator
def components_of_runs(values: np.ndarray, variances: np.ndarray | None) -> VarianceComponents:
    """Components where only runs are known: their common items' noise is the mean of the runs', and none of their spread."""
    runs = values.shape[-1]
    unknown = np.full(values.shape[:-1], np.nan)
    spread = values.var(-1, ddof=1) / runs if runs > 1 else unknown
    items = unknown if variances is None else np.broadcast_to(variances, values.shape).mean(-1)
    return VarianceComponents(values.mean(-1), spread, np.zeros(values.shape[:-1]), items, runs - 1, 1e7)


@estimator
def weighted(components: Sequence[VarianceComponents], weights: Sequence[float], values: np.ndarray) -> Bounds:
    """The weighted sum of means over tasks, which share runs and no items; `values` are the means, (..., tasks, runs).

    A run moves all its tasks, so the spread between runs is that of the sums; the items' noise of tasks adds up, with the
    degrees of freedom of a sum (Welch 1947). A task whose items' noise is not known leaves the runs' spread alone.
    """
    squares = np.asarray(weights, dtype=float) ** 2
    sums = np.einsum("...tr,t->...r", np.asarray(values, dtype=float), np.asarray(weights, dtype=float))
    each = np.stack([part.items for part in components], axis=-1) * squares
    items = each.sum(-1)
    freedoms = np.stack(np.broadcast_arrays(*(part.item_freedom for part in components)), axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        freedom = np.nan_to_num(items**2 / (each**2 / freedoms).sum(-1), nan=1.0, posinf=1e7)
    residual = sum(square * np.nan_to_num(part.residual) for square, part in zip(squares, components, strict=True))
    whole = replace(components_of_runs(sums, None), items=items, residual=np.asarray(residual), item_freedom=freedom)
    return judged(whole, _largest(values) * float(np.abs(weights).sum()))


def _largest(values: np.ndarray) -> float:
    return float(np.abs(values).max(initial=0.0))


@estimator
def mean(values: np.ndarray, clusters: np.ndarray | None = None, share: bool = False) -> Bounds:
    """The mean of (..., runs, items). A `share` is within 0 and 1, and so does its interval (Wilson's, clustered)."""
    values = np.asarray(values, dtype=float)
    components = variance_components(values, clusters)
    bounds = judged(components, _largest(values))
    if not share:
        return bounds
    runs, n = values.shape[-2:]
    groups = len(in_clusters(values[..., :1, :], clusters)[1])
    if runs == 1 and groups == n > 1:  # independent 0/1 items have a known variance: no small-sample correction
        exact = Z / stats.t.ppf(0.5 + LEVEL / 2, n - 1) * ((n - 1) / n) ** 0.5
        reach = exact * (bounds.high - bounds.value)
        bounds = bounds._replace(low=bounds.value - reach, high=bounds.value + reach)
    choices = bool(np.isin(values, (0.0, 0.5, 1.0)).all())
    return wilson(bounds, n, groups, answers=n * runs if choices else None)


def judged(components: VarianceComponents, scale: float, level: float = LEVEL) -> Bounds:
    """Interval and p-value of variance components. Variance below rounding at that `scale` of values is zero."""
    floor = TINY * max(scale, 1e-30) ** 2
    items = np.where(components.items > floor, components.items, 0.0)
    unknown = np.isnan(components.items)
    if not components.run_freedom:
        reach, p = student(components.value, items, np.full(components.value.shape, components.item_freedom), level)
    else:
        runs = np.where(components.runs > floor, components.runs, 0.0)
        extra = np.maximum(0.0, runs - np.where(np.isnan(components.residual), 0.0, components.residual))
        total = extra + items
        with np.errstate(divide="ignore", invalid="ignore"):
            freedom = total / (extra / components.run_freedom + items / components.item_freedom)
        reach, p = student(components.value, total, freedom, level)
        of_runs = np.full(components.value.shape, float(components.run_freedom))
        alone, p_alone = student(components.value, runs, of_runs, level)
        reach, p = np.maximum(reach, alone), np.maximum(p, p_alone)
        unknown = unknown & (runs == 0)
    known = (reach > 0) & ~unknown
    reach, p = np.where(known, reach, np.nan), np.where(known, p, np.nan)
    return Bounds(components.value, components.value - reach, components.value + reach, p)


def student(
    value: np.ndarray, variance: np.ndarray, freedom: np.ndarray, level: float
) -> tuple[np.ndarray, np.ndarray]:
    """Reach of the interval and two-sided p of a value; without variance no reach, and p is that of certainty."""
    freedom = np.where(np.isfinite(freedom), np.clip(freedom, 1.0, 1e7), 1e7)
    error = np.sqrt(variance)
    reach = stats.t.ppf(0.5 + level / 2, freedom) * error
    with np.errstate(divide="ignore", invalid="ignore"):
        p = np.where(error > 0, 2 * stats.t.sf(np.abs(value) / error, freedom), (value == 0).astype(float))
    return reach, p


def wilson(bounds: Bounds, n: int, clusters: int, answers: int | None = None) -> Bounds:
    """A share's interval as Wilson's with the effective number of items that its reach implies (Korn and Graubard 1998).

    Of choices (0/1 items, `answers` of them in all runs) that number is at most theirs, and at most `n` where fewer than five
    items are of the rarer kind: too few to show that runs differ in them. A share of 0 or 1, or one whose items do not differ,
    has the width of as many independent items as there are `clusters`.
    """
    value = np.clip(bounds.value, 0.0, 1.0)
    spread = value * (1 - value)
    t = Z if clusters == n else stats.t.ppf(0.5 + LEVEL / 2, max(1, clusters - 1))
    reach = np.nan_to_num((bounds.high - bounds.low) / 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        implied = np.where((spread > 0) & (reach > 0), reach**2 / spread, t**2 / clusters)
    if answers is not None:
        rare = n * np.minimum(value, 1 - value) < RARE
        implied = np.maximum(implied, Z**2 / np.where(rare, n, answers))
    low, high = wilson_ends(value, implied)
    return Bounds(bounds.value, low, high, bounds.p)
