"""Figures with a panel per measurement, which the kinds of analysis share."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from analysis import figure_style, wording
from analysis.figures import add_legend, described, new_figure
from analysis.kinds.design import main_measures, measured
from analysis.labels import fitting, multiline
from analysis.uncertainty import Interval

COLUMNS, WIDTH, HEIGHT = 3, 3.1, 2.7  # panels in a row, and inches of each
PLOT, TITLE = 2.5, 8.5  # inches of a panel without its numbers at the left; points of its title


@contextmanager
def panels(frame: pd.DataFrame) -> Iterator[tuple[Figure, list[tuple[Axes, pd.DataFrame]]]]:
    """A figure in the project's style with a titled panel for each main measurement, and the measurement's rows."""
    groups = [group for _, group in measured(main_measures(frame))]
    columns = max(1, min(COLUMNS, len(groups)))
    rows = max(1, -(-len(groups) // columns))
    with figure_style.applied():
        figure = new_figure(WIDTH * max(columns, 2), HEIGHT * rows + 0.4)
        axes = figure.subplots(rows, columns, squeeze=False).ravel()
        for axis in axes[len(groups) :]:
            axis.remove()
        for axis, group in zip(axes, groups, strict=False):
            first = group.iloc[0]
            lines = [wording.protocol_name(first["protocol"]), described(first)]
            axis.set_title("\n".join(multiline(line, fitting(PLOT, TITLE)) for line in lines), fontsize=TITLE)
            axis.margins(x=0.08)
        yield figure, list(zip(axes, groups, strict=False))


def draw_line(
    axis: Axes, x: np.ndarray, points: Sequence[tuple[float, Interval | None]], look: figure_style.Look
) -> None:
    """Means joined by a line, each with its interval if it has one."""
    means = np.array([value for value, _ in points])
    axis.plot(x, means, color=look.colour, linestyle=look.line, linewidth=1.3, zorder=2)
    draw_points(axis, x, points, look)


def draw_points(
    axis: Axes, x: np.ndarray, points: Sequence[tuple[float, Interval | None]], look: figure_style.Look
) -> None:
    """Means, each with its interval if it has one."""
    for place, (value, interval) in zip(x, points, strict=True):
        known = interval is not None and not np.isnan(interval.low)
        bars = [[value - interval.low], [interval.high - value]] if interval and known else None
        face = look.colour if look.filled else "white"
        axis.errorbar(
            place, value, yerr=bars, color=look.colour, marker=look.marker, markersize=5, markerfacecolor=face, zorder=3
        )


def draw_runs(axis: Axes, x: Any, values: Any, look: figure_style.Look) -> None:
    """A small faint point for every run."""
    axis.scatter(x, values, s=9, color=look.colour, alpha=0.45, linewidths=0, zorder=1)


def use_logarithms(axis: Axes) -> None:
    """A logarithmic x axis with plain numbers at 1, 2 and 5 of each decade; matplotlib's own overlap within one decade."""
    axis.set_xscale("log")
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.tick_params(axis="x", labelsize=7.5)


def name_curves(figure: Figure, entries: list[tuple[str, figure_style.Look]]) -> None:
    """One legend above all panels."""
    handles = [
        Line2D(
            [],
            [],
            color=look.colour,
            linestyle=look.line,
            marker=look.marker,
            markersize=5,
            markerfacecolor=look.colour if look.filled else "white",
        )
        for _, look in entries
    ]
    add_legend(figure, handles, [name for name, _ in entries])
