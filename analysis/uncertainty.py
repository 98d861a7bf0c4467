"""Intervals, paired tests and their correction.

One seed: the uncertainty is over test items, taken as independent. Several seeds: every run is averaged first and the
uncertainty is over seeds, which is the larger and more honest of the two.
"""

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from scipy import optimize, stats

LEVEL = 0.95
RESAMPLES = 10_000
BATCH = 500  # resamples held in memory at a time


@dataclass(frozen=True)
class Interval:
    """A 95% interval."""

    low: float
    high: float

    @property
    def contains_zero(self) -> bool:
        """Whether no difference is among the values that the interval keeps."""
        return self.low <= 0.0 <= self.high


@dataclass(frozen=True)
class Difference:
    """A paired difference, its interval, and the p-value of the hypothesis that there is none."""

    value: float
    interval: Interval
    p: float
    n: int


def proportion(value: float, n: int) -> Interval:
    """Wilson's interval of a share of `n` items; it stays inside [0, 1] and is not empty at the ends."""
    interval = stats.binomtest(round(value * n), n).proportion_ci(LEVEL, method="wilson")
    return Interval(float(interval.low), float(interval.high))


def around(value: float, standard_error: float) -> Interval:
    """The normal interval of a mean with a known standard error."""
    reach = float(stats.norm.ppf(0.5 + LEVEL / 2)) * standard_error
    return Interval(value - reach, value + reach)


def over_seeds(values: np.ndarray) -> Interval:
    """Student's interval of the mean of a few runs; wide for two or three, as it has to be."""
    reach = float(stats.t.ppf(0.5 + LEVEL / 2, len(values) - 1)) * float(np.std(values, ddof=1)) / len(values) ** 0.5
    return Interval(float(np.mean(values)) - reach, float(np.mean(values)) + reach)


