"""The stages of a study, one job each: which cells a job follows, which cell it makes, and the options of its command."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ettin_core.foundation.errors import invalid
from ettin_core.foundation.override_text import assignment, spell
from ettin_core.studies.grid import Cell, StudyRequest, name_of_levels, product
from ettin_core.studies.stage_config import Levels, StageConfig, any_of, level_of

MEMBER, STAGE = "member", "stage"
SETS = "{sets}"  # in a setting: the folder of generated evaluation sets


@dataclass(frozen=True)
class Stage:
    """One job of a stage, on `sources` (cells, the first of which gives everything that is not weights).

    `axes` are those of the cell that it makes, or names its job by. `retriever` is the name of the job that makes it.
    """

    label: str
    config: StageConfig
    levels: Levels
    axes: Levels
    sources: tuple[str, ...]
    request: StudyRequest
    base: str | None = None
    retriever: str | None = None

    @property
    def name(self) -> str:
        """Its cell in short, as `decoder+sft s21 full`."""
        return name_of_levels(self.axes)

    @property
    def member(self) -> str:
        """The member of the run that it makes: the levels of its axes are part of it."""
        levels = (re.sub(r"[^\w.]+", "_", spell(level)).strip("_") for level in self.levels.values())
        return "-".join([str(self.axes[MEMBER]), *levels])

    @property
    def options(self) -> list[str]:
        """The settings of its command as overrides."""
        settings = {**self.config.settings, **self.levels}
        return [assignment(key, self._placed(value)) for key, value in settings.items()]

    @property
    def sets(self) -> Path | None:
        """The folder of generated evaluation sets, where a setting names it."""
        named = any(isinstance(value, str) and SETS in value for value in self.config.settings.values())
        return Path(self.request.studies_dir) / f"world_sets_{self.request.data.world_seed}" if named else None

    def _placed(self, value: Any) -> Any:
        return value.replace(SETS, str(self.sets)) if isinstance(value, str) and SETS in value else value

    @property
    def waits_for(self) -> tuple[str, ...]:
        """The cells that must be measured, and the jobs that must be done, before it begins."""
        return tuple(name for name in (*self.sources, self.base, self.retriever) if name is not None)


def stages_of(request: StudyRequest, cells: Mapping[str, Cell]) -> dict[str, Stage]:
    """Every job of every stage by name, in the order of the study's file. Raises ValueError for what selects no cell."""
    axes = {name: cell.axes for name, cell in cells.items()}
    requests = {name: cell.request for name, cell in cells.items()}
    stages: dict[str, Stage] = {}
    for label, config in request.stages.items():
        followed = [name for name in axes if _selects(config.of, axes[name])]
        if not followed:
            known = ", ".join(dict.fromkeys(str(item.get(MEMBER)) for item in axes.values()))
            raise invalid(f"stages.{label}.of", config.of, "selects no cell", f"the members are {known}")
        for name in followed:
            for levels in product(config.axes):
                stage = _stage(label, config, levels, name, axes, requests[name], stages)
                if stage.name in stages or stage.name in axes:
                    raise invalid(f"stages.{label}", stage.name, "is a cell already", "give the stage another name")
                stages[stage.name] = stage
        new = {name: stage for name, stage in stages.items() if stage.label == label and config.makes_run}
        axes |= {name: stage.axes for name, stage in new.items()}
        requests |= {name: stage.request for name, stage in new.items()}
    return stages


def _stage(
    label: str,
    config: StageConfig,
    levels: Levels,
    name: str,
    axes: Mapping[str, Levels],
    request: StudyRequest,
    earlier: Mapping[str, Stage],
) -> Stage:
    source = axes[name]
    others = [_beside(f"stages.{label}.others", choice, source, axes) for choice in config.others]
    base = None if config.base is None else _beside(f"stages.{label}.base", config.base, source, axes)
    shown = {axis: level_of(level) for axis, level in levels.items()}
    named = {MEMBER: f"{source.get(MEMBER, request.member.name)}+{label}"}
    retriever = (
        None if config.retriever is None else _retriever(f"stages.{label}.retriever", config.retriever, axes, earlier)
    )
    return Stage(label, config, levels, {**source, **named, **shown}, (name, *others), request, base, retriever)


def _retriever(field: str, choice: Levels, axes: Mapping[str, Levels], earlier: Mapping[str, Stage]) -> str:
    """The one job of the named stage on the cell with the other levels."""
    levels = {axis: level for axis, level in choice.items() if axis != STAGE}
    jobs = [
        job for job in earlier.values() if job.label == choice.get(STAGE) and _selects(levels, axes[job.sources[0]])
    ]
    if len(jobs) != 1:
        remedy = "name an earlier stage and the levels of one cell, e.g. {stage: dense, member: encoder, seed: 21}"
        raise invalid(field, choice, f"selects {len(jobs)} jobs", remedy)
    return jobs[0].name


def _selects(choice: Levels, axes: Levels) -> bool:
    return all(axis in axes and axes[axis] in any_of(levels) for axis, levels in choice.items())


def _beside(field: str, choice: Levels, source: Levels, axes: Mapping[str, Levels]) -> str:
    """The one cell with these levels that agrees with the source in all other axes that both have."""
    shared = {axis: level for axis, level in source.items() if axis not in choice}
    cells = [
        name
        for name, item in axes.items()
        if _selects(choice, item) and all(item.get(axis, level) == level for axis, level in shared.items())
    ]
    if len(cells) != 1:
        problem = f"selects {len(cells)} cells beside {name_of_levels(source)}"
        raise invalid(field, choice, problem, "give the levels of one cell")
    return cells[0]
