"""The published figures, drawn from a study's records."""

import pandas as pd
from matplotlib.patches import Patch

from analysis import style
from analysis.evidence import StudyRecords, rows_of
from analysis.figures import ReportFigure, new_figure
from analysis.kinds import panels
from analysis.pronoun_figures import draw_bars
from analysis.published import Published
from analysis.uncertainty import Interval

PANEL, ROW = 3.1, 0.36  # inches of a panel's side and of a bar with its space


def drawn(item: Published, found: pd.DataFrame, evidence: StudyRecords) -> ReportFigure | None:
    """The figure of a published exhibit; None where nothing of it was measured."""
    own = found[(found["exhibit"] == item.name) & found["value"].notna()]
    if own.empty:
        return None
    return against_size(item, own, evidence) if item.drawn == "size" else shares(item, own)


def against_size(item: Published, own: pd.DataFrame, evidence: StudyRecords) -> ReportFigure:
    """A panel per measure, a line per kind, parameters besides the embedding along x."""
    others = evidence.runs["parameters"] - evidence.runs["embedding"].fillna(0)
    sizes = others.groupby([evidence.runs["block"], evidence.runs["member"]]).first() / 1e6
    own = own.assign(x=[float(sizes[row.block, row.member]) for row in rows_of(own)])
    kinds = [kind for kind in style.MEMBERS if kind in set(own["kind"])]
    with style.applied():
        figure = new_figure(PANEL * len(item.measures), PANEL + 0.3)
        for axis, measure in zip(figure.subplots(1, len(item.measures), squeeze=False)[0], item.measures, strict=True):
            axis.set_title(f"{measure.name} ↑")
            for kind in kinds:
                line = own[(own["measure"] == measure.name) & (own["kind"] == kind)].sort_values("x")
                ends = [(float(row.value), Interval(row.low, row.high)) for row in rows_of(line)]
                if len(line):
                    panels.draw_line(axis, line["x"].to_numpy(dtype=float), ends, style.look(kind, kinds))
            if own["x"].nunique() > 1:
                panels.use_logarithms(axis)
            axis.set_xlabel("non-embedding parameters, millions", fontsize=8)
        panels.name_curves(figure, [(kind, style.look(kind, kinds)) for kind in kinds])
    caption = "Scores of each kind against size, with 95% intervals where items are known."
    return ReportFigure(against_size, item.slug, f"{item.name}: {item.shows}", caption, figure, own)


def shares(item: Published, own: pd.DataFrame) -> ReportFigure:
    """A bar for each kind at each size, divided into the shares of the measures."""
    single = own["block"].nunique() == 1
    names = [row.kind if single else f"{row.kind}, {row.block}" for row in rows_of(own)]
    kinds = (
        own.assign(bar=names)
        .drop_duplicates("bar")
        .sort_values("kind", key=lambda kind: kind.map(style.MEMBERS.index), kind="stable")
    )
    table = (
        own.assign(bar=names)
        .pivot(index="bar", columns="measure", values="value")
        .loc[list(kinds["bar"]), list(style.GENDERS)]
    )
    with style.applied():
        figure = new_figure(7.0, ROW * len(table) + 1.0)
        axis = figure.subplots()
        draw_bars(axis, table)
        axis.set_xlabel("share of sentences")
        handles = [Patch(facecolor=colour, label=gender) for gender, colour in style.GENDERS.items()]
        figure.legend(handles=handles, loc="outside upper center", ncols=len(handles))
    caption = (
        "The pronoun that each model predicts on sentences whose pronoun defies the occupation's majority, by the published "
        "protocols, which ask encoders and decoders differently."
    )
    return ReportFigure(shares, item.slug, f"{item.name}: {item.shows}", caption, figure, own)
