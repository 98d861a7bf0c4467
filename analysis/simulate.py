"""Planted studies, drawn many times: `python -m analysis.simulate` prints coverage, error and power of every estimator.

A study has run, cluster and item effects of known size. `coverage` is how often the 95% interval holds the planted value,
`error` how often a null study has at least one verdict in a family of tests (Holm), `power` how often a planted effect of
that size is found. Two to five runs; shares in the middle and near 0 and 1; losses; correlations; contrasts of a grid; means
of groups of tasks. Shares of studies have a Monte Carlo error of their own, which is printed, and which a verdict allows for.
"""

import sys
from dataclasses import dataclass

import hydra
import numpy as np
from omegaconf import DictConfig

from analysis import inference
from analysis.inference import Bounds
from analysis.planted_studies import Simulation, kinds
from analysis.render import text
from analysis.tables import Table
from analysis.uncertainty import holm

FAMILY = 6  # tests of a question, as many as a suite's largest usual family
BATCH = 400  # studies drawn at a time
EFFECT = 3.0  # planted, in standard deviations of the estimates of null studies
LEAST, MOST = 0.93, 0.97  # coverage of an interval of 95%
DIFFERENCES = ("loss_difference", "share_difference", "without_items", "grid_contrast", "group_difference")
SURE = 2.0  # Monte Carlo errors beyond a limit that make a verdict


@dataclass(frozen=True)
class Calibration:
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


def calibrations(studies: int, seed: int = 0) -> list[Calibration]:
    """Every estimator on every kind of study, each drawn `studies` times."""
    generator = np.random.default_rng(seed)
    rows = []
    for section, study, runs, draw in kinds():
        rows.append(Calibration(section, study, runs, *_measured(draw, studies, generator), studies))
    return rows


def _measured(draw: Simulation, studies: int, generator: np.random.Generator) -> tuple[float, float, float]:
    """Coverage (with and without an effect), family-wise error of null studies after Holm, and power of one test."""
    null, covered = _drawn(draw, studies, generator, 0.0)
    if not _has_null(draw):
        return float(covered.mean()), float("nan"), float("nan")
    planted, also = _drawn(draw, studies, generator, EFFECT * float(null.value.std()))
    families = np.nan_to_num(null.p, nan=1.0)[: studies // FAMILY * FAMILY].reshape(-1, FAMILY)
    error = np.mean([min(holm(list(family))) < 1 - inference.LEVEL for family in families])
    return float(np.concatenate([covered, also]).mean()), float(error), float((planted.p < 1 - inference.LEVEL).mean())


def _drawn(draw: Simulation, studies: int, generator: np.random.Generator, effect: float) -> tuple[Bounds, np.ndarray]:
    """The estimates of that many studies, batch by batch, and whether each interval holds the truth."""
    batches = [draw(generator, min(BATCH, studies - start), effect) for start in range(0, studies, BATCH)]
    covered = np.concatenate([(bounds.low <= truth) & (truth <= bounds.high) for bounds, truth in batches])
    return Bounds(*map(np.concatenate, zip(*(bounds for bounds, _ in batches), strict=True))), covered


def _has_null(draw: Simulation) -> bool:
    """Whether a kind of study has an effect that may be nothing: a difference or a contrast."""
    return draw.__qualname__.split(".")[0] in DIFFERENCES


def table(calibrations: list[Calibration]) -> Table:
    """Rows are kinds of studies within each estimator."""
    sections: dict[str, list[list[str]]] = {}
    for row in calibrations:
        shares = zip((row.coverage, row.error), row.doubt, strict=True)
        shown = [*(_percent(*share) for share in shares), _percent(row.power), row.verdict]
        sections.setdefault(row.section, []).append([row.study, str(row.runs), *shown])
    notes = [
        f"Coverage: of 95% intervals, over {calibrations[0].studies:,} studies without an effect and as many with one.",
        f"Error: at least one verdict in a family of {FAMILY} null tests after Holm. ±: Monte Carlo standard error.",
        f"Power: one test finds an effect of {EFFECT:g} standard deviations of the estimate.",
        f"Conservative: coverage above {MOST:.0%}. Too narrow: below {LEAST:.0%}, or an error above "
        f"{1 - inference.LEVEL:.0%}. Each by more than {SURE:g} Monte Carlo errors.",
        "With one run, the interval does not cover what another run would give.",
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
    print(text(table(calibrations(config.studies, config.seed))))


if __name__ == "__main__":
    main()
