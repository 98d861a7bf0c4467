"""The figures of a data report: mixtures, lengths, passes, filled rows, and what was left out. Legible with 2 and 20 sources."""

import math
from collections.abc import Callable
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator, PercentFormatter

from analysis import figure_style
from analysis.data_report.record import DOCUMENT, LINE, DataRecord, percent
from analysis.figures import WIDTH, ReportFigure, add_legend, new_figure
from analysis.labels import fitting, label, labels
from analysis.study_records import rows_of

ROW_HEIGHT, FRAME_HEIGHT = 0.24, 1.0  # inches of a source's row, and of a figure without rows
COLUMNS, PANEL_WIDTH, PANEL_HEIGHT = 4, 2.0, 1.55
BLUE, VERMILION, BAR, INK = "#0072B2", "#D55E00", "#7FB2D6", "0.25"
_LINES: tuple[Any, ...] = ("-", (0, (4, 2)), ":", "-.", (0, (1, 3)), (0, (6, 2, 1, 2)))
_PHASES = ((BLUE, "o"), (VERMILION, "s"), ("#009E73", "^"), ("#CC79A7", "D"), ("#E69F00", "v"), ("#56B4E9", "P"))


def mixture(record: DataRecord) -> ReportFigure:
    """Tokens of each source, and by phase the share drawn of it against the share asked for."""
    names = _by_size(record)
    draws = record.draws
    tokens = record.sources[record.sources["split"] == "train"].set_index("source")["tokens"]
    phases = list(draws["phase"].unique())
    with figure_style.applied():
        figure = new_figure(WIDTH, FRAME_HEIGHT + ROW_HEIGHT * len(names))
        axes = figure.subplots(1, 1 + len(phases), sharey=True, squeeze=False)[0]
        axes[0].plot(tokens[names], range(len(names)), "o", color=BLUE, markersize=5)
        axes[0].set_title("Training tokens")
        axes[0].set_xscale("log")
        _log_ticks(axes[0], _short_number, 4)
        _name_rows(axes[0], names)
        for axis, phase in zip(axes[1:], phases, strict=True):
            rows = draws[draws["phase"] == phase]
            heights = [names.index(name) for name in rows["source"]]
            axis.barh(heights, rows["share_drawn"], height=0.62, color=BAR)
            axis.plot(rows["share_asked"], heights, "|", color=INK, markersize=9, markeredgewidth=1.8)
            axis.set_title(label(phase, fitting(0.8 * WIDTH / (2 + len(phases)), 10)))
            axis.set_xlim(0, max(rows["share_drawn"].max(), rows["share_asked"].max()) * 1.08)
            axis.xaxis.set_major_formatter(PercentFormatter(1, decimals=0 if axis.get_xlim()[1] > 0.05 else 1))
            axis.xaxis.set_major_locator(MaxNLocator(3))
            _name_rows(axis, names)
            axis.tick_params(labelleft=False)
        handles = [
            Line2D([], [], color=BAR, linewidth=7, label="share of the phase's tokens, drawn"),
            Line2D([], [], color=INK, marker="|", markersize=9, markeredgewidth=1.8, linestyle="", label="asked for"),
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=2)
    caption = (
        "Left: training tokens of each source, the largest first. Right: the share of each phase's tokens from a source. "
        "Bars: drawn. Ticks: asked for by the mixture, or the share by size without one."
    )
    columns = ["phase", "source", "share_asked", "share_drawn"]
    data = draws[columns].merge(tokens.rename("training_tokens").reset_index(), on="source")
    return ReportFigure(mixture, "mixture", "Sources and mixtures", caption, figure, data)


