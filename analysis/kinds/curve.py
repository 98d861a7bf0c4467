"""Every measurement against a numeric axis, such as the mask rate: which level is best, and whether that is certain."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from analysis import families, figure_style, wording
from analysis.answer import Answer, counted
from analysis.cell_names import level_name
from analysis.estimates import NO_SPREAD, NO_VERDICT, distinguishable, estimate, paired
from analysis.figures import ReportFigure
from analysis.kinds import design, panels
from analysis.kinds.cells import every_cell
from analysis.kinds.design import Findings, ReportTable
from analysis.labels import fitting, multiline
from analysis.study_records import MEASURE, StudyRecords, rows_of
from analysis.tables import Table, grouped, measurement, number, signed, tested
from analysis.uncertainty import Interval

ONE_REPETITION = "one repetition: cannot be told"
LOGARITHMIC = 8  # an axis whose largest level is this many times its smallest is drawn in logarithms


@dataclass(frozen=True)
class Options:
    """The numeric axis, the axis of repetitions, and an axis that divides the cells into curves."""

    x: str
    block: str = "seed"
    group: str | None = None


def analyse(study: StudyRecords) -> Findings:
    """The best level of each curve, all means, and the curves. Raises ValueError for an axis that is none or no numbers."""
    options = design.options(Options, study)
    cells = design.grid(study, options.block, x=options.x, group=options.group)
    design.check_numeric(cells, "x", options.x)
    named = [options.x, options.block, *([options.group] if options.group else [])]
    design.check_no_mixtures(cells.dropna(subset=[options.x]), named)
    scored = design.scores(study, cells)
    means = design.summary(study, cells, scored)
    on_axis = scored.dropna(subset=[options.x])
    on_axis = on_axis.assign(curve=_curves(on_axis, options))
    points = points_of(study, on_axis, options.x)
    best = best_levels(study, on_axis, options)
    others = list(cells[cells[options.x].isna()]["cell"])
    notes = [f"Left out, without a level of {options.x}: {', '.join(others)}."] if others else []
    tables = [
        ReportTable(best_table(best, options, notes, study.analysis.get("families")), best_table, best),
        every_cell(means, scored, options.block),
    ]
    figures = [curves(points, on_axis, options.x)] if len(points) else []
    return Findings(means, tables, figures, _numbers(best), answers_of(best, options))


def answers_of(best: pd.DataFrame, options: Options) -> list[Answer]:
    """Whether the best level is distinguishable from the second, and which it is then."""

    def words(row: Any) -> str:
        verdict = str(row.words).partition(";")[0]
        return f"{verdict} from the second" if "distinguishable" in verdict else verdict

    def question(key: tuple[str, ...]) -> str:
        return f"The best {_axis(options.x)}" + (f", {key[0]}" if key[0] else "")

    def name(row: Any) -> str:
        return f"{measurement(row._asdict())} (best at {row.best:g})"

    return counted(best, ["curve"], "best_levels", question, words, name)


def best_levels(study: StudyRecords, on_axis: pd.DataFrame, options: Options) -> pd.DataFrame:
    """The best level of each curve and measurement, and its paired lead over the second best."""
    rows: list[dict[str, Any]] = []
    for key, group in design.measured(on_axis):
        higher = bool(group["higher_is_better"].iloc[0])
        for curve, of_curve in group.groupby("curve", sort=False):
            values = of_curve.pivot(index=options.block, columns=options.x, values="value")
            means = values.mean().sort_values(ascending=not higher, kind="stable")
            if len(means) < 2:
                continue
            best, second = means.index[:2]
            leader, next_best = (of_curve[of_curve[options.x] == level] for level in (best, second))
            lead = paired(study.items, leader, next_best, options.block)
            several = lead if lead and lead["repetitions"] > 1 else None
            rows.append(
                {
                    "curve": curve,
                    **dict(zip(MEASURE, key, strict=True)),
                    "higher_is_better": higher,
                    "best": best,
                    "best_value": float(means.iloc[0]),
                    "second": second,
                    "value": lead["value"] if lead else float(means.iloc[0] - means.iloc[1]),
                    **{name: several[name] if several else np.nan for name in ("low", "high", "p")},
                    "repetitions": lead["repetitions"] if lead else 1,
                    "at_the_edge": best in (min(means.index), max(means.index)),
                }
            )
    columns = ["curve", *MEASURE, "higher_is_better", "best", "best_value", "second", "value", "low", "high", "p"]
    frame = pd.DataFrame(rows, columns=[*columns, "repetitions", "at_the_edge"])
    frame = families.corrected(frame, ["curve"], study.analysis.get("families"))
    frame["words"] = [_words(row) for row in rows_of(frame)]
    return frame


def _words(row: Any) -> str:
    edge = "; best at the edge of the range" if row.at_the_edge else ""
    if row.family == "":
        return NO_VERDICT + edge
    if np.isnan(row.p):
        return (ONE_REPETITION if row.repetitions == 1 else NO_SPREAD) + edge
    return ("distinguishable" if distinguishable(row) else "not distinguishable") + edge


def best_table(
    best: pd.DataFrame, options: Options, notes: list[str], stated: dict[str, list[str]] | None = None
) -> Table:
    """Rows are measurements, sections are curves."""
    rows = []
    for row in rows_of(best.sort_values("curve", kind="stable", key=lambda names: pd.factorize(names)[0])):
        name = measurement(row._asdict())
        cells = [name, f"{row.best:g}", number(row.best_value), f"{row.second:g}", *tested(row), row.words]
        rows.append((str(row.curve), cells))
    method = [
        "Lead: the best level minus the second best, paired by repetition (seed) and item, with a 95% interval over both.",
        f"p: {families.described(stated)}. The best level is chosen from the same runs as its lead, which favours it.",
    ]
    header = ["Measurement", f"Best {_axis(options.x)}", "Value", "Second", "Lead", "p (Holm)", "In words"]
    return Table("best_levels", f"The best {_axis(options.x)}", header, grouped(rows), [*notes, *method])


def curves(points: pd.DataFrame, on_axis: pd.DataFrame, x: str) -> ReportFigure:
    """A panel per measurement, a line per curve, a band over repetitions and a point per run."""
    names = names_of(points)
    spread = float(points["x"].max() / points["x"].min()) if points["x"].min() > 0 else 0.0
    with panels.panels(points) as (figure, drawn):
        for axis, group in drawn:
            runs = on_axis[(design.keys(on_axis) == design.keys(group).iloc[0])]
            for name in names:
                of_curve, drawn_as = group[group["curve"] == name], look(name, names)
                places = of_curve["x"].to_numpy(dtype=float)
                axis.fill_between(
                    places, of_curve["low"], of_curve["high"], color=drawn_as.colour, alpha=0.15, linewidth=0
                )
                intervals = [_bars(row) for row in rows_of(of_curve)]
                panels.draw_line(axis, places, list(zip(of_curve["value"], intervals, strict=True)), drawn_as)
                repetitions = runs[runs["curve"] == name]
                panels.draw_runs(axis, repetitions[x].astype(float), repetitions["value"], drawn_as)
            axis.set_xlabel(multiline(_axis(x), fitting(panels.PLOT, 9)))
            if spread >= LOGARITHMIC:
                panels.use_logarithms(axis)
        if len(names) > 1:
            panels.name_curves(figure, [(name, look(name, names)) for name in names])
    bases = " or ".join(sorted(set(points["over"]) - {"none"})) or "nothing"
    caption = f"Means against {_axis(x)} with 95% intervals over {bases} (bands); faint points are runs."
    return ReportFigure(curves, "curve", f"Against {_axis(x)}", caption, figure, points)


def names_of(points: pd.DataFrame) -> list[str]:
    """The curves in the order of a legend: the members in theirs, others as they come."""
    names = list(points["curve"].drop_duplicates())
    return [name for name in wording.MEMBERS if name in names] if set(names) <= set(wording.MEMBERS) else names


def look(name: str, names: list[str]) -> figure_style.Look:
    """How a curve is drawn: members as everywhere, others by their place."""
    return (
        figure_style.look(name, names) if set(names) <= set(wording.MEMBERS) else figure_style.series(names.index(name))
    )


def _bars(row: Any) -> Interval | None:
    """The whiskers of a point: only where there is no spread of runs for the band to show."""
    return Interval(row.low, row.high) if row.over == "items" else None


def points_of(study: StudyRecords, on_axis: pd.DataFrame, x: str) -> pd.DataFrame:
    """A row per measurement, curve (a column of `on_axis`) and level of an axis, with the mean over the runs there."""
    rows = []
    for key, group in design.measured(on_axis):
        for (curve, place), at_place in group.groupby(["curve", x], sort=False):
            cell = estimate(study.items, at_place)
            named = {
                **dict(zip(MEASURE, key, strict=True)),
                "higher_is_better": bool(at_place["higher_is_better"].iloc[0]),
            }
            rows.append({**named, "curve": curve, "x": place, "low": np.nan, "high": np.nan, **(cell or {})})
    columns = [*MEASURE, "higher_is_better", "curve", "x", "value", "low", "high", "n", "over"]
    frame = pd.DataFrame(rows, columns=columns)
    return frame.sort_values("x", kind="stable") if len(frame) else frame


def _curves(frame: pd.DataFrame, options: Options) -> list[str]:
    if options.group is None:
        return [""] * len(frame)
    return [level_name(options.group, level) for level in frame[options.group]]


def _axis(name: str) -> str:
    return name if "." in name else name.replace("_", " ")  # a key of the configuration is shown as it is typed


def _numbers(best: pd.DataFrame) -> dict[str, str]:
    numbers: dict[str, str] = {}
    for row in rows_of(best):
        key = "/".join(filter(None, ["curve", row.curve, row.protocol, row.task, row.metric]))
        numbers |= {f"{key}/best": f"{row.best:g}", f"{key}/lead": signed(row.value), f"{key}/words": row.words}
    return numbers
