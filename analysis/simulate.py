"""Planted studies, drawn many times: `python -m analysis.simulate` prints coverage, error and power of every estimator.

A study has run, cluster and item effects of known size. `coverage` is how often the 95% interval holds the planted value,
`error` how often a null study has at least one verdict in a family of tests (Holm), `power` how often a planted effect of
that size is found. Two to five runs; shares in the middle and near 0 and 1; losses; correlations; contrasts of a grid; means
of groups of tasks. Shares of studies have a Monte Carlo error of their own, which is printed, and which a verdict allows for.
"""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import hydra
import numpy as np
from omegaconf import DictConfig

from analysis import inference
from analysis.inference import Bounds
from analysis.render import text
from analysis.tables import Table
from analysis.uncertainty import crossing, holm

RUNS = (2, 3, 5)
FAMILY = 6  # tests of a question, as many as a suite's largest usual family
BATCH = 400  # studies drawn at a time
EFFECT = 3.0  # planted, in standard deviations of the estimates of null studies
SHARES = (0.05, 0.5, 0.95)
LEAST, MOST = 0.93, 0.97  # coverage of an interval of 95%
DIFFERENCES = ("loss_difference", "share_difference", "without_items", "grid_contrast", "group_difference")
SURE = 2.0  # Monte Carlo errors beyond a limit that make a verdict


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


@dataclass(frozen=True)
class Outcome:
    """What an estimator did on one kind of study, in shares of `studies` studies without an effect and as many with one."""

    section: str
    study: str
    runs: int
    coverage: float
    error: float
    power: float
    studies: int

    @property
    def doubt(self) -> tuple[float, float]:
        """The Monte Carlo errors of coverage and of the family-wise error, as standard errors."""
        families = self.studies // FAMILY
        of_coverage = self.coverage * (1 - self.coverage) / (2 * self.studies)
        return of_coverage**0.5, (self.error * (1 - self.error) / families) ** 0.5

    @property
    def verdict(self) -> str:
        """Whether the interval keeps its level and the tests theirs, beyond Monte Carlo error."""
        of_coverage, of_error = (SURE * doubt for doubt in self.doubt)
        if self.coverage < LEAST - of_coverage or self.error > 1 - inference.LEVEL + of_error:
            return "too narrow"
        return "conservative" if self.coverage > MOST + of_coverage else "holds"


def outcomes(studies: int, seed: int = 0) -> list[Outcome]:
    """Every estimator on every kind of study, each drawn `studies` times."""
    generator = np.random.default_rng(seed)
    found = []
    for section, study, runs, draw in kinds():
        found.append(Outcome(section, study, runs, *_measured(draw, studies, generator), studies))
    return found


Draw = Callable[[np.random.Generator, int, float], tuple[Bounds, float]]  # studies and planted effect: estimates, truth


def kinds() -> Iterator[tuple[str, str, int, Draw]]:
    """Section, kind of study, runs, and how it is drawn and estimated."""
    for noise in NOISES:
        for runs in RUNS:
            yield "Difference of losses, 40 clusters", noise.name, runs, loss_difference(noise, runs, 40)
    for runs in (1, *RUNS):
        yield "Difference of losses, unequal clusters", NOISES[1].name, runs, loss_difference(NOISES[1], runs, 30, True)
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


def loss_difference(noise: Noise, runs: int, clusters: int, unequal: bool = False) -> Draw:
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


def share_difference(share: float, runs: int) -> Draw:
    """Right answers of two members to the same questions, in clusters, on which they partly agree."""
    labels = np.repeat(np.arange(40), 5)

    def draw(generator: np.random.Generator, studies: int, truth: float) -> tuple[Bounds, float]:
        shift = truth if share <= 0.5 else -truth
        chances = [_chances(place, generator, studies, runs) for place in (share + shift, share)]
        luck = generator.random((studies, 1, 200))
        own = generator.random((2, studies, runs, 200))
        shared = generator.random((studies, 1, 200)) < 0.3  # questions on which all runs and members have the same luck
        left, right = ((np.where(shared, luck, mine) < chance) * 1.0 for mine, chance in zip(own, chances, strict=True))
        return inference.difference(left, right, labels, share=True), shift

    return draw


