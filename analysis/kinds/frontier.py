"""The conversion frontier: how far a converted member is behind the native one, against what the conversion cost."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from analysis import estimates, figure_style
from analysis.answer import Answer, counted
from analysis.costs import RULERS
from analysis.figures import ReportFigure
from analysis.kinds import design, panels
from analysis.kinds.as_published import cells_asked_for, exhibits
from analysis.kinds.cells import every_cell
from analysis.kinds.design import Findings, ReportTable
from analysis.kinds.gaps import MEMBER, crossings_of, gaps_of, on_ruler, pairs_of
from analysis.labels import fitting, multiline
from analysis.study_records import MEASURE, StudyRecords, rows_of
from analysis.tables import HOLE, Table, differences_table, grouped, measurement, number, signed
from analysis.uncertainty import Interval


@dataclass(frozen=True)
class Options:
    """The native member of each converted one, the axis of budgets, the axes that divide the conversions into curves."""

    native: Mapping[str, str]
    x: str = "budget"
    group: tuple[str, ...] = (MEMBER,)
    block: str = "seed"


def analyse(study: StudyRecords) -> Findings:
    """Crossings, gaps and the figure. Raises ValueError for axes or members that the cells do not have."""
    options = design.options(Options, study)
    cells = design.grid(study, options.block, x=options.x, group=options.group, member=MEMBER)
    design.check_numeric(cells, "x", options.x)
    members = list(cells[MEMBER].dropna().drop_duplicates())
    for name in [*options.native, *options.native.values()]:
        if name not in members:
            raise design.unknown_name("analysis.native", name, "is not a member of the study's cells", members)
    design.check_no_mixtures(
        cells[cells[MEMBER].isin(options.native)], [*options.group, MEMBER, options.x, options.block]
    )
    scored = design.scores(study, cells)
    means = design.summary(study, cells, scored)
    pairs, lacking = pairs_of(cells, design.own_way(scored), options.native, options.x, options.group, options.block)
    pairs = on_ruler(pairs, study)
    gaps, crossings = gaps_of(study, pairs), crossings_of(study, pairs)
    tables = [
        ReportTable(crossings_table(crossings, gaps, options, lacking), crossings_table, crossings),
        ReportTable(gaps_table(gaps, study, options), gaps_table, gaps),
        every_cell(means, scored, options.block),
    ]
    natives = estimates.differences(study, tuple(dict.fromkeys(options.native.values())))
    if len(natives):
        table = differences_table(natives, study.analysis.get("families"))
        tables.insert(0, ReportTable(table, differences_table, natives))
    filled, as_published = exhibits(study, cells_asked_for(study))
    figures = [frontier(gaps, crossings, study, options)] if (gaps["x"] > 0).any() else []
    shown = [*tables, *filled], [*figures, *as_published]
    return Findings(means, *shown, _numbers(gaps, crossings), answers_of(crossings))


def answers_of(crossings: pd.DataFrame) -> list[Answer]:
    """For each curve, in how many measurements the converted member catches up, and where."""

    def words(row: Any) -> str:
        return re.split(r" at |: ", str(row.words))[0]

    def name(row: Any) -> str:
        _, at, place = str(row.words).partition(" at ")
        return f"{measurement(row._asdict())}{at}{place}"

    return counted(_by_curve(crossings), ["curve"], "crossings", words=words, name=name)


def crossings_table(crossings: pd.DataFrame, gaps: pd.DataFrame, options: Options, lacking: list[str]) -> Table:
    """Rows are measurements within each curve."""
    rows = []
    for row in rows_of(_by_curve(crossings)):
        name = measurement(row._asdict())
        slope = HOLE if np.isnan(row.slope) else signed(row.slope * float(np.log(2)))
        rows.append((str(row.curve), [name, slope, str(row.over), str(row.words)]))
    method = [
        f"Fit: gap = a + b log({options.x}), one line per seed. Their mean and spread give the crossing and Fieller's 95% "
        "interval. With one seed there is a line per item, which leaves out the noise of training.",
        f"Gap per doubling: how the gap changes when {options.x} doubles; below zero it closes.",
        "The gap bends where its quadratic part differs from zero (t-test at 5%). The crossing is then interpolated between the "
        f"two budgets around it, and no line is extended beyond the budgets. A {options.x} of 0 is not fitted.",
    ]
    header = ["Measurement", "Gap per doubling", "Over", "Crossing"]
    return Table("crossings", "Where conversion catches up", header, grouped(rows), [*lacking, *method])


def gaps_table(gaps: pd.DataFrame, study: StudyRecords, options: Options) -> Table:
    """Rows are measurements within each curve, columns are budgets."""
    levels = sorted(set(gaps["level"]))
    rows = []
    for (curve, *_), of_measure in _by_curve(gaps).groupby(["curve", *MEASURE], sort=False):
        by_level = of_measure.set_index("level")
        shown = [_shown(by_level.loc[level]) if level in by_level.index else HOLE for level in levels]
        rows.append((str(curve), [measurement(of_measure.iloc[0]), *shown]))
    bases = " or ".join(sorted(set(gaps["over"]) - {"none"})) or "nothing"
    notes = [
        "Gap: how far the converted member is behind the native one; below zero it is ahead.",
        f"Brackets: 95% interval over {bases}, paired by seed. With one seed it is paired by item, which leaves out the noise "
        "of training.",
        f"Columns: {options.x}. {HOLE}: no such pair of complete runs.",
    ]
    header = ["Measurement", *(f"{level:g}" for level in levels)]
    return Table("gaps", "Gap to the native member", header, grouped(rows), notes)


def frontier(gaps: pd.DataFrame, crossings: pd.DataFrame, study: StudyRecords, options: Options) -> ReportFigure:
    """Gap against the logarithm of the budget, a panel per measurement, with the line of no gap."""
    shown = gaps[gaps["x"] > 0]
    curves = list(shown["curve"].drop_duplicates())
    looks = {name: figure_style.series(place) for place, name in enumerate(curves)}
    with panels.panels(shown) as (figure, drawn):
        for axis, group in drawn:
            axis.axhline(0.0, color="0.25", linewidth=1.2)
            panels.use_logarithms(axis)
            axis.set_xlabel(multiline(_axis(study, options), fitting(panels.PLOT, 9)))
            axis.set_ylabel("native − converted")
            fits = crossings[design.keys(crossings) == design.keys(group).iloc[0]].set_index("curve")
            for name in curves:
                of_curve, look = group[group["curve"] == name], looks[name]
                if len(of_curve):
                    points = [(float(row.value), Interval(row.low, row.high)) for row in rows_of(of_curve)]
                    panels.draw_line(axis, of_curve["x"].to_numpy(dtype=float), points, look)
                    _draw_fit(axis, of_curve["x"].to_numpy(dtype=float), fits.loc[name], look)
            axis.text(
                0.98,
                0.97,
                "converted is behind ↑",
                transform=axis.transAxes,
                fontsize=7,
                ha="right",
                va="top",
                color="0.4",
            )
        panels.name_curves(figure, list(looks.items()))
    bases = " or ".join(sorted(set(shown["over"]) - {"none"})) or "nothing"
    caption = (
        f"How far the converted member is behind the native one (above the line: behind), with 95% intervals over {bases}. "
        "Dotted: the fitted line, where the gap does not bend. A star on the line of no gap: a crossing within the budgets "
        "whose interval is bounded."
    )
    if (gaps["x"] == 0).any():
        caption += " Conversions without training are in the table only."
    return ReportFigure(frontier, "frontier", "The conversion frontier", caption, figure, shown)


def _draw_fit(axis: Any, x: np.ndarray, fit: pd.Series, look: figure_style.Look) -> None:
    if np.isnan(fit["slope"]):
        return
    ends = np.array([x.min(), x.max()])
    if not fit["bends"]:
        line = fit["intercept"] + fit["slope"] * np.log(ends)
        axis.plot(ends, line, color=look.colour, linestyle=":", linewidth=1.0)
    if ends[0] <= fit["value"] <= ends[1] and not np.isnan(fit["low"]):
        axis.plot(fit["value"], 0.0, marker="*", markersize=11, color=look.colour, markeredgecolor="white", zorder=4)


def _axis(study: StudyRecords, options: Options) -> str:
    if study.ruler != "tokens":
        return f"share of the parent's {RULERS[study.ruler]}"
    return "budget, share of the parent's tokens" if options.x == "budget" else options.x.replace("_", " ")


def _shown(row: pd.Series) -> str:
    bounds = "" if np.isnan(row["low"]) else f" [{signed(row['low'])}, {signed(row['high'])}]"
    return signed(row["value"]) + bounds


def _by_curve(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.sort_values("curve", kind="stable", key=lambda names: pd.Series(pd.factorize(names, sort=True)[0]))


def _numbers(gaps: pd.DataFrame, crossings: pd.DataFrame) -> dict[str, str]:
    numbers: dict[str, str] = {}
    for row in rows_of(gaps):
        numbers[f"gap/{row.curve}/{row.protocol}/{row.task}/{row.metric}/{row.level:g}"] = signed(row.value)
    for row in rows_of(crossings):
        key = f"crossing/{row.curve}/{row.protocol}/{row.task}/{row.metric}"
        numbers |= {f"{key}/words": row.words} | ({} if np.isnan(row.value) else {key: number(row.value)})
    return numbers
