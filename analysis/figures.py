"""The figures: loss against tokens, and every measurement with its interval. Each comes with the numbers it plots."""

import io
import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from PIL import Image

from analysis import figure_style, wording
from analysis.costs import RULERS
from analysis.families import redundant
from analysis.labels import label, labels, lacks_letters, width
from analysis.study_records import MEASURE, StudyRecords, rows_of
from ettin_core.foundation.storage import hash_text, write_bytes

ROLLING_SHARE = 20  # the smooth line is the centred mean over a twentieth of a run's logged steps
POINT_HEIGHT, PANEL_HEIGHT, WIDTH = 0.09, 0.78, 8.0  # inches
LEGEND_HANDLE, LEGEND_LETTER = 0.55, 0.08  # inches of an entry's mark and of a letter
LEGEND_LETTERS, ROW_LETTERS, TITLE_LETTERS = 40, 48, 70
CODES = (
    "Letters that no installed font has are shown by their codes, as [U+4E2D]; the numbers have them. A font such as Noto "
    "Sans CJK, once installed, shows them."
)
_AT_LEFT: dict[str, Any] = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points", "fontsize": 8}


@dataclass(frozen=True)
class ReportFigure:
    """A figure, its caption, the numbers it plots, and the function that drew it."""

    maker: Callable[..., Any]
    name: str
    title: str
    caption: str
    figure: Figure
    data: pd.DataFrame

    @property
    def note(self) -> str:
        """What readers must know of names in the figure, if anything."""
        return CODES if lacks_letters(self.data) else ""

    def of_block(self, suffix: str) -> "ReportFigure":
        """The same figure, its name and title saying which block it shows."""
        slug = re.sub(r"[^a-z0-9]+", "-", suffix.lower()).rstrip("-")
        if re.search(r"[^a-z0-9 ()_.-]", suffix):  # another block's may read the same
            slug += f"-{hash_text(suffix)[:6]}"
        return replace(self, name=self.name + slug, title=self.title + suffix)

    def encoded(self, kind: str) -> bytes:
        """The file's bytes ("pdf" or "png"), the same for the same records: no creation date."""
        buffer = io.BytesIO()
        options = {"metadata": {"CreationDate": None}} if kind == "pdf" else {"pil_kwargs": {"compress_level": 0}}
        with figure_style.applied():
            self.figure.savefig(buffer, format=kind, **options)
        return buffer.getvalue() if kind == "pdf" else _with_palette(buffer)

    def save(self, folder: Path) -> None:
        """Write the figure as PNG and PDF, and print where."""
        if self.note:
            print(self.note)
        for kind in ("png", "pdf"):
            file = folder / f"{self.name}.{kind}"
            write_bytes(file, self.encoded(kind))
            print(f"figure   {file}")


