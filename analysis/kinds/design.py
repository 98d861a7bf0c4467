"""A study's grid as frames: which cells there are, and what each of them scored."""

from collections.abc import Callable
from dataclasses import MISSING, dataclass, field, fields
from typing import Any

import pandas as pd

from analysis import estimates
from analysis.answer import Answer
from analysis.families import is_part
from analysis.figures import ReportFigure
from analysis.study_records import ALL, MEASURE, PSEUDO_LIKELIHOOD, StudyRecords
from analysis.tables import Table
from analysis.ways import LM_EVAL, OWN, split, with_own_ways
from ettin_core.foundation.errors import invalid, unknown
from ettin_core.records.readout import fills_masks

MAIN_METRICS = ("bits_per_token", "accuracy", "loss", "absolute_error")  # the first that a task has is its main one
KEPT = ["run", *MEASURE, "scored_as", "version", "value", "n", "standard_error", "higher_is_better", "reference"]


@dataclass(frozen=True)
class ReportTable:
    """A table, the function that made it, and the numbers behind it."""

    table: Table
    maker: Callable[..., Any]
    data: pd.DataFrame | None = None


@dataclass(frozen=True)
class Findings:
    """What a kind of analysis hands to the report; `cells` has every member's measurements and holes, `answers` the verdicts."""

    cells: pd.DataFrame
    tables: list[ReportTable]
    figures: list[ReportFigure]
    numbers: dict[str, str] = field(default_factory=dict)
    answers: list[Answer] = field(default_factory=list)


def options(kind: Any, study: StudyRecords) -> Any:
    """The options of an analysis. Raises ValueError for a name that the kind does not have, or lacks."""
    given = {name: value for name, value in study.analysis.items() if name not in ("kind", "families")}
    known = [item.name for item in fields(kind)]
    for name, value in given.items():
        if name not in known:
            raise unknown_name(f"analysis.{name}", value, f"means nothing to {study.analysis['kind']}", known)
    for item in fields(kind):
        if item.default is MISSING and item.name not in given:
            raise ValueError(f"analysis.{item.name}=null is needed by {study.analysis['kind']}; state it in the study.")
    return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in given.items()})


def grid(study: StudyRecords, block: str, **named: str | tuple[str, ...] | None) -> pd.DataFrame:
    """A row per cell: its run, parent, label, whether the run is complete, and a column per axis.

    `named` are the axes that an analysis names, by option. Raises ValueError for an axis that no cell has, or for two
    cells that agree on all axes.
    """
    rows = [
        {
            "cell": name,
            "run": cell["run"],
            "parent": cell.get("parent"),
            "label": study.labels[name],
            "complete": cell["run"] in study.runs.index,
            **cell["axes"],
        }
        for name, cell in study.cells.items()
    ]
    frame = pd.DataFrame(rows, columns=None if rows else ["cell", "run", "parent", "label", "complete"])
    axes = [name for name in frame.columns if name not in ("cell", "run", "parent", "label", "complete")]
    if block not in axes:
        frame[block] = [study.runs["seed"].get(run) for run in frame["run"]] if block == "seed" else None
    for option, names in named.items():
        for name in [names] if isinstance(names, str) else names or ():
            if name not in axes:
                raise unknown_name(f"analysis.{option}", name, "is not an axis of the study's cells", axes)
    if block != "seed" and block not in axes:
        raise unknown_name("analysis.block", block, "is not an axis of the study's cells", axes)
    alike = frame[frame.duplicated(["label", block], keep=False)]
    if len(alike):
        raise ValueError(f"cells={list(alike['cell'])!r} agree on every axis; give each its own levels in the study.")
    return frame


def unknown_name(name: str, value: Any, problem: str, known: list[str]) -> ValueError:
    """The error for a name that is not known."""
    return unknown(name, value, problem, known) if known else invalid(name, value, problem, "use none")


def check_no_mixtures(cells: pd.DataFrame, named: list[str]) -> None:
    """Raises ValueError for cells that differ only in axes that the analysis does not name: their difference would be lost."""
    alike = cells[cells.duplicated(named, keep=False)]
    if len(alike):
        raise ValueError(
            f"analysis={named!r} do not tell {' and '.join(alike['cell'][:2])} apart; name the axes in which cells differ, "
            "or leave the others out of the study."
        )


def check_numeric(cells: pd.DataFrame, option: str, axis: str) -> None:
    """Raises ValueError for an axis with a level that is not a number."""
    words = [level for level in cells[axis].dropna() if isinstance(level, bool | str)]
    if words:
        raise ValueError(
            f"analysis.{option}={axis!r} has the level {words[0]!r}, which is not a number; use a numeric axis."
        )


