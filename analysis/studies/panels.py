"""Figures with a panel per measurement, which the kinds of analysis share."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from analysis import style
from analysis.figures import legend_columns, new_figure
from analysis.studies.design import main_measures, measured
from analysis.uncertainty import Interval

COLUMNS, WIDTH, HEIGHT = 3, 3.1, 2.7  # panels in a row, and inches of each


@contextmanager
def panels(frame: pd.DataFrame) -> Iterator[tuple[Figure, list[tuple[Axes, pd.DataFrame]]]]:
    """A figure in the house style with a titled panel for each main measurement, and the measurement's rows."""
    groups = [group for _, group in measured(main_measures(frame))]
    columns = max(1, min(COLUMNS, len(groups)))
    rows = max(1, -(-len(groups) // columns))
    with matplotlib.rc_context(style.SETTINGS):
        figure = new_figure(WIDTH * max(columns, 2), HEIGHT * rows + 0.4)
        axes = figure.subplots(rows, columns, squeeze=False).ravel()
        for axis in axes[len(groups) :]:
            axis.remove()
        for axis, group in zip(axes, groups, strict=False):
            first = group.iloc[0]
            axis.set_title(f"{style.protocol_name(first['protocol'])}\n{described(first)}", fontsize=8.5)
            axis.margins(x=0.08)
        yield figure, list(zip(axes, groups, strict=False))


def described(row: Any) -> str:
    """A measurement's task, metric and which way is better."""
    return f"{row['task']}, {style.metric_name(row['metric'])}{style.arrow(row['metric'], row['higher_is_better'])}"


def draw_line(axis: Axes, x: np.ndarray, points: Sequence[tuple[float, Interval | None]], look: style.Look) -> None:
    """Means joined by a line, each with its interval if it has one."""
    means = np.array([value for value, _ in points])
    axis.plot(x, means, color=look.colour, linestyle=look.line, linewidth=1.3, zorder=2)
    for place, (value, interval) in zip(x, points, strict=True):
        known = interval is not None and not np.isnan(interval.low)
        bars = [[value - interval.low], [interval.high - value]] if interval and known else None
        face = look.colour if look.filled else "white"
        axis.errorbar(
            place, value, yerr=bars, color=look.colour, marker=look.marker, markersize=5, markerfacecolor=face, zorder=3
        )


def draw_runs(axis: Axes, x: Any, values: Any, look: style.Look) -> None:
    """A small faint point for every run."""
    axis.scatter(x, values, s=9, color=look.colour, alpha=0.45, linewidths=0, zorder=1)


def use_logarithms(axis: Axes) -> None:
    """A logarithmic x axis with plain numbers at 1, 2 and 5 of each decade; matplotlib's own overlap within one decade."""
    axis.set_xscale("log")
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.tick_params(axis="x", labelsize=7.5)


def add_legend(figure: Figure, entries: list[tuple[str, style.Look]]) -> None:
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
            label=name,
        )
        for name, look in entries
    ]
    if handles:
        figure.legend(
            handles=handles, loc="outside upper center", ncols=legend_columns(figure, [name for name, _ in entries])
        )