def lengths(record: DataRecord) -> ReportFigure:
    """A panel per source: the share of its documents with at most x tokens, and each phase's context."""
    names = _by_size(record)
    contexts = _contexts(record)
    columns = min(COLUMNS, len(names))
    rows = math.ceil(len(names) / columns)
    low, high = _length_range(record, contexts)
    with figure_style.applied():
        width = WIDTH if columns == COLUMNS else max(3.6, PANEL_WIDTH * 1.5 * columns)
        figure = new_figure(width, 0.9 + (PANEL_HEIGHT if rows > 1 else 2.2) * rows)
        axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel().tolist()
        curves = {name: _curve(record, name) for name in names}
        titles = labels(names, fitting((width - 0.6) / columns - 0.2, 9))
        for axis, name, title in zip(axes, names, titles, strict=False):
            axis.set_title(title, fontsize=9)
            for curve in curves.values():
                axis.plot(curve["at_most"], curve["share"], color="0.82", linewidth=0.8, zorder=1)
            shown = curves[name]
            axis.plot(shown["at_most"], shown["share"], color=BLUE, linewidth=1.8, marker="o", markersize=2.5)
            for (context, _), line in zip(contexts.items(), _LINES, strict=False):
                axis.axvline(context, color=VERMILION, linestyle=line, linewidth=1.1)
            axis.set(xscale="log", xlim=(low, high), ylim=(-0.03, 1.03))
            axis.yaxis.set_major_formatter(PercentFormatter(1))
            axis.set_yticks([0, 0.5, 1])
            _log_ticks(axis, _short_number, 4)
        for axis in axes[len(names) :]:
            axis.set_visible(False)
        for axis in axes[max(0, len(names) - columns) : len(names)]:
            axis.tick_params(labelbottom=True)
        figure.supxlabel("tokens of a document (log)", fontsize=9)
        figure.supylabel("documents with at most x tokens", fontsize=9)
        handles = [Line2D([], [], color=VERMILION, linestyle=line) for _, line in zip(contexts, _LINES, strict=False)]
        add_legend(figure, handles, [f"context {length:,} ({', '.join(names)})" for length, names in contexts.items()])
    caption = (
        "The share of training documents with at most x tokens, special tokens included. Grey: the other sources. Shares are "
        "known at powers of two (dots). Documents longer than a context do not fit into one of its rows."
    )
    return ReportFigure(lengths, "lengths", "Lengths of documents", caption, figure, record.lengths)


def passes(record: DataRecord) -> ReportFigure:
    """How often each phase passes over each source."""
    draws = record.draws[record.draws["passes"] > 0]
    marks: list[tuple[float, str, Any]] = [
        (1.0, "one pass", ":"),
        (record.max_epochs, f"recipe.max_epochs = {record.max_epochs:g}", "--"),
    ]
    lines = [Line2D([], [], color=INK, linestyle=line, linewidth=1.2, label=text) for _, text, line in marks]
    figure = _rows_figure(record, draws, "passes", lines)
    axis = figure.axes[0]
    with figure_style.applied():
        for place, _, line in marks:
            axis.axvline(place, color=INK, linestyle=line, linewidth=1.2, zorder=1)
        axis.set_xscale("log")
        low, high = min(1.0, draws["passes"].min()), max(record.max_epochs, draws["passes"].max())
        axis.set_xlim(low / 1.5, high * 1.5)
        _log_ticks(axis, lambda value: f"{value:g}", 8)
        axis.set_xlabel("passes over the source (log)")
    caption = "Rows drawn of a source over the rows it has, by phase. recipe.max_epochs limits the passes of all phases together."
    columns = ["phase", "source", "rows", "passes"]
    return ReportFigure(passes, "passes", "Passes over the sources", caption, figure, draws[columns])


def utilisation(record: DataRecord) -> ReportFigure:
    """The share of each source's row positions that hold a token, by phase."""
    figure = _rows_figure(record, record.draws, "utilisation", [])
    axis = figure.axes[0]
    low = math.floor((record.draws["utilisation"].min() - 0.02) * 20) / 20
    axis.set_xlim(low, 1 + (1 - low) / 40)
    axis.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axis.set_xlabel("positions of the source's rows that hold a token")
    packings = [f"{phase['name']} {phase['packing']} at {phase['context']:,}" for phase in record.phases]
    caption = f"The rest is padding. Packing and context: {'; '.join(packings)}."
    columns = ["phase", "packing", "context", "source", "utilisation"]
    return ReportFigure(utilisation, "utilisation", "How full the rows are", caption, figure, record.draws[columns])


def left_out(record: DataRecord) -> ReportFigure:
    """What was left out by reason, over all sources: documents, and lines of kept documents."""
    kinds = [kind for kind in (DOCUMENT, LINE) if (record.left_out["what"] == kind).any()]
    read = record.left_out[record.left_out["what"].isin(kinds)]
    data = read.groupby(["what", "reason"], as_index=False)["number"].sum()
    groups = [data[data["what"] == kind].sort_values(["number", "reason"], ascending=[False, True]) for kind in kinds]
    sizes = [len(group) + 1 for group in groups]
    with figure_style.applied():
        figure = new_figure(WIDTH, 0.5 * len(kinds) + ROW_HEIGHT * sum(sizes) + 0.2)
        axes = figure.subplots(len(kinds), 1, squeeze=False, gridspec_kw={"height_ratios": sizes})[:, 0]
        for axis, kind, group in zip(axes, kinds, groups, strict=True):
            axis.barh(range(len(group)), group["number"], height=0.62, color=BAR)
            for height, row in enumerate(rows_of(group)):
                text = _counted(record, row)
                axis.annotate(text, (row.number, height), (4, 0), textcoords="offset points", va="center", fontsize=8)
            axis.set_title("Documents left out" if kind == DOCUMENT else "Lines taken out of kept documents")
            axis.margins(x=0.22)
            axis.set_xlim(left=0)
            axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _short_number(value)))
            axis.xaxis.set_major_locator(MaxNLocator(5, integer=True))
            _name_rows(axis, list(group["reason"]))
    caption = (
        "What was left out, by reason, over all sources; shares are of all documents read. By source: see the table."
    )
    return ReportFigure(left_out, "left_out", "What was left out", caption, figure, data)


