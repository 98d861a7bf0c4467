"""The published figures, drawn from a study's records."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Patch

from analysis import figure_style, published_values, wording
from analysis.figures import ReportFigure, new_figure
from analysis.kinds import panels
from analysis.pronoun_figures import draw_bars
from analysis.published import Published
from analysis.study_records import StudyRecords, rows_of

PANEL, ROW = 3.1, 0.36  # inches of a panel's side and of a bar with its space


def drawn(item: Published, filled: pd.DataFrame, study: StudyRecords) -> ReportFigure | None:
    """The figure as published; None where nothing of it was measured."""
    points = filled[(filled["exhibit"] == item.name) & filled["value"].notna()]
    if points.empty:
        return None
    return against_size(item, points, study) if item.drawn == "size" else shares(item, points)


def against_size(item: Published, points: pd.DataFrame, study: StudyRecords) -> ReportFigure:
    """A panel per measure, a line per kind, parameters besides the embedding along x; the published values in a row below."""
    others = study.runs["parameters"] - study.runs["embedding"].fillna(0)
    sizes = others.groupby([study.runs["block"], study.runs["member"]]).first() / 1e6
    ours = points.assign(x=[float(sizes[row.block, row.member]) for row in rows_of(points)], published=False)
    theirs = published_values.of(item.name)
    theirs = theirs.assign(member=theirs["kind"], published=True)
    members = wording.members_first({*ours["member"], *theirs["member"]})
    with figure_style.applied():
        figure = new_figure(PANEL * len(item.measures), 2 * PANEL + 0.3)
        grid = figure.subplots(2, len(item.measures), squeeze=False)
        for row, frame, whose in zip(grid, (ours, theirs), ("", ", published"), strict=True):
            for axis, measure in zip(row, item.measures, strict=True):
                axis.set_title(f"{measure.name}{whose} ↑")
                _draw_members(axis, frame[frame["measure"] == measure.name], members)
        for axis in grid[1]:
            axis.set_xlabel("non-embedding parameters, millions", fontsize=8)
        panels.name_curves(figure, [(member, figure_style.look(member, members)) for member in members])
    caption = (
        "Scores of each kind against size, with 95% intervals where items are known. Below: the published values, which have one "
        "seed and no intervals. An empty panel was not measured here."
    )
    data = pd.concat([ours, theirs], ignore_index=True)
    return ReportFigure(against_size, item.slug, f"{item.name}: {item.shows}", caption, figure, data)


def _draw_members(axis: Axes, points: pd.DataFrame, members: list[str]) -> None:
    """A line for each member, with bands where there are intervals."""
    for member in members:
        line = points[points["member"] == member].sort_values("x")
        if line.empty:
            continue
        look, x = figure_style.look(member, members), line["x"].to_numpy(dtype=float)
        bounds = line.reindex(columns=["low", "high"]).to_numpy(dtype=float)
        panels.draw_line(axis, x, [(value, None) for value in line["value"].astype(float)], look)
        if len(line) > 1:
            axis.fill_between(x, *bounds.T, color=look.colour, alpha=0.15, linewidth=0)
        else:
            axis.vlines(x, *bounds.T, color=look.colour, linewidth=1.2)
    if points["x"].nunique() > 1:
        panels.use_logarithms(axis)


def shares(item: Published, points: pd.DataFrame) -> ReportFigure:
    """A bar for each kind at each size, divided into the shares of the measures; below, the published shares at all sizes."""
    single = points["block"].nunique() == 1
    names = [row.member if single else f"{row.member}, {row.block}" for row in rows_of(points)]
    ours = points.assign(bar=names, published=False)
    theirs = published_values.of(item.name)
    theirs = theirs[theirs["kind"].isin(item.kinds)]
    theirs = theirs.assign(bar=theirs["kind"] + ", " + theirs["size"], published=True)
    bars = [_bars(ours), _bars(theirs)]
    with figure_style.applied():
        heights = [len(bars[0]) + 0.6, 0.7 * (len(bars[1]) + 0.6)]
        figure = new_figure(7.0, ROW * sum(heights) + 1.3)
        axes = figure.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": heights})
        for axis, table, title in zip(axes, bars, ("This study", "Published"), strict=True):
            draw_bars(axis, table)
            axis.set_title(title)
            axis.set_ylim(len(table) - 0.5, -0.5)
        axes[-1].set_xlabel("share of sentences")
        handles = [Patch(facecolor=colour, label=gender) for gender, colour in figure_style.GENDERS.items()]
        figure.legend(handles=handles, loc="outside upper center", ncols=len(handles))
    caption = (
        "The pronoun that each model predicts on sentences whose pronoun defies the occupation's majority, by the published "
        "protocols, which ask encoders and decoders differently. Below: the published shares."
    )
    data = pd.concat([ours, theirs], ignore_index=True)
    return ReportFigure(shares, item.slug, f"{item.name}: {item.shows}", caption, figure, data)


def _bars(points: pd.DataFrame) -> pd.DataFrame:
    """A row per bar in the order of the kinds, a column per gender."""
    order = points.drop_duplicates("bar").sort_values(
        "kind", key=lambda kind: kind.map(wording.MEMBERS.index), kind="stable"
    )
    table = points.pivot(index="bar", columns="measure", values="value")
    return table.loc[list(order["bar"]), list(figure_style.GENDERS)]
