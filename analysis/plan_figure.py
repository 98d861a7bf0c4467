"""The learning rates of a plan, phase by phase: `python -m analysis.plan_figure record=<schedules.csv> out=<folder>`."""

from pathlib import Path

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator
from omegaconf import DictConfig

from analysis import figure_style
from analysis.command import command
from analysis.figures import ReportFigure, add_legend, new_figure
from analysis.labels import fitting, label

COLUMNS = ("size", "member", "phase", "tokens", "rate")
TITLES = {"pretrain": "Pre-training", "extension": "Extension", "decay": "Decay", "conversion": "Conversion"}
WIDTHS = (1.3, 3.4, 6.2, 9.0)  # points: of sizes with the same peak the largest is the narrowest, so that each is seen
WIDTH = 10.0  # inches
UNITS = ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k"))


def schedules(record: Path) -> ReportFigure:
    """One panel per phase, and the warm-up before them, on one axis of rates. Raises ValueError for another record."""
    points = pd.read_csv(record)
    if tuple(points.columns) != COLUMNS:
        raise ValueError(f"{record} is not a table of a plan's schedules: it has columns {', '.join(points.columns)}")
    sizes, phases = list(points["size"].unique()), list(points["phase"].unique())
    first = points[points["phase"] == phases[0]]
    with figure_style.applied():
        figure = new_figure(WIDTH, 3.6)
        panels = figure.subplots(1, 1 + len(phases), sharey=True)
        _draw(panels[0], first, sizes, "Warm-up", _rise(first))
        for panel, phase in zip(panels[1:], phases, strict=True):
            title = label(TITLES.get(phase, phase), fitting(0.9 * WIDTH / (1 + len(phases)), 10))
            _draw(panel, points[points["phase"] == phase], sizes, title, None)
        panels[0].set(yscale="log", ylabel="learning rate")
        panels[0].set_ylim(bottom=points.loc[points["rate"] > 0, "rate"].min() / 1.6)
        figure.supxlabel("tokens since the phase began", fontsize=9)
        handles = [Line2D([], [], color=_colour(number, sizes), linewidth=3) for number in range(len(sizes))]
        add_legend(figure, handles, sizes)
    caption = (
        "Learning rate against tokens, each phase from its own start; the first panel is the beginning of pre-training. "
        "Where sizes have the same rates their lines coincide, with the largest size the narrowest. Both members of a "
        "size have the same rates, and so have both conversions."
    )
    return ReportFigure(schedules, "schedules", "Learning rates by phase", caption, figure, points)


def _draw(panel: Axes, points: pd.DataFrame, sizes: list[str], title: str, end: float | None) -> None:
    """The curve of every size; members that have the same are one curve."""
    peaks = points.groupby("size")["rate"].max()
    for number, size in enumerate(sizes):
        inside = sum(peaks[larger] == peaks[size] for larger in sizes[number + 1 :] if larger in peaks)
        curves = points[points["size"] == size].drop_duplicates(["tokens", "rate"])
        for _, curve in curves.groupby("member"):
            width = WIDTHS[min(inside, len(WIDTHS) - 1)]
            panel.plot(
                curve["tokens"],
                curve["rate"],
                color=_colour(number, sizes),
                linewidth=width,
                solid_capstyle="butt",
                solid_joinstyle="round",
            )
    panel.set_title(title)
    panel.set_xlim(0, end if end is not None else points["tokens"].max() * 1.02)
    panel.xaxis.set_major_locator(MaxNLocator(3))
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: tokens_text(value)))


def _rise(points: pd.DataFrame) -> float:
    """A little more than the longest warm-up: where the last curve reaches its peak."""
    tops = points[points["rate"] >= points.groupby(["size", "member"])["rate"].transform("max") * (1 - 1e-9)]
    return float(tops.groupby(["size", "member"])["tokens"].min().max()) * 1.25


def _colour(number: int, sizes: list[str]) -> str:
    """Small sizes light, large ones dark."""
    return to_hex(matplotlib.colormaps["viridis"](0.95 * (1 - number / max(1, len(sizes) - 1))))


def tokens_text(value: float) -> str:
    """A number of tokens as people say it: 1.5T, 50B."""
    for unit, name in UNITS:
        if value >= unit:
            return f"{value / unit:g}{name}"
    return f"{value:g}"


@command("plan_figure")
def main(config: DictConfig) -> None:
    """The command line."""
    out = Path(config.out)
    figure = schedules(Path(config.record))
    figure.save(out)


if __name__ == "__main__":
    main()
