"""Corrections for many tests, where a line crosses zero, and what a number of runs can show (means and tests: `inference`)."""

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from scipy import optimize, stats

from analysis.observed import estimator

LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """A 95% interval."""

    low: float
    high: float

    @property
    def contains_zero(self) -> bool:
        """Whether no difference is among the values that the interval keeps."""
        return self.low <= 0.0 <= self.high


def holm(p_values: list[float]) -> list[float]:
    """Holm's step-down correction: the chance of one false difference in the whole family stays below 5%."""
    order = np.argsort(p_values, kind="stable")
    scaled = np.asarray(p_values, dtype=float)[order] * np.arange(len(p_values), 0, -1)
    corrected = np.empty(len(p_values))
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(scaled))
    return [float(value) for value in corrected]


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


@estimator
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
    return error > 0 and 2 * float(stats.t.sf(abs(parts.mean()) / error, units - 1)) < 1 - LEVEL


def _fieller(lines: np.ndarray) -> Interval | None:
    """Every x at which the mean line's interval contains zero; None when that is no bounded interval, or none can be told."""
    units = len(lines)
    if units < 2 or np.ptp(lines, axis=0).max() <= 1e-12 * np.abs(lines).max():
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


def could_see(reach: float, level: float = LEVEL, power: float = 0.8) -> float:
    """The true difference that a test finds with that power, where `reach` is half of the interval at the test's level.

    By normal quantiles: with the two degrees of freedom of three seeds it is 2 to 9 % more than is needed, with ten 2 %.
    """
    quantile = float(stats.norm.ppf(0.5 + level / 2))
    return reach * (quantile + float(stats.norm.ppf(power))) / quantile


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
