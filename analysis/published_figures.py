"""The published figures, drawn from a study's records."""

import pandas as pd
from matplotlib.patches import Patch

from analysis import figure_style, wording
from analysis.figures import ReportFigure, new_figure
from analysis.kinds import panels
from analysis.pronoun_figures import draw_bars
from analysis.published import Published
from analysis.study_records import StudyRecords, rows_of
from analysis.uncertainty import Interval

PANEL, ROW = 3.1, 0.36  # inches of a panel's side and of a bar with its space


def drawn(item: Published, filled: pd.DataFrame, study: StudyRecords) -> ReportFigure | None:
    """The figure as published; None where nothing of it was measured."""
    points = filled[(filled["exhibit"] == item.name) & filled["value"].notna()]
    if points.empty:
        return None
    return against_size(item, points, study) if item.drawn == "size" else shares(item, points)


def against_size(item: Published, points: pd.DataFrame, study: StudyRecords) -> ReportFigure:
    """A panel per measure, a line per kind, parameters besides the embedding along x."""
    others = study.runs["parameters"] - study.runs["embedding"].fillna(0)
    sizes = others.groupby([study.runs["block"], study.runs["member"]]).first() / 1e6
    points = points.assign(x=[float(sizes[row.block, row.member]) for row in rows_of(points)])
    kinds = [kind for kind in wording.MEMBERS if kind in set(points["kind"])]
    with figure_style.applied():
        figure = new_figure(PANEL * len(item.measures), PANEL + 0.3)
        for axis, measure in zip(figure.subplots(1, len(item.measures), squeeze=False)[0], item.measures, strict=True):
            axis.set_title(f"{measure.name} ↑")
            for kind in kinds:
                line = points[(points["measure"] == measure.name) & (points["kind"] == kind)].sort_values("x")
                ends = [(float(row.value), Interval(row.low, row.high)) for row in rows_of(line)]
                if len(line):
                    panels.draw_line(axis, line["x"].to_numpy(dtype=float), ends, figure_style.look(kind, kinds))
            if points["x"].nunique() > 1:
                panels.use_logarithms(axis)
            axis.set_xlabel("non-embedding parameters, millions", fontsize=8)
        panels.name_curves(figure, [(kind, figure_style.look(kind, kinds)) for kind in kinds])
    caption = "Scores of each kind against size, with 95% intervals where items are known."
    return ReportFigure(against_size, item.slug, f"{item.name}: {item.shows}", caption, figure, points)


def shares(item: Published, points: pd.DataFrame) -> ReportFigure:
    """A bar for each kind at each size, divided into the shares of the measures."""
    single = points["block"].nunique() == 1
    names = [row.kind if single else f"{row.kind}, {row.block}" for row in rows_of(points)]
    kinds = (
        points.assign(bar=names)
        .drop_duplicates("bar")
        .sort_values("kind", key=lambda kind: kind.map(wording.MEMBERS.index), kind="stable")
    )
    table = (
        points.assign(bar=names)
        .pivot(index="bar", columns="measure", values="value")
        .loc[list(kinds["bar"]), list(figure_style.GENDERS)]
    )
    with figure_style.applied():
        figure = new_figure(7.0, ROW * len(table) + 1.0)
        axis = figure.subplots()
        draw_bars(axis, table)
        axis.set_xlabel("share of sentences")
        handles = [Patch(facecolor=colour, label=gender) for gender, colour in figure_style.GENDERS.items()]
        figure.legend(handles=handles, loc="outside upper center", ncols=len(handles))
    caption = (
        "The pronoun that each model predicts on sentences whose pronoun defies the occupation's majority, by the published "
        "protocols, which ask encoders and decoders differently."
    )
    return ReportFigure(shares, item.slug, f"{item.name}: {item.shows}", caption, figure, points)
