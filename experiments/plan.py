"""python -m experiments.plan: the published grid composed, forecast and audited before anything is trained."""

import itertools
import os
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from hydra import compose
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException

from ettin_core.foundation.errors import UserError, invalid
from ettin_core.foundation.storage import write_text
from ettin_core.foundation.structures import build
from ettin_core.pairs.audit import NOT_MATCHED, Certificate, audit
from ettin_core.training.run import PlacementConfig, RunConfig
from experiments.door import CONFIGURATIONS, RunStopped, entry, to_plain
from experiments.forecast import UNKNOWN, Machine, forecast
from experiments.plan_table import Cell, cell_of, notes, table, to_csv
from experiments.requests import TrainingParts
from experiments.study import CONVERSIONS, StudyRequest, conversion_of

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
    """Both members of a size and their conversions, as runs on a corpus that is not there yet, with the verdicts.

    `certificates` are by pair: left member (or parent) and right member (or child).
    """

    size: str
    runs: dict[str, RunConfig]
    certificates: dict[tuple[str, str], Certificate]

    @property
    def matched(self) -> bool:
        """Whether every pair keeps its contract."""
        return all(certificate.verdict != NOT_MATCHED for certificate in self.certificates.values())


@entry("plan", PlanRequest)
def main(request: PlanRequest) -> None:
    """Print the table and the verdicts, and write them with the schedules and their figure."""
    overrides = list(HydraConfig.get().overrides.task)
    plans = [plan_size(at_size(size, overrides)) for size in request.sizes]
    cells = [cell for plan in plans for cell in cells_of(plan, request)]
    verdicts = [line for plan in plans for line in verdicts_of(plan)]
    text = "\n".join([table(cells), "", *verdicts, "", *notes(cells)])
    print(text)
    out = Path(request.out)
    write_text(out / "plan.txt", text + "\n")
    write_text(out / "plan.csv", to_csv([asdict(cell) for cell in cells]))
    write_text(out / "schedules.csv", to_csv([point for plan in plans for point in curves(plan)]))
    if request.figure:
        draw(out)
    if not all(plan.matched for plan in plans):
        sys.exit(EXIT_NOT_MATCHED)


def at_size(size: str, overrides: list[str]) -> PlanRequest:
    """The request composed again at a size. Raises ValueError for names that are not there."""
    if any(override.startswith("size=") for override in overrides):
        raise invalid("size", size, "is set for each cell", f"use sizes=[{size}]")
    try:
        return build(PlanRequest, to_plain(compose("plan", [*overrides, f"size={size}"])))
    except HydraException as error:
        raise UserError(str(error).strip().split("\n")[0]) from error


def plan_size(request: PlanRequest) -> SizePlan:
    """The four runs of a size and their audits. Raises ValueError for plans that are refused."""
    parts = TrainingParts(
        request.size, request.recipe, request.optimizer, request.seeds, request.precision, request.checkpoint
    )
    runs = {
        name: parts.planned(request.members[name], request.data.vocab_size, UNKNOWN, UNKNOWN)
        for name in ("encoder", "decoder")
    }
    certificates = {("encoder", "decoder"): audit(request.contracts["pair"], runs["encoder"], runs["decoder"])}
    for child, parent in CONVERSIONS.items():
        runs[child] = conversion_of(request, child).plan(runs[parent])
        certificates[parent, child] = audit(request.contracts["conversion"], runs[parent], runs[child])
    return SizePlan(request.size.name, runs, certificates)


def verdicts_of(plan: SizePlan) -> list[str]:
    """A line for each pair: members by name, because runs have theirs only with a corpus."""
    lines = []
    for (left, right), item in plan.certificates.items():
        sentence = item.sentence().replace(item.left, left, 1).replace(item.right, right, 1)
        lines.append(f"{plan.size:<5} {sentence}")
    return lines


def cells_of(plan: SizePlan, request: PlanRequest) -> list[Cell]:
    """The cells of a size, member by member."""
    cells = []
    for run in plan.runs.values():
        told = forecast(run, PlacementConfig(), machine=request.machine)
        cells += [cell_of(run, phase, request.micro_tokens) for phase in told.phases]
    return cells


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


def draw(out: Path) -> None:
    """The figure, by the analysis room, which reads what was written."""
    command = [sys.executable, "-m", "analysis.plan_figure", f"record={(out / 'schedules.csv').resolve()}"]
    command += [f"out={out.resolve()}"]
    paths = os.pathsep.join([str(CONFIGURATIONS.parent), os.environ.get("PYTHONPATH", "")])
    if subprocess.run(command, env=os.environ | {"PYTHONPATH": paths}).returncode:
        raise RunStopped(f"the plan in {out} is complete, its figure is not: {' '.join(command)}")


if __name__ == "__main__":
    main()
