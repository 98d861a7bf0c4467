"""Every main measurement against the size of the model: how the kinds keep their order as they grow."""

import pandas as pd

from analysis import figure_style, wording
from analysis.families import is_part
from analysis.figures import ReportFigure
from analysis.kinds import panels
from analysis.kinds.design import own_way
from analysis.study_records import MEASURE, StudyRecords, rows_of
from analysis.uncertainty import Interval

OTHER = "other"  # the column of parameters besides the embedding, as the CSV file heads it


def against_size(study: StudyRecords, cells: pd.DataFrame) -> ReportFigure | None:
    """A panel per measurement, a line per member, parameters besides the embedding along x; None for a single size.

    Blocks of one corpus are joined; of several corpora the one with most sizes is drawn.
    """
    points = _points(study, cells)
    if points.empty or points.groupby("member")["x"].nunique().max() < 2:
        return None
    members = wording.members_first(set(points["member"]))
    with panels.panels(points) as (figure, drawn):
        for axis, group in drawn:
            for member in members:
                of_member = group[group["member"] == member].sort_values("x")
                if len(of_member):
                    ends = [(float(row.value), Interval(row.low, row.high)) for row in rows_of(of_member)]
                    panels.draw_line(
                        axis, of_member["x"].to_numpy(dtype=float), ends, figure_style.look(member, members)
                    )
            panels.use_logarithms(axis)
            axis.set_xlabel("non-embedding parameters, millions", fontsize=8)
        panels.name_curves(figure, [(member, figure_style.look(member, members)) for member in members])
    corpus = str(points["corpus"].iloc[0])
    caption = (
        f"Scores against size on {corpus}, with 95% intervals. The axis leaves out embedding parameters, which are a "
        "column of the numbers. Where scoring differs between members, each is scored its own way."
    )
    columns = ["member", "block", "embedding", OTHER, *MEASURE, "value", "low", "high"]
    return ReportFigure(against_size, "size", "Against size", caption, figure, points[columns])


def _points(study: StudyRecords, cells: pd.DataFrame) -> pd.DataFrame:
    """The cells of whole tasks of one corpus, with their members' parameters."""
    runs = study.runs.assign(**{OTHER: study.runs["parameters"] - study.runs["embedding"].fillna(0)})
    sizes = runs.groupby(["block", "member"])[["embedding", OTHER]].first().join(
        runs.groupby("block")["corpus"].first()
    )  # fmt: skip
    shown = cells[cells["value"].notna() & ~is_part(cells) & ~cells["metric"].isin(wording.UNORDERED)]
    points = own_way(shown).join(sizes, on=["block", "member"])
    points = points.assign(x=points[OTHER] / 1e6)
    if points.empty:
        return points
    corpus = points.groupby("corpus")["x"].nunique().idxmax()
    return points[points["corpus"] == corpus]