def paired_items(left: np.ndarray, right: np.ndarray, seed: int) -> Difference:
    """The mean difference over paired items: percentile bootstrap for the interval, sign flips for the p-value.

    Sign flips (the exact randomisation test of paired differences) stay honest for a handful of items, where a bootstrap
    p-value does not.
    """
    generator = np.random.default_rng(seed)
    steps, counts = np.unique(np.asarray(left, dtype=float) - np.asarray(right, dtype=float), return_counts=True)
    n = int(counts.sum())
    observed = float(steps @ counts / n)
    means = np.concatenate([_resampled_means(steps, counts, generator) for _ in range(RESAMPLES // BATCH)])
    low, high = np.quantile(means, [0.5 - LEVEL / 2, 0.5 + LEVEL / 2])
    flips = 2 * generator.binomial(counts, 0.5, size=(RESAMPLES, len(counts))) - counts
    extreme = np.abs(flips @ steps / n) >= abs(observed) - 1e-12
    return Difference(observed, Interval(float(low), float(high)), (1 + int(extreme.sum())) / (1 + RESAMPLES), n)


def _resampled_means(steps: np.ndarray, counts: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Means of bootstrap resamples, drawn as counts per distinct value: the same law, far fewer draws for 0/1 items."""
    n = counts.sum()
    return generator.multinomial(n, counts / n, size=BATCH) @ steps / n


def paired_seeds(left: np.ndarray, right: np.ndarray) -> Difference:
    """The mean difference over runs paired by seed, with Student's interval and test."""
    steps = np.asarray(left, dtype=float) - np.asarray(right, dtype=float)
    interval = over_seeds(steps)
    spread = float(np.std(steps, ddof=1))
    p = float(stats.ttest_1samp(steps, 0.0).pvalue) if spread > 0 else float(np.all(steps == 0))
    return Difference(float(np.mean(steps)), interval, p, len(steps))


def holm(p_values: list[float]) -> list[float]:
    """Holm's step-down correction: the chance of one false difference in the whole family stays below 5%."""
    order = np.argsort(p_values, kind="stable")
    scaled = np.asarray(p_values, dtype=float)[order] * np.arange(len(p_values), 0, -1)
    corrected = np.empty(len(p_values))
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(scaled))
    return [float(value) for value in corrected]


def blocked_contrasts(values: np.ndarray, weights: np.ndarray) -> list[Difference]:
    """Contrasts of cell means in a complete design, (cells, blocks) with weights (contrasts, cells) that sum to zero.

    Exactly what least squares gives for effect-coded cells with blocks as fixed effects: the error term is what is left
    of the variance between runs, with (cells - 1)(blocks - 1) degrees of freedom. One block leaves none, and no interval.
    """
    cells, blocks = values.shape
    residual = values - values.mean(axis=1, keepdims=True) - values.mean(axis=0, keepdims=True) + values.mean()
    freedom = (cells - 1) * (blocks - 1)
    estimates = weights @ values.mean(axis=1)
    if freedom == 0:
        unknown = Interval(float("nan"), float("nan"))
        return [Difference(float(estimate), unknown, float("nan"), blocks) for estimate in estimates]
    errors = np.sqrt((residual**2).sum() / freedom * (weights**2).sum(axis=1) / blocks)
    return [
        _students(float(estimate), float(error), freedom, blocks)
        for estimate, error in zip(estimates, errors, strict=True)
    ]


def _students(value: float, error: float, freedom: int, n: int) -> Difference:
    """Student's interval and test of an estimate with a standard error; without any spread only zero is zero."""
    reach = float(stats.t.ppf(0.5 + LEVEL / 2, freedom)) * error
    p = 2 * float(stats.t.sf(abs(value) / error, freedom)) if error > 0 else float(value == 0)
    return Difference(value, Interval(value - reach, value + reach), p, n)


@dataclass(frozen=True)
class Crossing:
    """Where the line value = level + slope * log(x) is zero: the x, and its interval, None where it is unbounded.

    `changes` counts how often the mean value changes sign from one level to the next, `bends` says that no line fits.
    """

    x: float
    interval: Interval | None
    level: float
    slope: float
    n: int
    changes: int
    bends: bool = False


def crossing(x: np.ndarray, values: np.ndarray) -> Crossing:
    """The zero of a line fitted to `values` (units, levels) against log `x` (levels): seeds are units, or paired items.

    Every unit has its own line; their mean is the fit and their spread its uncertainty, so whatever differs between units
    is in it. The interval is Fieller's (1954), which is unbounded when the slope cannot be told from zero. Values that bend
    (their quadratic part differs from zero in a t-test over units) have the zero of the line between the two levels around
    it if they change sign once, and else none (x is not a number).
    """
    line = _line(x, values)
    if not _bend(x, values):
        return line
    if line.changes != 1:
        return replace(line, x=float("nan"), interval=None, bends=True)
    before = int(np.flatnonzero(np.diff(values.mean(axis=0) > 0))[0])
    return replace(_line(x[before : before + 2], values[:, before : before + 2]), bends=True)


def _line(x: np.ndarray, values: np.ndarray) -> Crossing:
    design = np.column_stack([np.ones(len(x)), np.log(x)])
    lines = values @ np.linalg.pinv(design).T  # (units, 2)
    level, slope = (float(value) for value in lines.mean(axis=0))
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        zero = float(np.exp(-level / np.float64(slope)))
    changes = int(np.diff(values.mean(axis=0) > 0).sum())
    return Crossing(zero, _fieller(lines), level, slope, len(lines), changes)


def _bend(x: np.ndarray, values: np.ndarray) -> bool:
    """Whether the part of the values that is quadratic in log x differs from zero at 5%, by a t-test over units."""
    units, levels = values.shape
    if units < 2 or levels < 3:
        return False
    logs = np.log(x)
    line = np.column_stack([np.ones(levels), logs])
    curve = logs**2 - line @ (np.linalg.pinv(line) @ logs**2)
    parts = values @ (curve / np.linalg.norm(curve))
    if abs(parts.mean()) <= 1e-9 * np.abs(values).max():  # rounding
        return False
    error = float(parts.std(ddof=1)) / units**0.5
    return _students(float(parts.mean()), error, units - 1, units).p < 1 - LEVEL


def _fieller(lines: np.ndarray) -> Interval | None:
    """Every x at which the mean line's interval contains zero; None when that is no bounded interval."""
    units = len(lines)
    if units < 2:
        return None
    level, slope = lines.mean(axis=0)
    (level_variance, both), (_, slope_variance) = np.cov(lines.T) / units
    t = float(stats.t.ppf(0.5 + LEVEL / 2, units - 1)) ** 2
    square, middle, constant = slope**2 - t * slope_variance, level * slope - t * both, level**2 - t * level_variance
    if square <= 0:
        return None
    reach = np.sqrt(max(0.0, middle**2 - square * constant))
    with np.errstate(over="ignore"):
        low, high = np.exp([(-middle - reach) / square, (-middle + reach) / square])
    return Interval(float(low), float(high))


def detectable(deviation: float, n: int, power: float = 0.8) -> float:
    """The difference of two means of `n` runs each that a t-test at 5% finds with that power, for runs that deviate so."""
    return deviation * _detectable_deviations(n, power)


@lru_cache
def _detectable_deviations(n: int, power: float) -> float:
    freedom = 2 * (n - 1)
    edge = float(stats.t.ppf(0.5 + LEVEL / 2, freedom))

    spreads = np.sqrt(stats.chi2.ppf((np.arange(4000) + 0.5) / 4000, freedom) / freedom)  # of the estimated deviation

    def surplus(effect: float) -> float:
        shift = effect * (n / 2) ** 0.5  # the mean over estimated deviations: scipy's noncentral t fails far out
        return float(np.mean(stats.norm.cdf(shift - edge * spreads) + stats.norm.cdf(-shift - edge * spreads))) - power

    ample = 2 * (edge + float(stats.t.ppf(power, freedom))) * (2 / n) ** 0.5
    return float(optimize.brentq(surplus, 1e-3 * ample, ample))
