"""The figure of a comparison of two models: each question's difference with its interval, and the margin."""

import numpy as np
import pandas as pd

from analysis import figure_style, wording
from analysis.figures import ReportFigure, new_figure
from analysis.labels import label, labels


def differences(frame: pd.DataFrame, margin: float | None) -> ReportFigure:
    """A panel for each metric; questions from top to bottom as in the table."""
    metrics = list(frame["metric"].drop_duplicates())
    counts = [int((frame["metric"] == metric).sum()) for metric in metrics]
    with figure_style.applied():
        figure = new_figure(7.0, 0.7 * len(metrics) + 0.28 * sum(counts) + 0.4)
        panels = figure.subplots(len(metrics), 1, squeeze=False, height_ratios=[count + 2 for count in counts])[:, 0]
        for panel, metric in zip(panels, metrics, strict=True):
            rows = frame[frame["metric"] == metric]
            places = -np.arange(len(rows))
            reach = np.stack([rows["value"] - rows["low"], rows["high"] - rows["value"]])
            panel.axvline(0, color="0.6", linewidth=0.8)
            if margin is not None:
                panel.axvspan(-margin, margin, color="0.92", zorder=0)
            panel.errorbar(rows["value"], places, xerr=np.nan_to_num(reach), fmt="o", color="#0072B2", markersize=4)
            panel.set_yticks(places, labels(rows["question"], 32))
            panel.set_ylim(-len(rows) + 0.4, 0.6)
            panel.set_xlabel(f"{label(wording.metric_name(metric), 24)}: left minus right")
    caption = "Left minus right on each question that both models were asked, with 95% intervals over paired items."
    caption += "" if margin is None else f" Grey: differences within {margin:g}."
    return ReportFigure(differences, "compare", "Left minus right", caption, figure, frame)
