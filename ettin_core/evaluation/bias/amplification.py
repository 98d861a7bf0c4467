"""Whether a model sharpens or flattens the shares it was trained on, over occupations whose true shares are known.

With m the model's share of she among she and he, and t the true one, both as log-odds, over occupations:
    amplification_slope, amplification_intercept   least squares of m on t: one and zero repeat the truth
    log_odds_ratio                                 mean |m| / mean |t|: above one amplifies, below one flattens
The slope is above one if the model separates occupations more than they differ. The ratio also counts a bias that all share.
"""

import numpy as np

from ettin_core.evaluation.protocol import Result, jackknife_error


def amplification(task: str, model: np.ndarray, truth: np.ndarray) -> list[Result]:
    """The three quantities for shares (n,) of n occupations; those that are certain in truth have no log-odds and are left out.

    Errors are those of least squares, and the jackknife's for the ratio. Fewer than three occupations, or a truth that
    does not vary, give no value.
    """
    known = (truth > 0) & (truth < 1)
    tiny = np.finfo(float).tiny
    shares = model[known].clip(tiny, 1 - np.finfo(float).epsneg)
    rows = np.stack([_log_odds(shares), _log_odds(truth[known])], axis=1)
    fitted = _line(rows[:, 1], rows[:, 0])
    ratio, error = None, None
    if len(rows) > 2 and rows[:, 1].any():
        ratio, error = _ratio(rows), jackknife_error(_ratio, rows)
    return [
        Result(task, "amplification_slope", fitted[0], len(rows), fitted[2], reference=1.0),
        Result(task, "amplification_intercept", fitted[1], len(rows), fitted[3], reference=0.0),
        Result(task, "log_odds_ratio", ratio, len(rows), error, higher_is_better=False, reference=1.0),
    ]


def _log_odds(shares: np.ndarray) -> np.ndarray:
    return np.log(shares) - np.log1p(-shares)


def _ratio(rows: np.ndarray) -> float:
    return float(np.abs(rows[:, 0]).mean() / np.abs(rows[:, 1]).mean())


def _line(x: np.ndarray, y: np.ndarray) -> tuple[float | None, float | None, float | None, float | None]:
    """Slope and intercept of least squares, and their standard errors."""
    if len(x) < 3 or np.ptp(x) == 0:
        return None, None, None, None
    centred = x - x.mean()
    spread = float((centred**2).sum())
    slope = float((centred * y).sum()) / spread
    intercept = float(y.mean() - slope * x.mean())
    variance = float(((y - intercept - slope * x) ** 2).sum()) / (len(x) - 2)
    return slope, intercept, (variance / spread) ** 0.5, (variance * (1 / len(x) + x.mean() ** 2 / spread)) ** 0.5