def _rows_figure(record: DataRecord, draws: pd.DataFrame, column: str, lines: list[Line2D]) -> Figure:
    """A line per source with a mark for each phase, side by side within the line."""
    phases = list(record.draws["phase"].unique())
    names = [name for name in _by_size(record) if name in set(draws["source"])]
    apart = len(phases) > 1 and draws["source"].duplicated().any()  # else each source has one mark
    spacing = 0.5 / (len(phases) - 1) if apart else 0.0
    with figure_style.applied():
        figure = new_figure(
            WIDTH, FRAME_HEIGHT + 0.2 + max(ROW_HEIGHT, 0.11 * len(phases) if apart else 0.0) * len(names)
        )
        axis = figure.subplots()
        handles = []
        for number, phase in enumerate(phases):
            colour, marker = _PHASES[number % len(_PHASES)]
            rows = draws[draws["phase"] == phase]
            offset = spacing * number - 0.25 if apart else 0.0
            heights = [names.index(name) + offset for name in rows["source"]]
            axis.plot(rows[column], heights, marker, color=colour, markersize=5, linestyle="")
            handles.append(Line2D([], [], color=colour, marker=marker, markersize=5, linestyle=""))
        _name_rows(axis, names)
        for line in range(1, len(names)):
            axis.axhline(line - 0.5, color="0.92", linewidth=0.8, zorder=0)
        add_legend(
            figure, [*handles, *lines], [*phases, *(str(line.get_label()) for line in lines)], "outside lower center"
        )
    return figure


def _by_size(record: DataRecord) -> list[str]:
    """The sources with training text, the largest first."""
    train = record.sources[(record.sources["split"] == "train") & (record.sources["tokens"] > 0)]
    return list(train.sort_values(["tokens", "source"], ascending=[False, True])["source"])


def _contexts(record: DataRecord) -> dict[int, list[str]]:
    """The phases by context, the shortest context first."""
    by_context: dict[int, list[str]] = {}
    for phase in sorted(record.phases, key=lambda phase: phase["context"]):
        by_context.setdefault(phase["context"], []).append(phase["name"])
    return by_context


def _curve(record: DataRecord, name: str) -> pd.DataFrame:
    """The cumulative shares of a source from the last bound that no document is under."""
    rows = record.lengths[record.lengths["source"] == name]
    first = max(0, int((rows["share"] > 0).to_numpy().argmax()) - 1)
    return rows.iloc[first:]


def _length_range(record: DataRecord, contexts: dict[int, list[str]]) -> tuple[float, float]:
    lows = [_curve(record, name)["at_most"].iloc[0] for name in _by_size(record)]
    return min(*lows, *contexts) / 1.3, max(record.lengths["at_most"].max(), max(contexts)) * 1.3


def _counted(record: DataRecord, row: Any) -> str:
    if row.what == LINE:
        return f"{row.number:,}"
    skipped = record.left_out.loc[record.left_out["what"] == DOCUMENT, "number"].sum()
    return f"{row.number:,} ({percent(row.number / (record.sources['documents'].sum() + skipped))})"


def _name_rows(axis: Axes, names: list[str]) -> None:
    axis.set_yticks(range(len(names)), labels(names))
    axis.set_ylim(len(names) - 0.4, -0.6)
    axis.grid(axis="y", visible=False)
    axis.tick_params(axis="y", length=0)


def _log_ticks(axis: Axes, spell: Callable[[float], str], most: int) -> None:
    """Readable numbers on a logarithmic axis, as many as there is room for."""
    low, high = axis.get_xlim()
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    dense = [[step * 10.0**power for power in powers for step in steps] for steps in ((1, 2, 5), (1, 3))]
    sparse = [[10.0**power for power in powers if power % every == 0] for every in (1, 2, 3, 6)]
    fitting = [[value for value in values if low <= value <= high] for values in (*dense, *sparse)]
    chosen = next((values for values in fitting if len(values) <= most), fitting[-1])
    axis.set_xticks(chosen, [spell(value) for value in chosen])
    axis.xaxis.set_minor_locator(NullLocator())


def _short_number(value: float) -> str:
    for bound, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= bound:
            return f"{value / bound:g}{letter}"
    return f"{value:g}"
