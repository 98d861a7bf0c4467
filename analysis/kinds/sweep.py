"""What a sweep found: every combination of the swept keys in a table, and a figure against each of them."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from analysis import wording
from analysis.cell_names import level_name, short_names
from analysis.estimates import NOT_DEFINED, NOT_MEASURED
from analysis.figures import ROLLING_SHARE, ReportFigure, described
from analysis.kinds import curve, design, panels
from analysis.kinds.cells import every_cell
from analysis.kinds.design import Findings, ReportTable
from analysis.labels import labels
from analysis.sources import Cell
from analysis.study_records import DISTINCT, MEASURE, TRAINING, StudyRecords, rows_of
from analysis.tables import HOLE, Footnotes, Table, estimated, grouped, number
from analysis.uncertainty import Interval

WIDEST = 6  # measurements that stand beside the keys; all are in the table of every cell
DODGE = 0.6  # the share of a category's place over which its series are spread


@dataclass(frozen=True)
class Options:
    """The axis of repetitions."""

    block: str = "seed"


def analyse(study: StudyRecords) -> Findings:
    """The table of the keys and main measurements, that of every cell, and the figures."""
    options = design.options(Options, study)
    measured = pd.concat([study.measurements, last_losses(study)], ignore_index=True)
    study = replace(study, measurements=measured if len(study.measurements) else last_losses(study))
    cells = design.grid(study, options.block)
    axes = _axes(cells, options.block)
    scored = design.scores(study, cells)
    means = design.summary(study, cells, scored)
    other_loss = (means["protocol"] == TRAINING) & (means["hole"] == NOT_MEASURED)
    means = means.assign(hole=means["hole"].mask(other_loss, NOT_DEFINED))
    data = cells.drop_duplicates("label")[["label", *axes]].merge(means.rename(columns={"member": "label"}), on="label")
    tables = [
        ReportTable(sweep_table(means, cells, axes, options.block), sweep_table, data),
        every_cell(means, scored, options.block),
    ]
    numbers = {
        f"sweep/{row.member}/{row.protocol}/{row.task}/{row.metric}": number(row.value)
        for row in rows_of(means[means["value"].notna()])
    }
    return Findings(means, tables, list(_figures(study, scored, axes)), numbers)


def last_losses(study: StudyRecords) -> pd.DataFrame:
    """The training loss at the end of every run, as measurements whose task is what the run was trained on."""
    kinds = {kind: place for place, kind in enumerate(study.training["trained_on"].drop_duplicates())}
    names = _names(list(kinds))
    rows = []
    for run, logged in study.training.groupby("run", sort=False):
        losses = logged.sort_values("tokens")["loss"].to_numpy(dtype=float)
        end = losses[-max(1, len(losses) // ROLLING_SHARE) :]
        known = end[~np.isnan(end)]
        rows.append(
            {
                "run": run,
                **dict(zip(MEASURE, (TRAINING, names[kinds[logged["trained_on"].iloc[0]]], "loss"), strict=True)),
                "scored_as": TRAINING,
                "version": 1,
                "value": float(known.mean()) if len(known) else None,
                "n": len(known),
                "standard_error": np.nan,
                "higher_is_better": False,
                "reference": np.nan,
            }
        )
    columns = ["run", *MEASURE, "scored_as", "version", "value", "n", "standard_error", "higher_is_better", "reference"]
    return pd.DataFrame(rows, columns=columns)


def sweep_table(means: pd.DataFrame, cells: pd.DataFrame, axes: list[str], block: str) -> Table:
    """Rows are combinations of levels, columns the swept keys and the main measurements."""
    main = design.main_measures(means[means["value"].notna()])
    main_groups = design.measured(main)
    shown = sorted(main_groups, key=lambda item: -len(item[1]))[:WIDEST]
    shown = [item for item in main_groups if item[0] in [key for key, _ in shown]]
    footnotes = Footnotes()
    rows = []
    for label in _in_order(cells, axes):
        of_label = cells[cells["label"] == label]
        levels = [_spelled(of_label.iloc[0][axis]) for axis in axes]
        scores = [_score(means, label, key, footnotes) for key, _ in shown]
        rows.append(("", [*levels, str(int(of_label["complete"].sum())), *scores]))
    bases = " or ".join(sorted(set(main["over"].dropna()) - {"none"})) or "nothing (one run has no spread)"
    notes = [*footnotes.notes(), f"Means over {block}s. Brackets: 95% interval over {bases}."]
    if len(main_groups) > len(shown):
        notes.append(f"{len(main_groups) - len(shown)} further main measurements are in the table of every cell.")
    header = [*axes, "Runs", *(_titled(group.iloc[0]) for _, group in shown)]
    return Table("sweep", "By the swept keys", header, grouped(rows), notes)


def _score(means: pd.DataFrame, label: str, key: tuple[str, str, str], footnotes: Footnotes) -> str:
    cell = means[(means["member"] == label) & (design.keys(means) == key)]
    if cell.empty or cell.iloc[0]["hole"] == NOT_DEFINED:
        return HOLE
    return Cell(estimated(cell.iloc[0], footnotes), key, label)


def _titled(row: pd.Series) -> str:
    return f"{wording.protocol_name(row['protocol'])}: {described(row)}"


def _names(kinds: list[str]) -> list[str]:
    """A name for each objective and its mask rates; those that differ in more are numbered."""
    names: list[str] = []
    for kind in kinds:
        objective, rates = json.loads(kind)
        name = objective["name"] + (f" at mask rate {' and '.join(rates)}" if rates and rates != ["None"] else "")
        names.append(name + (f" ({names.count(name) + 1})" if name in names else ""))
    return names


def _axes(cells: pd.DataFrame, block: str) -> list[str]:
    """The axes in which cells differ; where they differ in none, the first."""
    described = ("cell", "run", "parent", "label", "complete", block)
    axes = [str(name) for name in cells.columns if name not in described]
    return [axis for axis in axes if cells[axis].astype(str).nunique() > 1] or axes[:1]


def _in_order(cells: pd.DataFrame, axes: list[str]) -> list[str]:
    """The labels in order of their levels, those of the first axis together."""
    places = {axis: design.levels(cells, axis) for axis in axes}
    known = cells.drop_duplicates("label")
    order = [
        [places[axis].index(row[axis]) if row[axis] in places[axis] else -1 for axis in axes]
        for row in known.to_dict("records")
    ]
    return [label for _, label in sorted(zip(order, known["label"], strict=True))]


def _spelled(value: Any) -> str:
    if pd.isna(value):
        return HOLE
    return f"{value:g}" if isinstance(value, float) else str(value)


def _numeric(frame: pd.DataFrame, axis: str) -> bool:
    levels = design.levels(frame, axis)
    return len(levels) > 1 and all(isinstance(level, int | float) and not isinstance(level, bool) for level in levels)


def _figures(study: StudyRecords, scored: pd.DataFrame, axes: list[str]) -> Iterator[ReportFigure]:
    """A figure for each numeric key; where there is none, one for the key with most levels."""
    numeric = [axis for axis in axes if _numeric(scored, axis)]
    words = sorted(axes, key=lambda axis: -scored[axis].nunique())[:1]
    for axis in numeric or words:
        on_axis = scored.dropna(subset=[axis])
        others = [name for name in axes if name != axis]
        for title, part in _parts(on_axis, others):
            part = _several_levels(part, axis)
            points = curve.points_of(study, part, axis)
            if len(points):
                drawn = curve.curves(points, part, axis) if axis in numeric else categories(points, axis)
                drawn = replace(drawn, maker=analyse, name="sweep", title=drawn.title)
                yield drawn.of_block(f" {axis}" + title)


def _parts(frame: pd.DataFrame, others: list[str]) -> Iterator[tuple[str, pd.DataFrame]]:
    """The rows with their `curve`, divided by the levels of the other keys until each part has few enough curves.

    A key with more levels than there are colours, as in a random search, divides neither: its runs are averaged.
    """
    others = [axis for axis in others if 1 < frame[axis].nunique(dropna=False) <= DISTINCT]
    short = short_names(others)
    curves = [
        ", ".join(level_name(short[axis], row[axis]) for axis in others if pd.notna(row[axis]))
        for row in frame[others].to_dict("records")
    ]
    if len(set(curves)) <= DISTINCT:
        yield "", frame.assign(curve=curves)
        return
    for level, part in frame.groupby(others[0], sort=False, dropna=False):
        for title, piece in _parts(part, others[1:]):
            yield f" ({level_name(short[others[0]], level)}){title}", piece


def _several_levels(frame: pd.DataFrame, axis: str) -> pd.DataFrame:
    """Without measurements that have one level only, such as the loss at one mask rate, where others have several."""
    levels = frame.groupby(MEASURE)[axis].transform("nunique")
    return frame[levels > 1] if (levels > 1).any() else frame


def categories(points: pd.DataFrame, axis: str) -> ReportFigure:
    """A panel per measurement, a place along x per level, its series side by side."""
    names = curve.names_of(points)
    levels = list(points["x"].drop_duplicates())
    shifts = np.linspace(-DODGE / 2, DODGE / 2, len(names)) if len(names) > 1 else np.zeros(1)
    with panels.panels(points) as (figure, drawn):
        for panel, group in drawn:
            for name, shift in zip(names, shifts, strict=True):
                of_curve = group[group["curve"] == name]
                x = np.array([levels.index(level) for level in of_curve["x"]]) + shift
                ends = [(float(row.value), Interval(row.low, row.high)) for row in rows_of(of_curve)]
                panels.draw_points(panel, x, ends, curve.look(name, names))
            panel.set_xticks(range(len(levels)), labels(levels), fontsize=7.5, rotation=20, ha="right")
            panel.set_xlim(-0.6, len(levels) - 0.4)
        if len(names) > 1:
            panels.name_curves(figure, [(name, curve.look(name, names)) for name in names])
    bases = " or ".join(sorted(set(points["over"].dropna()) - {"none"})) or "nothing"
    caption = f"Means by {axis} with 95% intervals over {bases}."
    return ReportFigure(categories, "categories", "By", caption, figure, points)
