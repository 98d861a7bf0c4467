"""Wilson's interval of a share (1927)."""

import numpy as np

Z = 1.959963984540054  # of a two-sided 95% interval


def wilson_ends(value: np.ndarray, width: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both ends of Wilson's interval; `width` is z**2 / n."""
    centre = (value + width / 2) / (1 + width)
    half = np.sqrt(width * value * (1 - value) + width**2 / 4) / (1 + width)
    return np.clip(centre - half, 0.0, 1.0), np.clip(centre + half, 0.0, 1.0)


def wilson_interval(value: float, n: int) -> tuple[float, float]:
    """The 95% interval of a share of `n` independent items."""
    low, high = wilson_ends(np.array(value), np.array(Z**2 / n))
    return float(low), float(high)
