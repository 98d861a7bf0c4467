"""The cells of a study: every combination of its axes, each composed by Hydra with the overrides of the command line.

An axis is a key of the study's configuration with its levels; a knob is an axis that sets several keys at once. A conversion
is a cell for each trained cell that its `of` selects, with further axes.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ettin_core.checkpoints.retention import CheckpointConfig
from ettin_core.data.config import DataConfig
from ettin_core.data.corpus import Corpus
from ettin_core.data.preparation.plan import expected_ids
from ettin_core.evaluation.suite_config import SuiteConfig
from ettin_core.foundation.errors import invalid, unknown
from ettin_core.foundation.fields import check_name
from ettin_core.foundation.override_text import spell
from ettin_core.model.config import AdapterConfig
from ettin_core.optim.config import OptimizerConfig
from ettin_core.pairs.audit import Certificate, audit
from ettin_core.pairs.contract import Contract
from ettin_core.planning.conversion import Conversion
from ettin_core.planning.forecast import UNKNOWN
from ettin_core.planning.matching import Ruler
from ettin_core.planning.run_plan import MemberConfig, TrainingParts
from ettin_core.planning.sizes import SizeConfig
from ettin_core.records.analyses import ANALYSES
from ettin_core.records.predictions import Prediction, check_apart
from ettin_core.studies.stage_config import StageConfig, level_of
from ettin_core.studies.stale import REMEASURE, RETRAIN, check_choice
from ettin_core.training.config import PlacementConfig, RunConfig, Seeds
from ettin_core.training.phases import RecipeConfig

CONVERSION_SEED_OFFSET = 189  # the published seeds are 21 and, for conversions, 210
FORECAST_TOLERANCE = 0.03  # of a ruler: 1 % for whole steps, the rest for the error of a sample of rows
SEED = "seed"  # the axis of repetitions, which no comparison is about


@dataclass(frozen=True)
class ConversionAxes:
    """Which trained cells are converted (by levels of their axes), and the axes over which the conversion varies."""

    of: dict[str, Any]
    axes: dict[str, tuple[Any, ...]]


@dataclass(frozen=True)
class StudyRequest:
    """conf/study.yaml."""

    name: str
    claim: str
    axes: dict[str, tuple[Any, ...]]
    knobs: dict[str, tuple[str, ...]]
    leave_out: tuple[dict[str, Any], ...]
    conversions: dict[str, ConversionAxes]
    stages: dict[str, StageConfig]
    match_on: str
    rates: dict[str, float]
    predictions: tuple[Prediction, ...]
    analysis: dict[str, Any]
    size: SizeConfig
    member: MemberConfig
    recipe: RecipeConfig
    conversion: RecipeConfig
    data: DataConfig
    optimizer: OptimizerConfig
    placement: PlacementConfig
    suite: SuiteConfig
    contracts: dict[str, Contract]
    seed: int
    seeds: Seeds
    precision: str
    checkpoint: CheckpointConfig
    budget: float
    start: str
    adapter: AdapterConfig | None
    jobs: int | None
    retry: bool
    stale: str
    export: bool
    runs_dir: str
    corpora_dir: str
    studies_dir: str

    def __post_init__(self) -> None:
        check_choice(self.stale, REMEASURE, RETRAIN)
        check_name("name", self.name)
        if self.analysis.get("kind") not in ANALYSES:
            kind = self.analysis.get("kind")
            raise unknown("analysis.kind", kind, "is not a kind of analysis", ANALYSES)
        Ruler(self.match_on, self.rates)
        check_apart(self.predictions)
        if not self.axes:
            raise invalid("axes", {}, "is an empty study", "give axes, e.g. '+axes={member:[encoder,decoder]}'")
        named = {"axes": self.axes} | {f"conversions.{name}.axes": item.axes for name, item in self.conversions.items()}
        for path, axes in named.items():
            for axis, levels in axes.items():
                if not levels:
                    raise invalid(f"{path}.{axis}", levels, "has no level", "give one or more")
                if len({str(level) for level in levels}) < len(levels):
                    raise invalid(f"{path}.{axis}", levels, "names a level twice", "name each once")
        chosen = {f"leave_out.{number}": item for number, item in enumerate(self.leave_out)}
        chosen |= {f"conversions.{name}.of": item.of for name, item in self.conversions.items()}
        for path, choice in chosen.items():
            for axis, level in choice.items():
                if level not in self.axes.get(axis, ()):
                    known = ", ".join(f"{name}: {list(values)}" for name, values in self.axes.items())
                    raise invalid(f"{path}.{axis}", level, "is not a level of an axis", f"the axes are {known}")
        for name, stage in self.stages.items():
            stage.check(name)
        if self.jobs is not None and self.jobs < 1:
            raise invalid("jobs", self.jobs, "is not positive", "use 1 or more, or null")

    def unanswerable(self) -> list[str]:
        """A line for each prediction about a member or level that the study does not have, so that it is not measured."""
        members = [*map(str, self.axes.get("member", (self.member.name,))), *self.conversions]
        levels = {axis: list(values) for axis, values in self.axes.items()}
        for conversion in self.conversions.values():
            for axis, values in conversion.axes.items():
                levels[axis] = [*levels.get(axis, []), *values]
        for name, stage in self.stages.items():
            if stage.makes_run:
                members += [f"{member}+{name}" for member in members if member in stage.members(members)]
                for axis, values in stage.axes.items():
                    levels[axis] = [*levels.get(axis, []), *map(level_of, values)]
        levels["member"] = members
        lines = []
        for number, prediction in enumerate(self.predictions):
            for side in (prediction.left, prediction.right):
                if isinstance(side, str) and self.analysis.get("kind", "pair") != "pair":
                    continue  # then members are the labels of cells
                for axis, level in (side if isinstance(side, dict) else {"member": side}).items():
                    if level not in levels.get(axis, []):
                        known = ", ".join(map(str, levels.get(axis, levels)))
                        what = f"which is not a {axis} of this study ({known})"
                        lines.append(f"predictions.{number} is about {level!r}, {what}: not measured")
        return lines

    @property
    def parts(self) -> TrainingParts:
        """What does not depend on the member."""
        return TrainingParts(self.size, self.recipe, self.optimizer, self.seeds, self.precision, self.checkpoint)

    @property
    def as_conversion(self) -> Conversion:
        """How a parent is converted into this request's member."""
        seed = self.seed + CONVERSION_SEED_OFFSET
        return Conversion(self.member, self.conversion, self.budget, seed, self.checkpoint, self.start, self.adapter)


