"""How what was measured grows along training: every measured checkpoint of every member, with its interval."""

import math

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from analysis import figure_style, wording
from analysis.costs import RULERS
from analysis.estimates import stored_bounds
from analysis.families import is_part
from analysis.figures import ReportFigure, add_legend, member_handle, new_figure
from analysis.labels import fitting, label
from analysis.study_records import StudyRecords, rows_of

# What a curve is drawn of: competence, bias beside it, and what says how much of either is there.
METRICS = (
    "accuracy",
    "loss",
    "correlation_with_truth",
    "amplification_slope",
    "gotcha_rate",
    "gap",
    "stereotype",
    "stereotype_score",
    "language_model_score",
)
COLUMNS = 3
PLOT, TITLE = 1.9, 7.0  # inches of a panel without its numbers at the left; points of its title


def along_checkpoints(study: StudyRecords, block: str) -> ReportFigure | None:
    """A panel per protocol, task and metric, a curve per member; None where only last checkpoints were measured."""
    runs = study.runs[study.runs["block"] == block]
    points = study.trajectory[study.trajectory["run"].isin(runs.index)]
    whole = ~is_part(points) & points["metric"].isin(METRICS) & points["value"].notna()
    points = points[whole].sort_values(study.ruler)
    if points.empty or points.groupby("run")["checkpoint"].nunique().max() < 2:
        return None
    panels = list(points.groupby(["protocol", "task", "metric"], sort=True))
    members = wording.members_first(set(points["member"]))
    with figure_style.applied():
        rows = math.ceil(len(panels) / COLUMNS)
        figure = new_figure(7.0, 1.9 * rows + 0.5)
        grid = figure.subplots(rows, COLUMNS, squeeze=False)
        for panel, ((protocol, task, metric), group) in zip(grid.flat, panels, strict=False):
            lines = [wording.protocol_name(str(protocol)), f"{task}, {wording.metric_name(str(metric))}"]
            panel.set_title("\n".join(label(line, fitting(PLOT, TITLE)) for line in lines), fontsize=TITLE)
            _draw(panel, group, study.ruler, members)
        for panel in grid.flat[len(panels) :]:
            panel.set_visible(False)
        figure.supxlabel(RULERS[study.ruler], fontsize=9)
        shown = [member for member in members if member in set(points["member"])]
        add_legend(figure, [member_handle(member, members) for member in shown], shown)
    caption = (
        "Every measured checkpoint, with its 95% interval over items where its error is known. Dotted: the reference (chance, "
        "truth or no preference). Where accuracy is still at chance, bias means little."
    )
    columns = ["member", "seed", "checkpoint", study.ruler, "protocol", "task", "metric", "value", "standard_error"]
    return ReportFigure(along_checkpoints, "checkpoints", "Along training", caption, figure, points[columns])


def _draw(panel: Axes, points: pd.DataFrame, ruler: str, members: list[str]) -> None:
    for _, run in points.groupby("run", sort=False):
        look = figure_style.look(str(run["member"].iloc[0]), members)
        panel.plot(run[ruler], run["value"], color=look.colour, linestyle=look.line, marker=look.marker, markersize=3)
        panel.fill_between(run[ruler], *spans(run), color=look.colour, alpha=0.15)  # none where an error is unknown
    reference = points["reference"].dropna()
    if reference.nunique() == 1:
        panel.axhline(float(reference.iloc[0]), color="0.4", linestyle=":", linewidth=1)


def spans(run: pd.DataFrame) -> tuple[list[float], list[float]]:
    """Both ends of every checkpoint's interval over items; not a number where its error is unknown."""
    spans = [
        stored_bounds(str(row.metric), np.array([row.value]), np.array([row.standard_error], dtype=float), int(row.n))
        for row in rows_of(run)
    ]
    return [float(span.low) for span in spans], [float(span.high) for span in spans]
