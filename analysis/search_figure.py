"""Validation loss against what was searched: `python -m analysis.search_figure record=<trials.csv> out=<folder>`."""

from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from omegaconf import DictConfig

from analysis import figure_style, wording
from analysis.command import command
from analysis.figures import ReportFigure, new_figure
from analysis.kinds.panels import use_logarithms
from analysis.labels import fitting, label, name_columns

WIDTH, PLOT = 4.2, 2.6  # inches of a panel, with and without its numbers at the left
COLUMNS = ("member", "protocol", "trial", "key", "value", "log", "loss", "standard_error", "run")


def losses(record: Path) -> ReportFigure:
    """One column per member and one row per key, each panel with its own axis. Raises ValueError for another record."""
    trials = pd.read_csv(record)
    if tuple(trials.columns) != COLUMNS:
        raise ValueError(f"{record} is not a table of a search's trials: it has columns {', '.join(trials.columns)}")
    members, keys = list(trials["member"].unique()), list(trials["key"].unique())
    with figure_style.applied():
        figure = new_figure(WIDTH * len(members), 3.4 * len(keys))
        panels = figure.subplots(len(keys), len(members), squeeze=False)
        for row, key in zip(panels, keys, strict=True):
            for panel, member in zip(row, members, strict=True):
                _draw(panel, trials[(trials["key"] == key) & (trials["member"] == member)], member, members)
                panel.set_xlabel(label(key, fitting(PLOT, 9)))
    caption = (
        "Validation loss of each member's own objective against what was searched, with 95% intervals over documents. Each "
        "member has its own axis: losses of two objectives cannot be compared. A cross at the top marks a trial that "
        "diverged; a ring the best one."
    )
    return ReportFigure(losses, "search", "Validation loss by searched value", caption, figure, trials)


def _draw(panel: Axes, trials: pd.DataFrame, member: str, members: list[str]) -> None:
    """A member's trials along one key: numbers in order and joined, names side by side."""
    look = figure_style.look(member, members)
    values = pd.to_numeric(trials["value"], errors="coerce")
    if values.notna().all():
        trials = trials.assign(value=values).sort_values("value")
    else:
        places, names = pd.factorize(trials["value"].fillna("null"))
        trials = trials.assign(value=places)
        name_columns(panel, names, PLOT)
    ended, diverged = trials[trials["loss"].notna()], trials[trials["loss"].isna()]
    line = look.line if values.notna().all() else ""
    spread = 1.96 * ended["standard_error"].fillna(0.0)
    panel.errorbar(
        ended["value"], ended["loss"], yerr=spread, color=look.colour, linestyle=line, marker=look.marker, markersize=4
    )
    if len(ended):
        best = ended.loc[ended["loss"].idxmin()]
        panel.plot(best["value"], best["loss"], "o", markersize=11, markerfacecolor="none", color="0.25")
    panel.plot(diverged["value"], [0.97] * len(diverged), "x", color="0.25", transform=panel.get_xaxis_transform())
    if bool(trials["log"].iloc[0]):
        use_logarithms(panel)
    panel.set_title(label(member, fitting(PLOT, 10)))
    panel.set_ylabel(f"{label(wording.protocol_name(trials['protocol'].iloc[0]), fitting(2.2, 9))}\nnats per token")


@command("search_figure")
def main(config: DictConfig) -> None:
    """The command line."""
    out = Path(config.out)
    figure = losses(Path(config.record))
    figure.save(out)


if __name__ == "__main__":
    main()