Compose = Callable[[Sequence[str]], StudyRequest]  # the request of a list of overrides; raises ValueError


@dataclass(frozen=True)
class Cell:
    """A point of a study: its levels, its request, and the name of the cell that it converts (None: from scratch)."""

    axes: dict[str, Any]
    request: StudyRequest
    parent: str | None = None

    @property
    def name(self) -> str:
        """Its levels in short: encoder s21 budget=0.1."""
        return name_of_levels(self.axes)


def name_of_levels(axes: dict[str, Any]) -> str:
    """The levels of some axes in short."""
    return " ".join(_spell(axis, level) for axis, level in axes.items())


def _spell(axis: str, level: Any) -> str:
    if axis == SEED:
        return f"s{level}"
    return level if isinstance(level, str) else f"{axis}={spell(level)}"


def cells_of(request: StudyRequest, overrides: list[str], compose: Compose) -> dict[str, Cell]:
    """All cells by name, trained ones first; `compose` turns the command line's `overrides` into a request.

    Raises ValueError if a cell cannot be composed.
    """
    for axis in itertools.chain(request.axes, *(item.axes for item in request.conversions.values())):
        for key in request.knobs.get(axis, (axis,)):
            if key in [override.partition("=")[0].lstrip("+") for override in overrides]:
                raise invalid(key, axis, "is an axis of the study and is set as well", f"use 'axes.{axis}=[...]'")

    cells: dict[str, Cell] = {}
    for levels in product(request.axes):
        if not any(item.items() <= levels.items() for item in request.leave_out):
            cell = Cell(levels, compose([*overrides, *_settings(request, levels)]))
            cells[cell.name] = cell
    for member, conversion in request.conversions.items():
        for parent in [cell for cell in cells.values() if cell.parent is None]:
            if conversion.of.items() <= parent.axes.items():
                for levels in product(conversion.axes):
                    inherited = {axis: level for axis, level in parent.axes.items() if axis not in conversion.of}
                    settings = [item for item in _settings(request, parent.axes) if not item.startswith("member")]
                    settings += [f"member={member}", *_settings(request, levels)]
                    cell = Cell(
                        {"member": member, **inherited, **levels}, compose([*overrides, *settings]), parent.name
                    )
                    cells[cell.name] = cell
    return cells


