"""Studies with run, cluster and item effects of known size, each kind with the estimator that reports would use on it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from analysis import inference
from analysis.inference import Bounds
from analysis.uncertainty import crossing

RUNS = (2, 3, 5)
SHARES = (0.05, 0.5, 0.95)


@dataclass(frozen=True)
class Noise:
    """Standard deviations: between runs (of a difference), of clusters, and of items within runs."""

    name: str
    runs: float
    clusters: float
    items: float


# Of losses in nats, 200 documents: the error of a mean is runs / sqrt(runs) and 0.4 / sqrt(200) or so.
NOISES = (
    Noise("runs alike", 0.0, 0.25, 0.3),
    Noise("runs as items", 0.04, 0.25, 0.3),
    Noise("runs apart", 0.15, 0.25, 0.3),
)


# Given a generator, the number of studies and the planted effect: the estimates of these studies, and the truth.
Simulation = Callable[[np.random.Generator, int, float], tuple[Bounds, float]]


def kinds() -> Iterator[tuple[str, str, int, Simulation]]:
    """Section, kind of study, runs, and how it is drawn and estimated."""
    for noise in NOISES:
        for runs in RUNS:
            yield "Difference of losses, 40 clusters", noise.name, runs, loss_difference(noise, runs, 40)
    for runs in (1, *RUNS):
        yield "Difference of losses, unequal clusters", NOISES[1].name, runs, loss_difference(NOISES[1], runs, 30, True)
        yield "Difference of losses, 6 clusters", NOISES[1].name, runs, loss_difference(NOISES[1], runs, 6)
    for share in SHARES:
        for runs in (1, *RUNS):
            yield "Difference of shares, 40 clusters", f"about {share}", runs, share_difference(share, runs)
    for share in SHARES:
        for runs in (1, *RUNS):
            yield "Share of 0/1 items, 40 clusters", f"{share}", runs, one_share(share, runs)
        yield "Share of 0/1 items", f"{share}, 40 items", 1, independent_share(share, 40)
    for runs in (1, *RUNS):
        yield "Loss of one member, 40 clusters", NOISES[1].name, runs, one_loss(NOISES[1], runs)
    for rho, n in ((0.0, 12), (0.9, 12), (0.5, 60)):
        yield "Correlation", f"{rho}, {n} pairs", 1, one_correlation(rho, n)
    for runs in RUNS:
        yield "Difference without items", "runs alone", runs, without_items(runs, 0.0)
        yield "Difference without items", "runs and errors", runs, without_items(runs, 0.2)
        yield "Contrast of a 2 x 2 grid", NOISES[1].name, runs, grid_contrast(NOISES[1], runs)
    for runs in (1, *RUNS):
        yield "Difference of means of 8 tasks", NOISES[1].name, runs, group_difference(NOISES[1], runs)
    for runs in (3, 5):
        yield "Crossing of a frontier", "at 0.1", runs, frontier_crossing(runs)


def loss_difference(noise: Noise, runs: int, clusters: int, unequal: bool = False) -> Simulation:
    """Losses of two members on the same documents in clusters of five (or of one to twelve)."""
    sizes = np.arange(clusters) % 12 + 1 if unequal else np.full(clusters, 5)
    labels = np.repeat(np.arange(clusters), sizes)
    between = noise.runs * (runs > 1)  # one run is its own target

    def draw(generator: np.random.Generator, studies: int, truth: float) -> tuple[Bounds, float]:
        common = generator.normal(0, 1, (studies, 1, len(labels))) + generator.normal(0, 0.1, (studies, runs, 1))
        left = common + truth + between / 2**0.5 * generator.normal(0, 1, (studies, runs, 1))
        left = left + noise.clusters * generator.normal(0, 1, (studies, 1, clusters))[..., labels]
        right = common + between / 2**0.5 * generator.normal(0, 1, (studies, runs, 1))
        left, right = (
            side + noise.items / 2**0.5 * generator.standard_t(5, (studies, runs, len(labels))) * 0.6**0.5
            for side in (left, right)
        )
        return inference.difference(left, right, labels), truth

    return draw


def _chances(mean: float, generator: np.random.Generator, studies: int, runs: int) -> np.ndarray:
    """Chances of 0/1 items, (studies, runs, 40 clusters x 5), whose mean is `mean` but for runs and clusters.

    Clusters are drawn from a beta distribution, so that the mean is exact; several runs shift all by up to a tenth of it.
    """
    strength = 8.0
    of_cluster = generator.beta(mean * strength, (1 - mean) * strength, (studies, 1, 40))
    room = 0.1 * min(mean, 1 - mean) * (runs > 1)
    of_run = generator.uniform(-room, room, (studies, runs, 1))
    return np.clip(np.repeat(of_cluster, 5, axis=-1) + of_run, 0.0, 1.0)


def share_difference(share: float, runs: int) -> Simulation:
    """Right answers of two members to the same questions, in clusters, on which they partly agree."""
    labels = np.repeat(np.arange(40), 5)

    def draw(generator: np.random.Generator, studies: int, truth: float) -> tuple[Bounds, float]:
        shift = truth if share <= 0.5 else -truth
        chances = [_chances(place, generator, studies, runs) for place in (share + shift, share)]
        luck = generator.random((studies, 1, 200))
        individual = generator.random((2, studies, runs, 200))
        shared = generator.random((studies, 1, 200)) < 0.3  # questions on which all runs and members have the same luck
        left, right = (
            (np.where(shared, luck, number) < chance) * 1.0 for number, chance in zip(individual, chances, strict=True)
        )
        return inference.difference(left, right, labels, share=True), shift

    return draw


def one_share(share: float, runs: int) -> Simulation:
    """Right answers of one member to questions in clusters."""
    labels = np.repeat(np.arange(40), 5)

    def draw(generator: np.random.Generator, studies: int, truth: float) -> tuple[Bounds, float]:
        luck, individual = generator.random((studies, 1, 200)), generator.random((studies, runs, 200))
        shared = generator.random((studies, 1, 200)) < 0.3
        right = (np.where(shared, luck, individual) < _chances(share, generator, studies, runs)) * 1.0
        return inference.mean(right, labels, share=True), share

    return draw


def independent_share(share: float, n: int) -> Simulation:
    """Right answers of one run to independent questions."""

    def draw(generator: np.random.Generator, studies: int, truth: float) -> tuple[Bounds, float]:
        return inference.mean((generator.random((studies, 1, n)) < share) * 1.0, share=True), share

    return draw


def one_loss(noise: Noise, runs: int) -> Simulation:
    """The loss of one member on documents in clusters."""
    labels = np.repeat(np.arange(40), 5)

    def draw(generator: np.random.Generator, studies: int, truth: float) -> tuple[Bounds, float]:
        values = 3 + noise.runs * (runs > 1) * generator.normal(0, 1, (studies, runs, 1))
        values = values + noise.clusters * generator.normal(0, 1, (studies, 1, 40))[..., labels]
        return inference.mean(values + noise.items * generator.normal(0, 1, (studies, runs, 200)), labels), 3.0

    return draw


def one_correlation(rho: float, n: int) -> Simulation:
    """The correlation of pairs with a normal distribution."""

    def draw(generator: np.random.Generator, studies: int, truth: float) -> tuple[Bounds, float]:
        x, e = generator.normal(0, 1, (2, studies, n))
        y = rho * x + (1 - rho**2) ** 0.5 * e
        x, y = x - x.mean(-1, keepdims=True), y - y.mean(-1, keepdims=True)
        values = (x * y).sum(-1) / ((x**2).sum(-1) * (y**2).sum(-1)) ** 0.5
        return inference.correlation(values[:, None], n), rho

    return draw


def without_items(runs: int, error: float) -> Simulation:
    """Scores of two members of which only the runs are known, and perhaps their errors over items of their own."""

    def draw(generator: np.random.Generator, studies: int, truth: float) -> tuple[Bounds, float]:
        left, right = generator.normal(0, 1, (2, studies, runs)) + error * generator.normal(0, 1, (2, studies, 1))
        errors = np.full((studies, runs), error)
        return inference.difference_of_runs(left + truth, right, (errors, errors) if error else None), truth

    return draw


def grid_contrast(noise: Noise, blocks: int) -> Simulation:
    """The main effect of a 2 x 2 grid of cells on the same clustered documents, blocks being seeds."""
    weight = np.array([0.5, 0.5, -0.5, -0.5])
    labels = np.repeat(np.arange(40), 5)

    def draw(generator: np.random.Generator, studies: int, truth: float) -> tuple[Bounds, float]:
        values = truth * np.array([1.0, 1.0, 0.0, 0.0])[:, None, None] + generator.normal(0, 1, (studies, 1, 1, 200))
        values = values + noise.runs * generator.normal(0, 1, (studies, 4, blocks, 1))
        values = values + noise.clusters * generator.normal(0, 1, (studies, 4, 1, 40))[..., labels]
        values = values + noise.items * generator.normal(0, 1, (studies, 4, blocks, 200))
        return inference.contrasts(values, weight[None], labels)[0], truth

    return draw


def group_difference(noise: Noise, runs: int) -> Simulation:
    """The mean of eight tasks of unlike sizes, with and without clusters; half of a run's effect is common to its tasks."""
    sizes, weights = (20, 40, 40, 80, 80, 120, 160, 200), [1 / 8] * 8
    between = noise.runs * (runs > 1)

    def draw(generator: np.random.Generator, studies: int, truth: float) -> tuple[Bounds, float]:
        common, components, means = generator.normal(0, 1, (studies, runs, 1)), [], []
        for place, size in enumerate(sizes):
            labels = np.arange(size) // (1 + 3 * (place % 2))
            step = truth + between * (common + generator.normal(0, 1, (studies, runs, 1))) / 2**0.5
            step = step + noise.clusters * generator.normal(0, 1, (studies, 1, size))[..., labels]
            values = step + noise.items * generator.standard_t(5, (studies, runs, size)) * 0.6**0.5
            components.append(inference.variance_components(values, labels))
            means.append(values.mean(-1))
        return inference.weighted(components, weights, np.stack(means, axis=-2)), truth

    return draw


def frontier_crossing(runs: int) -> Simulation:
    """Where the gap of conversions closes, a line for every run."""
    budgets = np.array([0.01, 0.03, 0.1, 0.3, 0.5])

    def draw(generator: np.random.Generator, studies: int, truth: float) -> tuple[Bounds, float]:
        slopes = generator.normal(1, 0.05, (studies, runs, 1))
        values = generator.normal(0, 0.01, (studies, runs, 1)) - 0.05 * np.log(budgets / 0.1) * slopes
        crossings = [crossing(budgets, gaps + generator.normal(0, 0.005, gaps.shape)) for gaps in values]
        ends = np.array(
            [(item.interval.low, item.interval.high) if item.interval else (0.0, np.inf) for item in crossings]
        )
        places = np.array([item.x for item in crossings])
        return Bounds(places, ends[:, 0], ends[:, 1], np.full(studies, np.nan)), 0.1

    return draw
