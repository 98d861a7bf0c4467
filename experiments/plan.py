"""python -m experiments.plan: the published grid composed, forecast and audited before anything is trained."""

import itertools
import sys
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from hydra.core.hydra_config import HydraConfig

from ettin_core.foundation.errors import invalid
from ettin_core.foundation.storage import write_text
from ettin_core.pairs.audit import NOT_MATCHED, Certificate
from ettin_core.planning.forecast import Machine, forecast
from ettin_core.requests.compose import composer
from ettin_core.studies.grid import StudyRequest, audits, cells_of, plan_runs
from ettin_core.studies.stages import Stage, stages_of
from ettin_core.training.config import PlacementConfig, RunConfig
from experiments.cli.entry import entry
from experiments.cli.report import analyse
from experiments.views.plan_table import PlanRow, notes, plan_row, table, to_csv

EXIT_NOT_MATCHED = 1
CURVE_POINTS = 49  # of a schedule from one knot to the next


@dataclass(frozen=True)
class PlanRequest(StudyRequest):
    """conf/plan.yaml: a study, composed once for every size of `sizes`."""

    sizes: tuple[str, ...]
    micro_tokens: int
    machine: Machine
    out: str
    figure: bool

    def __post_init__(self) -> None:
        if not self.sizes:
            raise invalid("sizes", self.sizes, "names no size", "use sizes=[17m,1b] or leave it")
        if self.micro_tokens < 1:
            raise invalid("micro_tokens", self.micro_tokens, "is not positive", "use 16384")


@dataclass(frozen=True)
class SizePlan:
    """The cells of a size as runs on a corpus that is not there yet, with the verdict on each pair of them."""

    size: str
    runs: dict[str, RunConfig]
    certificates: dict[tuple[str, str], Certificate]
    stages: dict[str, Stage]

    @property
    def matched(self) -> bool:
        """Whether every pair keeps its contract."""
        return all(certificate.verdict != NOT_MATCHED for certificate in self.certificates.values())


@entry("plan", PlanRequest)
def main(request: PlanRequest) -> None:
    """Print the table and the verdicts, and write them with the schedules and their figure."""
    overrides = list(HydraConfig.get().overrides.task)
    plans = [plan_size(request, size, overrides) for size in request.sizes]
    rows = [row for plan in plans for row in rows_of(plan, request)]
    verdicts = [line for plan in plans for line in verdicts_of(plan)]
    text = "\n".join([table(rows), "", *verdicts, "", *notes(rows)])
    print(text)
    out = Path(request.out)
    write_text(out / "plan.txt", text + "\n")
    write_text(out / "plan.csv", to_csv([asdict(row) for row in rows]))
    write_text(out / "schedules.csv", to_csv([point for plan in plans for point in curves(plan)]))
    if request.figure:
        analyse(
            "plan_figure", f"the plan in {out} is complete, its figure is not", record=out / "schedules.csv", out=out
        )
    if not all(plan.matched for plan in plans):
        sys.exit(EXIT_NOT_MATCHED)


def plan_size(request: PlanRequest, size: str, overrides: list[str]) -> SizePlan:
    """The runs of a size and their audits. Raises ValueError for unknown names and for plans that cannot be trained."""
    if any(override.startswith("size=") for override in overrides):
        raise invalid("size", size, "is set for each cell", f"use sizes=[{size}]")
    cells = cells_of(request, [*overrides, f"size={size}"], composer("plan", PlanRequest))
    runs = plan_runs(cells, lambda data: None)
    return SizePlan(size, runs, audits(cells, runs), stages_of(request, cells))


def verdicts_of(plan: SizePlan) -> list[str]:
    """A line for each pair, by members (runs have their names only with a corpus), and for each stage."""
    lines = []
    for (left, right), item in plan.certificates.items():
        names = [plan.runs[name].member for name in (left, right)]
        sentence = item.sentence().replace(item.left, names[0], 1).replace(item.right, names[1], 1)
        lines.append(f"{plan.size:<5} {sentence}")
    jobs = Counter((stage.label, stage.config.command) for stage in plan.stages.values())
    lines += [f"{plan.size:<5} stage {label}: {count} jobs of {command}" for (label, command), count in jobs.items()]
    return lines


def rows_of(plan: SizePlan, request: PlanRequest) -> list[PlanRow]:
    """A row for every phase of every cell of a size."""
    rows = []
    for run in plan.runs.values():
        forecasted = forecast(run, PlacementConfig(), machine=request.machine)
        rows += [plan_row(run, phase, request.micro_tokens) for phase in forecasted.phases]
    return rows


def curves(plan: SizePlan) -> list[dict[str, Any]]:
    """The learning rate of every phase against its tokens: its knots and points between them."""
    points = []
    for run in plan.runs.values():
        for phase in run.phases:
            knots = [place for place, _ in phase.schedule.knots()]
            parts = [np.linspace(first, last, CURVE_POINTS) for first, last in itertools.pairwise(knots)]
            places = {int(place) for place in np.concatenate(parts)}
            points += [
                {
                    "size": run.size,
                    "member": run.member,
                    "phase": phase.name,
                    "tokens": place,
                    "rate": phase.learning_rate * phase.schedule.factor(place),
                }
                for place in sorted(places)
            ]
    return points


if __name__ == "__main__":
    main()