def scores(study: StudyRecords, cells: pd.DataFrame) -> pd.DataFrame:
    """A row per complete cell and measurement worth a chart, in reading order, with the cell's axes.

    Where some cells predict the next token and others fill masks, own scoring replaces pseudo-likelihood; left to right
    remains, which is the same ruler for all.
    """
    measured = study.measurements
    runs = study.runs.loc[list(dict.fromkeys(cells[cells["complete"]]["run"]))]
    measured = measured[measured["run"].isin(runs.index)]
    mixed = runs["readout"].map(fills_masks).nunique() > 1
    measured = with_own_ways(measured, runs)
    if mixed:
        pseudo = measured["protocol"].str.endswith(PSEUDO_LIKELIHOOD)
        measured = measured[~pseudo | measured["protocol"].str.startswith(LM_EVAL)]
    measured = measured[~is_part(measured)][KEPT]
    place = {key: number for number, (key, _) in enumerate(estimates.by_measure(measured))}
    frame = cells.merge(estimates.headline(measured), on="run")
    return frame.assign(place=keys(frame).map(place)).sort_values("place", kind="stable", ignore_index=True)


def keys(frame: pd.DataFrame) -> pd.Series:
    """The measurement of every row: protocol, task and metric."""
    return pd.Series(list(zip(*(frame[name] for name in MEASURE), strict=True)), index=frame.index, dtype=object)


def measured(frame: pd.DataFrame) -> list[tuple[tuple[str, str, str], pd.DataFrame]]:
    """The rows of each measurement."""
    return [(key, group) for key, group in frame.groupby(MEASURE, sort=False)]


def repeats(protocol: str, scored: pd.DataFrame, *sides: pd.DataFrame) -> bool:
    """Whether the own way of the rows compared is one and the same way, which is a measurement of its own already."""
    ways = {name for side in sides for name in side["scored_as"]}
    return split(protocol)[1] in OWN and len(ways) == 1 and ways <= set(scored["protocol"])


def own_way(frame: pd.DataFrame) -> pd.DataFrame:
    """Without the other scorings of a family where its members' own is there."""
    asked = [split(name) for name in frame["protocol"]]
    with_own = {question for question, way in asked if way in OWN}
    kept = [question not in with_own or way in OWN for question, way in asked]
    return frame[pd.Series(kept, index=frame.index, dtype=bool)]


def main_measures(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of the few measurements that a figure has room for: one metric of each protocol's whole, scored its own way."""
    chosen = []
    for _, rows in own_way(frame).groupby("protocol", sort=False):
        for _, task in (rows[rows["task"] == ALL] if (rows["task"] == ALL).any() else rows).groupby("task", sort=False):
            metrics = sorted(set(task["metric"]), key=lambda name: (_rank(name), name))
            chosen.append(task[task["metric"] == metrics[0]])
    return pd.concat(chosen) if chosen else frame


def _rank(metric: str) -> int:
    return MAIN_METRICS.index(metric) if metric in MAIN_METRICS else len(MAIN_METRICS)


def summary(study: StudyRecords, cells: pd.DataFrame, scored: pd.DataFrame) -> pd.DataFrame:
    """A row per label and measurement, with the columns of `estimates.cells`: repetitions averaged, holes with reasons."""
    block = study.blocks[0]
    rows = []
    for key, records in measured(scored):
        for label in labels(cells):
            of_label = records[records["label"] == label]
            runs = study.runs.reindex(cells[(cells["label"] == label) & cells["complete"]]["run"]).assign(member=label)
            cell = estimates.estimate(study.items, of_label) or {"hole": estimates.hole(key[0], label, runs, of_label)}
            named = {"block": block, "member": label, **dict(zip(MEASURE, key, strict=True))}
            rows.append({**named, **estimates.shared(records), **cell})
    return pd.DataFrame(rows, columns=estimates.COLUMNS).astype({"reference": float})


def labels(cells: pd.DataFrame) -> list[str]:
    """The labels in the study's order."""
    return list(cells["label"].drop_duplicates())


def levels(cells: pd.DataFrame, axis: str) -> list[Any]:
    """The levels of an axis: numbers by size, words as the study lists them."""
    values = list(cells[axis].dropna().drop_duplicates())
    numeric = all(isinstance(level, int | float) and not isinstance(level, bool) for level in values)
    return sorted(values) if numeric else values
