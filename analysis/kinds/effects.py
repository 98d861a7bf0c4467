"""Main effects of two factors and their interaction: direction x objective, and any other crossed pair."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, combinations, product
from typing import Any

import numpy as np
import pandas as pd

from analysis import families, figure_style
from analysis.answer import counted
from analysis.cell_names import level_name
from analysis.estimates import distinguishable, estimate, words
from analysis.figures import ReportFigure
from analysis.inference import Bounds, contrasts
from analysis.items import aligned, item_values, within
from analysis.kinds import design, panels
from analysis.kinds.cells import NO_ERROR_TERM, every_cell
from analysis.kinds.design import Findings, ReportTable
from analysis.labels import name_columns
from analysis.study_records import MEASURE, StudyRecords, rows_of
from analysis.tables import Table, grouped, measurement, number, signed, tested
from analysis.uncertainty import Interval

Part = tuple[tuple[Any, ...], tuple[Any, ...]]  # levels of the two factors all of whose combinations exist


@dataclass(frozen=True)
class Options:
    """The two factors, and the axis whose levels repeat the whole design."""

    factors: tuple[str, ...]
    block: str = "seed"


def analyse(study: StudyRecords) -> Findings:
    """Effects, cell means and the interaction plot. Raises ValueError for factors that are not two axes of the cells."""
    options = design.options(Options, study)
    if len(set(options.factors)) != 2:
        raise ValueError(f"analysis.factors={list(options.factors)!r} are not two axes; name two axes of the cells.")
    cells = design.grid(study, options.block, factors=options.factors)
    named = [*options.factors, options.block]
    design.check_no_mixtures(cells.dropna(subset=list(options.factors)), named)
    scored = design.scores(study, cells)
    means = design.summary(study, cells, scored)
    crossed = scored.dropna(subset=list(options.factors))
    estimated, used = effects(
        study, crossed, options, tuple(design.levels(cells, factor) for factor in options.factors)
    )
    stated = study.analysis.get("families")
    tables = [
        ReportTable(effects_table(estimated, left_out(cells, used, options), stated), effects_table, estimated),
        every_cell(means, scored, options.block),
    ]
    figures = [interaction(study, crossed, cells, options)] if len(crossed) else []
    return Findings(means, tables, figures, _numbers(estimated), counted(estimated, ["term"], "effects"))


def effects(
    study: StudyRecords, scored: pd.DataFrame, options: Options, levels: tuple[list[Any], ...]
) -> tuple[pd.DataFrame, set[str]]:
    """A row per measurement and contrast, p Holm-corrected within the families of a contrast; and the cells used."""
    rows: list[dict[str, Any]] = []
    used: set[str] = set()
    first, second = options.factors
    for key, group in design.measured(scored):
        values = group.pivot(index=[first, second], columns=options.block, values="value")
        for part in balanced(present(values, levels)):
            inside = values.loc[list(product(*part))].dropna(axis="columns")
            if inside.shape[1] == 0:
                continue
            chosen = group[group[options.block].isin(inside.columns)]
            chosen = chosen[chosen[first].isin(part[0]) & chosen[second].isin(part[1])]
            used |= set(chosen["cell"])
            if design.repeats(str(key[0]), scored, chosen):
                continue
            named = list(_contrasts(part, options.factors))
            weights = np.array([weight for _, _, _, weight in named])
            contrasted = _contrasted(study, chosen, inside, weights, options)
            for (term, left, right, weight), unbounded in zip(named, contrasted, strict=True):
                effect = within(unbounded, str(key[2]), float(np.abs(weight).sum()) / 2)
                rows.append(
                    {
                        "term": term,
                        "left": left,
                        "right": right,
                        **dict(zip(MEASURE, key, strict=True)),
                        "higher_is_better": bool(group["higher_is_better"].iloc[0]),
                        "value": float(effect.value),
                        "low": float(effect.low),
                        "high": float(effect.high),
                        "p": float(effect.p),
                        "cells": len(inside),
                        "repetitions": inside.shape[1],
                        "freedom": inside.shape[1] - 1,
                    }
                )
    columns = ["term", "left", "right", *MEASURE, "higher_is_better", "value", "low", "high", "p"]
    frame = pd.DataFrame(rows, columns=[*columns, "cells", "repetitions", "freedom", "p_corrected"])
    frame = frame.sort_values("cells", ascending=False, kind="stable", ignore_index=True)
    frame = families.corrected(frame, ["term"], study.analysis.get("families"))
    frame["words"] = [_words(row) for row in rows_of(frame)]
    return frame, used


def _contrasted(
    study: StudyRecords, chosen: pd.DataFrame, inside: pd.DataFrame, weights: np.ndarray, options: Options
) -> list[Bounds]:
    """Contrasts of the cells (rows) and blocks (columns) of a part, with the noise of the items that all have."""
    place = chosen.set_index([*options.factors, options.block])
    records = [place.loc[(*cell, block)].to_dict() for cell in inside.index for block in inside.columns]
    task = {name: chosen[name].iloc[0] for name in ("task", "metric")}
    paired = aligned([item_values(study.items, task | record) for record in records])
    if paired is not None:
        return contrasts(paired[0].reshape(*inside.shape, -1), weights, paired[1])
    errors = np.array([record["standard_error"] for record in records], dtype=float).reshape(inside.shape)
    known = None if np.isnan(errors).any() else errors
    return contrasts(inside.to_numpy(dtype=float)[..., None], weights, errors=known)


def present(values: pd.DataFrame, levels: tuple[list[Any], ...]) -> pd.DataFrame:
    """Which combinations count as there, levels by levels: those with a value in more than half of the repetitions."""
    there = values.notna().mean(axis="columns") > 0.5
    return there.unstack(fill_value=False).reindex(index=levels[0], columns=levels[1], fill_value=False).astype(bool)


def balanced(there: pd.DataFrame) -> list[Part]:
    """The largest parts of a grid in which every combination exists, none within another, from the largest down.

    A part with a single level of one factor says nothing of the interaction; it is kept where no other has its cells.
    """
    rows = list(there.index)
    parts: set[tuple[tuple[int, ...], tuple[int, ...]]] = set()
    for chosen in chain.from_iterable(combinations(range(len(rows)), size) for size in range(1, len(rows) + 1)):
        columns = tuple(np.flatnonzero(there.iloc[list(chosen)].all(axis=0)).tolist())
        if columns:
            parts.add((tuple(np.flatnonzero(there.iloc[:, list(columns)].all(axis=1)).tolist()), columns))
    ordered = sorted(parts, key=lambda part: (-len(part[0]) * len(part[1]), part))
    kept = [part for part in ordered if len(part[0]) > 1 and len(part[1]) > 1]
    covered = {(row, column) for part in kept for row in part[0] for column in part[1]}
    for part in ordered:
        cells = {(row, column) for row in part[0] for column in part[1]}
        if min(map(len, part)) == 1 and len(cells) > 1 and not cells <= covered:
            kept.append(part)
    return [(tuple(rows[row] for row in part[0]), tuple(there.columns[list(part[1])])) for part in kept]


def _contrasts(part: Part, factors: tuple[str, ...]) -> Iterator[tuple[str, str, str, np.ndarray]]:
    """Each level against the first, averaged over the other factor; then how that differs with the other factor."""
    names = [[level_name(factor, level) for level in levels] for factor, levels in zip(factors, part, strict=True)]
    steps = [[np.eye(len(levels))[place] - np.eye(len(levels))[0] for place in range(len(levels))] for levels in part]
    means = [np.full(len(levels), 1 / len(levels)) for levels in part]
    titles = [factor.replace("_", " ").capitalize() for factor in factors]
    for place in range(1, len(part[0])):
        term = f"{titles[0]}: {names[0][place]} − {names[0][0]} ({_over(names[1])})"
        yield term, names[0][place], names[0][0], np.outer(steps[0][place], means[1]).ravel()
    for place in range(1, len(part[1])):
        term = f"{titles[1]}: {names[1][place]} − {names[1][0]} ({_over(names[0])})"
        yield term, names[1][place], names[1][0], np.outer(means[0], steps[1][place]).ravel()
    for first in range(1, len(part[0])):
        for second in range(1, len(part[1])):
            difference = f"{names[0][first]} − {names[0][0]}"
            term = f"Interaction: {difference} with {names[1][second]}, less the same with {names[1][0]}"
            yield term, "", "", np.outer(steps[0][first], steps[1][second]).ravel()


def _over(names: list[str]) -> str:
    return f"all with {names[0]}" if len(names) == 1 else f"mean over {', '.join(names)}"


def _words(row: Any) -> str:
    if np.isnan(row.p) and row.freedom == 0:
        return NO_ERROR_TERM
    if row.left or not distinguishable(row):
        return words(row)
    return "interaction"


def left_out(cells: pd.DataFrame, used: set[str], options: Options) -> list[str]:
    """Every cell that is in no balanced part of any measurement, with the reason."""
    combinations_used = set(cells[cells["cell"].isin(used)][list(options.factors)].itertuples(index=False, name=None))
    lines: dict[str, list[str]] = {}
    for cell in rows_of(cells[~cells["cell"].isin(used)]):
        if not cell.complete:
            reason = "missing run"
        elif tuple(getattr(cell, factor) for factor in options.factors) in combinations_used:
            reason = f"{level_name(options.block, getattr(cell, options.block))} lacks another cell"
        else:
            reason = "no balanced part of the grid has it, or nothing was measured"
        lines.setdefault(reason, []).append(cell.cell)
    return [f"Left out ({reason}): {'; '.join(names)}." for reason, names in lines.items()]


def effects_table(estimated: pd.DataFrame, notes: list[str], stated: dict[str, list[str]] | None = None) -> Table:
    """Rows are measurements within each contrast."""
    rows = []
    for row in rows_of(estimated.sort_values("term", kind="stable", key=lambda terms: pd.factorize(terms)[0])):
        name = measurement(row._asdict())
        rows.append((row.term, [name, *tested(row), f"{row.repetitions} ({row.freedom})", row.words]))
    method = [
        "Least squares with the repetitions (seeds) as blocks. Brackets: 95% interval from the effect's own spread over the "
        "repetitions, and over items where known.",
        f"p: {families.described(stated)}.",
        "A main effect is the difference of two levels' means. An interaction is the difference of two such differences.",
    ]
    header = ["Measurement", "Effect", "p (Holm)", "Repetitions (df)", "In words"]
    return Table("effects", "Main effects and interactions", header, grouped(rows), [*notes, *method])


def interaction(study: StudyRecords, scored: pd.DataFrame, cells: pd.DataFrame, options: Options) -> ReportFigure:
    """The first factor along x, a line per level of the second: parallel lines are no interaction."""
    first, second = options.factors
    columns, lines = design.levels(cells, first), design.levels(cells, second)
    with panels.panels(scored) as (figure, drawn):
        for axis, group in drawn:
            for place, line in enumerate(lines):
                look, shift = figure_style.series(place), 0.08 * (place - (len(lines) - 1) / 2)
                runs = [group[(group[first] == column) & (group[second] == line)] for column in columns]
                x = np.array([number + shift for number, of_cell in enumerate(runs) if len(of_cell)])
                kept = [of_cell for of_cell in runs if len(of_cell)]
                panels.draw_line(axis, x, [_point(study, of_cell) for of_cell in kept], look)
                for spot, of_cell in zip(x, kept, strict=True):
                    panels.draw_runs(axis, np.full(len(of_cell), spot), of_cell["value"].to_numpy(dtype=float), look)
            name_columns(axis, [level_name(first, level) for level in columns], panels.PLOT)
            axis.set_xlim(-0.4, len(columns) - 0.6)
        panels.name_curves(
            figure, [(level_name(second, level), figure_style.series(n)) for n, level in enumerate(lines)]
        )
    caption = (
        f"Means by {first} (along the axis) and {second} (lines), with 95% intervals over {options.block}s and items; "
        "faint points are runs. Parallel lines: the two effects add up. Other lines: the factors interact. "
        "Combinations that do not exist are left out."
    )
    data = design.main_measures(scored)[["cell", "run", first, second, options.block, *MEASURE, "value"]]
    return ReportFigure(interaction, "interaction", f"{first} and {second}".capitalize(), caption, figure, data)


def _point(study: StudyRecords, of_cell: pd.DataFrame) -> tuple[float, Interval | None]:
    """The mean of a cell's runs; an interval where there are several."""
    cell = estimate(study.items, of_cell)
    assert cell is not None, "only rows with values are drawn"
    return cell["value"], Interval(cell["low"], cell["high"]) if len(of_cell) > 1 else None


def _numbers(estimated: pd.DataFrame) -> dict[str, str]:
    numbers: dict[str, str] = {}
    for row in rows_of(estimated):
        key = f"effects/{row.protocol}/{row.task}/{row.metric}/{row.term}"
        numbers |= {key: signed(row.value), f"{key}/words": row.words}
        if not np.isnan(row.p):
            numbers |= {f"{key}/low": number(row.low), f"{key}/high": number(row.high)}
    return numbers
