"""Studies drawn from the records of one: as many runs, items and clusters, effects of the sizes that the records show.

Each cluster of a drawn study is one of the records', in one of their seeds, with all sides (members, cells) together; so sizes,
the distribution of values, hard and easy items and what the sides share are real. How much of it is common to all runs is set
so that the items' noise and the noise of items within runs are as estimated (`inference`, analysis of variance): with that
probability a run has the common cluster, else one of its own. Run effects are normal, with each side's own estimated variance.
The truth is the exact mean of what is drawn from. 0/1 items stay so: an effect turns wrong answers into right ones, or back.
"""

from dataclasses import dataclass

import numpy as np

from analysis.inference import cluster_variance, in_clusters


@dataclass(frozen=True)
class Source:
    """What studies are drawn from.

    `values` (sides, seeds, items) has items sorted by cluster, cluster c being `sizes[c]` items from `starts[c]`. `truth`
    (sides,) are their means, `deviations` (sides,) those of run effects, `common` is how probable the common cluster is.
    """

    values: np.ndarray
    starts: np.ndarray
    sizes: np.ndarray
    order: np.ndarray
    truth: np.ndarray
    deviations: np.ndarray
    common: float
    choices: bool

    @property
    def labels(self) -> np.ndarray:
        """The cluster of every item."""
        return np.repeat(np.arange(len(self.sizes)), self.sizes)

    @property
    def varies(self) -> bool:
        """Whether any two values of a side differ."""
        return bool(np.ptp(self.values, axis=(1, 2)).max() > 0)


def source(values: np.ndarray, clusters: np.ndarray | None) -> Source:
    """What the values (sides, seeds, items) of a study are drawn from; `clusters` (items,) names those of the items."""
    values = np.asarray(values, dtype=float)
    named = np.arange(values.shape[-1]) if clusters is None else np.unique(clusters, return_inverse=True)[1]
    order = np.argsort(named, kind="stable")
    values, sizes = values[..., order], np.bincount(named)
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    choices = bool(np.isin(values, (0.0, 0.5, 1.0)).all())
    deviations, common = _estimated(values, np.repeat(np.arange(len(sizes)), sizes))
    if not choices:  # run effects are drawn anew; those of choices go, as a donor's seed is drawn for each cluster
        values = values - values.mean(-1, keepdims=True) + values.mean((1, 2), keepdims=True)
    of_clusters = np.add.reduceat(values.mean(1), starts, axis=-1) / sizes
    return Source(values, starts, sizes, order, of_clusters.mean(-1), deviations, common, choices)


def _estimated(values: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, float]:
    """Standard deviations of each side's run effects, and the probability of a common cluster, by analysis of variance.

    What all sides share in an item or run is left out where there are several: no difference has it.
    """
    sides, seeds, n = values.shape
    profile, left = values.mean(1), values - values.mean(1, keepdims=True)
    if sides > 1:
        profile, left = profile - profile.mean(0), left - left.mean(0)
    if seeds == 1:
        return np.zeros(sides), 1.0
    freedom = (seeds - 1) * max(1, sides - 1)
    runs = left.mean(-1)
    sums, sizes = in_clusters(left - runs[..., None], labels)
    within = float(np.nansum(cluster_variance(sums, sizes / n))) / n**2 / freedom
    sums, _ = in_clusters(profile - profile.mean(-1, keepdims=True), labels)
    items = float(np.nansum(cluster_variance(sums, sizes / n))) / n**2 / max(1, sides - 1)
    squares = (runs**2).sum(-1)
    variance = max(0.0, float(squares.sum()) / freedom - within)
    share = squares / squares.sum() if squares.sum() > 0 else np.full(sides, 1 / sides)
    common = max(0.0, 1 - within / seeds / items) ** 0.5 if items > 0 else 0.0
    return np.sqrt(variance * sides * share), common


def draw(
    origin: Source, generator: np.random.Generator, studies: int, shift: np.ndarray, runs: np.ndarray | None = None
) -> np.ndarray:
    """Values (sides, studies, seeds, items) of that many studies whose means are the truth plus a `shift` of each side.

    `runs` are standard normal run effects (sides, studies, seeds); left out, they are drawn. Items are sorted by cluster.
    """
    sides, seeds, _ = origin.values.shape
    groups = len(origin.sizes)
    donors = np.broadcast_to(generator.integers(groups, size=(studies, 1, groups)), (studies, seeds, groups))
    if origin.common < 1:
        alone = generator.integers(groups, size=(studies, seeds, groups))
        donors = np.where(generator.random((studies, seeds, groups)) < origin.common, donors, alone)
    places = origin.starts[donors]
    if len(origin.order) > groups:
        first = np.floor(generator.random((studies, 1, groups)) * origin.sizes[donors]).astype(int)
        step = np.arange(len(origin.order)) - np.repeat(origin.starts, origin.sizes)
        labels = origin.labels
        places = places[..., labels] + (first[..., labels] + step) % origin.sizes[donors][..., labels]
    if seeds > 1:
        picked = generator.integers(seeds, size=(studies, seeds, groups))
        places = places + len(origin.order) * (picked[..., origin.labels] if len(origin.order) > groups else picked)
    values = np.ascontiguousarray(origin.values.reshape(sides, -1)[:, places])
    if runs is None:
        runs = generator.normal(0, 1, (sides, studies, seeds))
    effects = runs * origin.deviations[:, None, None]
    if not origin.choices:
        return values + (effects + shift[:, None, None])[..., None]
    return _turned(values, origin.truth, shift, effects, generator)


def _turned(
    values: np.ndarray, means: np.ndarray, shift: np.ndarray, effects: np.ndarray, generator: np.random.Generator
) -> np.ndarray:
    """0/1 items with right answers made wrong, or wrong ones right, until their mean is moved by the shift and effects.

    Effects end where no answer is left to turn, on both sides alike, so that their mean stays none.
    """
    moved = np.clip(means + shift, 0.0, 1.0)
    room = np.minimum(moved, 1 - moved)[:, None, None]
    for before, steps in (
        (means, (moved - means)[:, None, None] + 0 * effects),
        (moved, np.clip(effects, -room, room)),
    ):
        if not np.any(steps):
            continue
        before = before[:, None, None]
        with np.errstate(divide="ignore", invalid="ignore"):
            chance = np.nan_to_num(np.where(steps > 0, steps / (1 - before), -steps / before))
        turned = generator.random(values.shape, dtype=np.float32) < chance[..., None]
        values = np.where(turned, (steps > 0)[..., None] * 1.0, values)
    return values


def shifts_of_null(origin: Source) -> np.ndarray:
    """Shifts (sides,) that make all means one, in the middle, so that shares can move on all sides."""
    return np.asarray(origin.truth.mean() - origin.truth)