def one_share(share: float, runs: int) -> Draw:
    """Right answers of one member to questions in clusters."""
    labels = np.repeat(np.arange(40), 5)

    def draw(generator: np.random.Generator, studies: int, truth: float) -> tuple[Bounds, float]:
        luck, own = generator.random((studies, 1, 200)), generator.random((studies, runs, 200))
        shared = generator.random((studies, 1, 200)) < 0.3
        right = (np.where(shared, luck, own) < _chances(share, generator, studies, runs)) * 1.0
        return inference.mean(right, labels, share=True), share

    return draw


def independent_share(share: float, n: int) -> Draw:
    """Right answers of one run to independent questions."""

    def draw(generator: np.random.Generator, studies: int, truth: float) -> tuple[Bounds, float]:
        return inference.mean((generator.random((studies, 1, n)) < share) * 1.0, share=True), share

    return draw


def one_loss(noise: Noise, runs: int) -> Draw:
    """The loss of one member on documents in clusters."""
    labels = np.repeat(np.arange(40), 5)

    def draw(generator: np.random.Generator, studies: int, truth: float) -> tuple[Bounds, float]:
        values = 3 + noise.runs * (runs > 1) * generator.normal(0, 1, (studies, runs, 1))
        values = values + noise.clusters * generator.normal(0, 1, (studies, 1, 40))[..., labels]
        return inference.mean(values + noise.items * generator.normal(0, 1, (studies, runs, 200)), labels), 3.0

    return draw


def one_correlation(rho: float, n: int) -> Draw:
    """The correlation of pairs with a normal distribution."""

    def draw(generator: np.random.Generator, studies: int, truth: float) -> tuple[Bounds, float]:
        x, e = generator.normal(0, 1, (2, studies, n))
        y = rho * x + (1 - rho**2) ** 0.5 * e
        x, y = x - x.mean(-1, keepdims=True), y - y.mean(-1, keepdims=True)
        values = (x * y).sum(-1) / ((x**2).sum(-1) * (y**2).sum(-1)) ** 0.5
        return inference.correlation(values[:, None], n), rho

    return draw


def without_items(runs: int, error: float) -> Draw:
    """Scores of two members of which only the runs are known, and perhaps their errors over items of their own."""

    def draw(generator: np.random.Generator, studies: int, truth: float) -> tuple[Bounds, float]:
        left, right = generator.normal(0, 1, (2, studies, runs)) + error * generator.normal(0, 1, (2, studies, 1))
        errors = np.full((studies, runs), error)
        return inference.difference_of_runs(left + truth, right, (errors, errors) if error else None), truth

    return draw


def grid_contrast(noise: Noise, blocks: int) -> Draw:
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


def group_difference(noise: Noise, runs: int) -> Draw:
    """The mean of eight tasks of unlike sizes, with and without clusters; half of a run's effect is common to its tasks."""
    sizes, weights = (20, 40, 40, 80, 80, 120, 160, 200), [1 / 8] * 8
    between = noise.runs * (runs > 1)

    def draw(generator: np.random.Generator, studies: int, truth: float) -> tuple[Bounds, float]:
        common, found, means = generator.normal(0, 1, (studies, runs, 1)), [], []
        for place, size in enumerate(sizes):
            labels = np.arange(size) // (1 + 3 * (place % 2))
            step = truth + between * (common + generator.normal(0, 1, (studies, runs, 1))) / 2**0.5
            step = step + noise.clusters * generator.normal(0, 1, (studies, 1, size))[..., labels]
            values = step + noise.items * generator.standard_t(5, (studies, runs, size)) * 0.6**0.5
            found.append(inference.parts(values, labels))
            means.append(values.mean(-1))
        return inference.weighted(found, weights, np.stack(means, axis=-2)), truth

    return draw