def product(axes: dict[str, tuple[Any, ...]]) -> Iterator[dict[str, Any]]:
    """Every combination of the levels of some axes."""
    return (dict(zip(axes, levels, strict=True)) for levels in itertools.product(*axes.values()))


def _settings(request: StudyRequest, levels: dict[str, Any]) -> list[str]:
    """The overrides of some levels."""
    return [f"{key}={spell(level)}" for axis, level in levels.items() for key in request.knobs.get(axis, (axis,))]


Corpora = Callable[[DataConfig], Corpus | None]  # the prepared corpus of a cell, or None where there is none yet


def plan_runs(cells: dict[str, Cell], corpora: Corpora) -> dict[str, RunConfig]:
    """The run of every cell; those of conversions without their starting weights, which only a trained parent has.

    Raises ValueError if a run cannot be trained, cells are the same run, or lengths cannot be matched.
    """
    runs: dict[str, RunConfig] = {}
    for name, cell in cells.items():
        if cell.parent is None:
            runs[name] = _trained(cell, corpora(cell.request.data))
    for group in compared(cells):
        for name in group[1:]:
            request = cells[name].request
            ruler = Ruler(request.match_on, request.rates, corpora(request.data))
            runs[name] = ruler.match(runs[name], runs[group[0]])
    for name, cell in cells.items():
        if cell.parent is not None:
            runs[name] = cell.request.as_conversion.plan(runs[cell.parent])
    names: dict[tuple[str | None, str], str] = {}
    for name, run in runs.items():
        earlier = names.setdefault((cells[name].parent, run.name), name)
        if earlier != name:
            raise invalid("axes", f"{earlier} | {name}", "are the same run", "vary what changes a run, or drop one")
    return runs


def _trained(cell: Cell, corpus: Corpus | None) -> RunConfig:
    request = cell.request
    if corpus is not None:
        return request.parts.run(request.member, corpus)
    return request.parts.planned(request.member, expected_ids(request.data), UNKNOWN, UNKNOWN)


def compared(cells: dict[str, Cell]) -> list[list[str]]:
    """Names of trained cells that are compared with the first of their group: those of one seed."""
    groups: dict[Any, list[str]] = {}
    for name, cell in cells.items():
        if cell.parent is None:
            groups.setdefault(cell.axes.get(SEED), []).append(name)
    return list(groups.values())


def pairs_of(cells: dict[str, Cell]) -> list[tuple[Contract, str, str]]:
    """Every pair that has a certificate: each cell with the first of its group, each conversion with its parent."""
    pairs = [(_contract(cells[name].request), group[0], name) for group in compared(cells) for name in group[1:]]
    for name, cell in cells.items():
        if cell.parent is not None:
            pairs.append((cell.request.contracts["conversion"], cell.parent, name))
    return pairs


def _contract(request: StudyRequest) -> Contract:
    """The pair's contract, which requires equality by the ruler too, unless the ruler is time."""
    contract, ruler = request.contracts["pair"], request.match_on
    if ruler in contract.equal or ruler == "seconds":
        return contract
    return replace(contract, within=contract.within | {ruler: FORECAST_TOLERANCE})


def audits(cells: dict[str, Cell], runs: dict[str, RunConfig]) -> dict[tuple[str, str], Certificate]:
    """The verdict on every pair by configuration, before anything is trained."""
    return {(left, right): audit(contract, runs[left], runs[right]) for contract, left, right in pairs_of(cells)}