def _with_palette(png: io.BytesIO) -> bytes:
    """An image with the 256 colours that come closest: a third of the bytes, and lines as sharp."""
    with Image.open(png) as image:
        reduced = image.convert("RGB").quantize(256, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    buffer = io.BytesIO()
    reduced.save(buffer, format="png", dpi=image.info["dpi"])
    return buffer.getvalue()


def new_figure(width: float, height: float) -> Figure:
    """An empty figure in the project's style, without the global state of pyplot."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def loss(study: StudyRecords, cells: pd.DataFrame, block: str) -> ReportFigure:
    """Training loss against what it cost, one panel per objective, because losses of two objectives cannot be compared."""
    ruler, cost = study.ruler, RULERS[study.ruler]
    rows = study.training[(study.training["block"] == block) & (study.training[ruler] > 0)]
    rows = rows.assign(member=rows["run"].map(study.runs["drawn_as"]))
    objectives = sorted(set(rows["objective"]), key=lambda name: (name not in ("mlm", "clm"), name != "mlm", name))
    others = sorted(set(rows["member"]))
    with figure_style.applied():
        figure = new_figure(4.2 * max(1, len(objectives)), 3.7)
        panels = figure.subplots(1, max(1, len(objectives)), squeeze=False)[0]
        for panel, objective in zip(panels, objectives, strict=False):
            for _, run in rows[rows["objective"] == objective].groupby("run"):
                _draw_loss(panel, run.sort_values(ruler), ruler, others)
            panel.set(xscale="log", xlabel=f"{cost} since the run or conversion began")
            panel.set_ylabel(wording.objective_axis(objective))
            if objective == "clm":
                for floor in _entropy(cells, block):
                    panel.axhline(floor, color="0.25", linestyle=":", linewidth=1.4)
                    panel.annotate("entropy of the text", (0, floor), (3, 3), **_AT_LEFT)
        present = wording.members_first(set(others))
        add_legend(figure, [member_handle(member, others, marked=False) for member in present], present)
    caption = (
        f"Training loss against {cost}. Thin: logged steps; thick: rolling mean. Each objective has its own panel and axis, "
        "because their losses are different quantities. A conversion starts from its parent's weights at zero."
    )
    columns = ["run", "member", "seed", "objective", "phase", "step", *RULERS, "loss"]
    return ReportFigure(loss, "loss", f"Loss against {cost}", caption, figure, rows[columns])


def comparison(cells: pd.DataFrame, block: str) -> ReportFigure:
    """Main measurements as points with 95% intervals, a panel per protocol and unit; protocols of a family share the scale."""
    shown = cells[(cells["block"] == block) & cells["value"].notna()]
    shown = shown[~redundant(shown) & ~shown["metric"].str.startswith(wording.DRAWN_APART)]
    shown = shown[~shown["metric"].map(wording.in_tables_only).astype(bool)]
    panels = list(shown.groupby(["protocol", shown["metric"].map(wording.metric_unit)], sort=False))
    members = wording.members_first(set(shown["member"]))
    counts = [group.groupby(MEASURE, sort=False).ngroups for _, group in panels]
    with figure_style.applied():
        figure = new_figure(WIDTH, 0.5 + POINT_HEIGHT * len(members) * sum(counts) + PANEL_HEIGHT * max(1, len(counts)))
        if panels:
            heights = [count + 0.4 for count in counts]
            axes = figure.subplots(len(panels), 1, squeeze=False, gridspec_kw={"height_ratios": heights})[:, 0]
            scales: dict[tuple[str, str], Axes] = {}
            for axis, ((protocol, unit), group) in zip(axes, panels, strict=True):
                axis.set_title(label(wording.protocol_name(str(protocol)), TITLE_LETTERS))
                axis.set_xlabel(label(unit, TITLE_LETTERS))
                axis.sharex(scales.setdefault((str(protocol).split(".")[0], str(unit)), axis))
                _draw_points(axis, group, members)
                axis.xaxis.set_major_locator(MaxNLocator(6))  # long numbers would touch
        reference = Line2D([], [], color="0.25", marker="|", markersize=11, markeredgewidth=1.8, linestyle="")
        handles: list[Artist] = [member_handle(member, members) for member in members]
        add_legend(figure, [*handles, reference], [*members, "reference"])
    bases = sorted(set(shown["over"].dropna()) - {"none"})
    caption = (
        f"Every measurement with its 95% interval over {' or '.join(bases) or 'items'}. A tick marks the reference: the "
        "known truth, chance or baseline. Measurements that are missing, or not defined for a member, are left out. Shares of "
        "pronouns have another figure. The table also has tie rates, scores per character or token, and nats beside bits."
    )
    return ReportFigure(comparison, "comparison", "The members side by side", caption, figure, shown)


def member_handle(member: str, others: list[str], marked: bool = True) -> Line2D:
    """The legend entry of a member."""
    look = figure_style.look(member, others)
    face = look.colour if look.filled else "white"
    marker = look.marker if marked else ""
    return Line2D([], [], color=look.colour, linestyle=look.line, marker=marker, markerfacecolor=face, markersize=6)


def add_legend(
    figure: Figure,
    handles: Sequence[Artist],
    names: Sequence[str],
    place: Literal["outside upper center", "outside lower center"] = "outside upper center",
) -> None:
    """A legend outside of the panels with as many entries side by side as fit."""
    if not names:
        return
    room = int((figure.get_figwidth() - LEGEND_HANDLE) / LEGEND_LETTER)
    shown = labels(names, min(LEGEND_LETTERS, room))
    entry = LEGEND_HANDLE + LEGEND_LETTER * max(map(width, shown))
    columns = max(1, min(len(names), int(figure.get_figwidth() / entry)))
    figure.legend(list(handles), shown, loc=place, ncols=columns)


def _entropy(cells: pd.DataFrame, block: str) -> list[float]:
    """The entropy of the text in nats per token, where it is known."""
    bits = cells[(cells["block"] == block) & (cells["metric"] == "bits_per_token")]["reference"].dropna()
    return [float(value) * math.log(2) for value in bits.unique()]


def _draw_loss(panel: Axes, run: pd.DataFrame, ruler: str, others: list[str]) -> None:
    look = figure_style.look(run["member"].iloc[0], others)
    smooth = smoothed(run["loss"].to_numpy(dtype=float))
    panel.plot(run[ruler], run["loss"], color=look.colour, alpha=0.25, linewidth=0.7)
    alone = look.marker if len(run) == 1 else ""  # a line of one point would be invisible
    panel.plot(run[ruler], smooth, color=look.colour, linestyle=look.line, linewidth=1.8, marker=alone)


def smoothed(values: np.ndarray) -> np.ndarray:
    """A centred rolling mean whose window shrinks towards both ends, so that the ends are not pulled to the middle."""
    index = np.arange(len(values))
    half = np.minimum(np.minimum(index, index[::-1]), len(values) // ROLLING_SHARE // 2)
    sums = np.concatenate([[0.0], np.cumsum(values)])
    return (sums[index + half + 1] - sums[index - half]) / (2 * half + 1)


def _draw_points(axis: Axes, group: pd.DataFrame, members: list[str]) -> None:
    """One line per measurement, its members side by side within the line."""
    firsts = []
    spacing = 0.68 / max(1, len(members) - 1)
    for line, (_, cells) in enumerate(group.groupby(MEASURE, sort=False)):
        first = cells.iloc[0]
        firsts.append(described(first))
        if not math.isnan(first["reference"]):
            axis.vlines(first["reference"], line - 0.42, line + 0.42, color="0.25", linewidth=1.8, zorder=1)
        for cell in rows_of(cells):
            height = line + spacing * members.index(str(cell.member)) - 0.34
            _draw_point(axis, cell, height, members)
    axis.set_yticks(range(len(firsts)), labels(firsts, ROW_LETTERS))
    axis.set_ylim(len(firsts) - 0.5, -0.5)
    axis.grid(axis="y", visible=False)
    axis.margins(x=0.06)
    _separate(axis, range(1, len(firsts)))


def _draw_point(axis: Axes, cell: Any, height: float, members: list[str]) -> None:
    look = figure_style.look(cell.member, members)
    bars = None if math.isnan(cell.low) else [[cell.value - cell.low], [cell.high - cell.value]]
    axis.errorbar(
        cell.value,
        height,
        xerr=bars,
        color=look.colour,
        marker=look.marker,
        markersize=5,
        markerfacecolor=look.colour if look.filled else "white",
        elinewidth=1.3,
    )


def _separate(axis: Axes, lines: Iterable[int]) -> None:
    for line in lines:
        axis.axhline(line - 0.5, color="0.92", linewidth=0.8, zorder=0)


def described(row: Any) -> str:
    """A measurement's task, metric and which way is better."""
    return f"{row['task']}, {wording.metric_name(row['metric'])}{wording.arrow(row['metric'], row['higher_is_better'])}"