def frontier_crossing(runs: int) -> Draw:
    """Where the gap of conversions closes, a line for every run."""
    budgets = np.array([0.01, 0.03, 0.1, 0.3, 0.5])

    def draw(generator: np.random.Generator, studies: int, truth: float) -> tuple[Bounds, float]:
        slopes = generator.normal(1, 0.05, (studies, runs, 1))
        values = generator.normal(0, 0.01, (studies, runs, 1)) - 0.05 * np.log(budgets / 0.1) * slopes
        found = [crossing(budgets, own + generator.normal(0, 0.005, own.shape)) for own in values]
        ends = np.array([(item.interval.low, item.interval.high) if item.interval else (0.0, np.inf) for item in found])
        places = np.array([item.x for item in found])
        return Bounds(places, ends[:, 0], ends[:, 1], np.full(studies, np.nan)), 0.1

    return draw


def _measured(draw: Draw, studies: int, generator: np.random.Generator) -> tuple[float, float, float]:
    """Coverage (with and without an effect), family-wise error of null studies after Holm, and power of one test."""
    null, covered = _drawn(draw, studies, generator, 0.0)
    if not _has_null(draw):
        return float(covered.mean()), float("nan"), float("nan")
    planted, also = _drawn(draw, studies, generator, EFFECT * float(null.value.std()))
    families = np.nan_to_num(null.p, nan=1.0)[: studies // FAMILY * FAMILY].reshape(-1, FAMILY)
    error = np.mean([min(holm(list(family))) < 1 - inference.LEVEL for family in families])
    return float(np.concatenate([covered, also]).mean()), float(error), float((planted.p < 1 - inference.LEVEL).mean())


def _drawn(draw: Draw, studies: int, generator: np.random.Generator, effect: float) -> tuple[Bounds, np.ndarray]:
    """The estimates of so many studies, batch by batch, and whether each interval holds the truth."""
    found = [draw(generator, min(BATCH, studies - start), effect) for start in range(0, studies, BATCH)]
    covered = np.concatenate([(bounds.low <= truth) & (truth <= bounds.high) for bounds, truth in found])
    return Bounds(*map(np.concatenate, zip(*(bounds for bounds, _ in found), strict=True))), covered


def _has_null(draw: Draw) -> bool:
    """Whether a kind of study has an effect that may be nothing: a difference or a contrast."""
    return draw.__qualname__.split(".")[0] in DIFFERENCES


def table(found: list[Outcome]) -> Table:
    """Rows are kinds of studies within each estimator."""
    sections: dict[str, list[list[str]]] = {}
    for row in found:
        shares = zip((row.coverage, row.error), row.doubt, strict=True)
        shown = [*(_percent(*share) for share in shares), _percent(row.power), row.verdict]
        sections.setdefault(row.section, []).append([row.study, str(row.runs), *shown])
    notes = [
        f"Coverage of 95% intervals, over {found[0].studies:,} studies without and as many with an effect. Error: a verdict in a "
        f"family of {FAMILY} null tests after Holm. ±: Monte Carlo standard error. Power: one test finds an effect of "
        f"{EFFECT:g} standard deviations of the estimate. Conservative: coverage above {MOST:.0%}; too narrow: below "
        f"{LEAST:.0%}, or an error above {1 - inference.LEVEL:.0%}; each by more than {SURE:g} Monte Carlo errors. One run is "
        "its own target: what another run would give is not in its interval."
    ]
    header = ["Study", "Runs", "Coverage", "Error", "Power", "Verdict"]
    return Table("simulation", "Planted studies", header, [*sections.items()], notes)


def _percent(value: float, doubt: float | None = None) -> str:
    if np.isnan(value):
        return ""
    return f"{100 * value:.1f}%" + ("" if doubt is None else f" ± {100 * doubt:.1f}")


@hydra.main(version_base=None, config_path="../conf", config_name="simulate")
def main(config: DictConfig) -> None:
    """The command line."""
    if config.studies < FAMILY:
        sys.exit(f"studies={config.studies} is too few; draw at least {FAMILY}.")
    print(text(table(outcomes(config.studies, config.seed))))


if __name__ == "__main__":
    main()
