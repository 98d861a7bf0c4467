"""The figure above the list of findings: one measurement of each of a few studies, from the data of their reports' figures."""

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from analysis import figure_style, wording
from analysis.figures import ReportFigure, new_figure
from analysis.kinds import panels
from analysis.labels import labels
from analysis.study_records import rows_of
from analysis.uncertainty import Interval
from ettin_core.foundation.errors import invalid, unknown

WIDTH, HEIGHT = 2.6, 2.7  # inches of a panel


@dataclass(frozen=True)
class Panel:
    """A measurement of a study, drawn as in the study's own figure (`interaction`, `curve`, `frontier` or `comparison`)."""

    study: str
    figure: str
    protocol: str
    task: str
    metric: str
    title: str


def draw(entries: list[Panel], results: Path, files: Mapping[Path, bytes]) -> ReportFigure:
    """The panels in a row; one without a record says so. Raises ValueError for a study without such a figure."""
    data = []
    with figure_style.applied():
        figure = new_figure(WIDTH * max(1, len(entries)), HEIGHT)
        for axis, panel in zip(figure.subplots(1, max(1, len(entries)), squeeze=False)[0], entries, strict=False):
            rows = _rows(panel, results, files)
            if rows.empty:
                axis.text(0.5, 0.5, "not measured", ha="center", va="center", transform=axis.transAxes, fontsize=8)
                axis.set_axis_off()
            else:
                DRAWN[panel.figure](axis, rows)
            axis.set_title(panel.title, fontsize=panels.TITLE)
            data.append(rows.assign(study=panel.study))
    frame = pd.concat(data, ignore_index=True) if data else pd.DataFrame(columns=["study"])
    return ReportFigure(draw, "findings", "What was found", CAPTION, figure, frame)


CAPTION = "Lines join means over seeds, faint points are runs, bars and bands are 95% intervals. The studies are those listed."


def _rows(panel: Panel, results: Path, files: Mapping[Path, bytes]) -> pd.DataFrame:
    if panel.figure not in DRAWN:
        raise unknown("figure", panel.figure, "is not a figure that can be shown here", DRAWN)
    file = results / panel.study / f"{panel.figure}.data.csv"
    if file not in files:
        raise invalid(
            "study", panel.study, f"has no {file.name} in {results}", "pack its records, or take the panel out"
        )
    frame = pd.read_csv(io.BytesIO(files[file]))
    return frame[
        (frame["protocol"] == panel.protocol) & (frame["task"] == panel.task) & (frame["metric"] == panel.metric)
    ]


def _interaction(axis: Axes, rows: pd.DataFrame) -> None:
    """Direction along x, a line per objective, a point per run: what `kinds/effects.py` draws of a grid of these two."""
    columns, lines = (list(rows[name].drop_duplicates()) for name in ("direction", "objective"))
    for number, line in enumerate(lines):
        look, shift = figure_style.series(number), 0.1 * (number - (len(lines) - 1) / 2)
        group = rows[rows["objective"] == line]
        means = group.groupby("direction", sort=False)["value"].mean()
        at = [columns.index(direction) + shift for direction in means.index]
        panels.draw_line(axis, np.array(at), [(value, None) for value in means], look)
        panels.draw_runs(
            axis, [columns.index(direction) + shift for direction in group["direction"]], group["value"], look
        )
        axis.plot([], [], color=look.colour, marker=look.marker, markersize=5, label=line)
    axis.set_xticks(range(len(columns)), columns, fontsize=8)
    axis.set_xlim(-0.4, len(columns) - 0.6)
    axis.legend(fontsize=7)


def _curve(axis: Axes, rows: pd.DataFrame) -> None:
    """A mean for each level of an axis, and a band."""
    rows = rows.sort_values("x")
    x = rows["x"].to_numpy(dtype=float)
    axis.fill_between(x, rows["low"], rows["high"], color=figure_style.series(0).colour, alpha=0.15, linewidth=0)
    panels.draw_line(axis, x, [(value, None) for value in rows["value"]], figure_style.series(0))


def _frontier(axis: Axes, rows: pd.DataFrame) -> None:
    """How far conversions are behind the native member, against the logarithm of their budget."""
    axis.axhline(0.0, color="0.25", linewidth=1.2)
    panels.use_logarithms(axis)
    for number, (name, group) in enumerate(rows.groupby("curve", sort=False)):
        points = [(row.value, Interval(row.low, row.high)) for row in group.itertuples()]
        panels.draw_line(axis, group["x"].to_numpy(dtype=float), points, figure_style.series(number))
        look = figure_style.series(number)
        axis.plot([], [], color=look.colour, marker=look.marker, markersize=5, label=name)
    axis.set_xlabel("budget, share of the parent's tokens", fontsize=8)
    axis.legend(fontsize=6)


def _comparison(axis: Axes, rows: pd.DataFrame) -> None:
    """A point with its interval for each member, and for each size or corpus where there are several."""
    blocks, members = (list(rows[name].drop_duplicates()) for name in ("block", "member"))
    members = wording.members_first(set(members))
    for member in members:
        group, look = rows[rows["member"] == member], figure_style.look(member, members)
        shift = (
            0.6 / len(members) * (members.index(member) - (len(members) - 1) / 2)
            if len(blocks) > 1
            else members.index(member)
        )
        places = np.array([blocks.index(block) + shift for block in group["block"]])
        panels.draw_points(axis, places, [(row.value, Interval(row.low, row.high)) for row in rows_of(group)], look)
        axis.plot([], [], color=look.colour, linestyle="", marker=look.marker, markersize=5, label=member)
    for reference in set(rows["reference"].dropna()):
        axis.axhline(reference, color="0.25", linestyle=":", linewidth=1.2)
    if len(blocks) > 1:
        axis.set_xticks(range(len(blocks)), labels(blocks, 12), fontsize=8)
        axis.set_xlim(-0.5, len(blocks) - 0.5)
        axis.legend(fontsize=7)
    else:
        axis.set_xticks(range(len(members)), [name.replace("-from-", "\nfrom ") for name in members], fontsize=7.5)
        axis.set_xlim(-0.5, len(members) - 0.5)


DRAWN: dict[str, Callable[[Axes, pd.DataFrame], None]] = {
    "interaction": _interaction,
    "curve": _curve,
    "frontier": _frontier,
    "comparison": _comparison,
}
