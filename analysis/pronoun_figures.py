"""What each member makes of pronouns: their shares beside the truth, and occupation by occupation."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Patch

from analysis import figure_style, wording
from analysis.figures import ReportFigure, new_figure
from analysis.labels import fitting, label, labels
from analysis.study_records import ALL, StudyRecords, rows_of

PROTOCOL = "pronouns"
SHARES = {f"probability_{gender}": gender for gender in figure_style.GENDERS}
TITLE, PLOT = 4.6, 1.9  # inches above the bars, and of a panel of occupations
LEGIBLE = 0.045  # a share below this is too narrow for its number


def pronouns(cells: pd.DataFrame, block: str) -> ReportFigure | None:
    """Stacked shares of male, neutral and female pronouns per member, with the truth as a bar of its own."""
    chosen = cells[(cells["block"] == block) & (cells["protocol"] == PROTOCOL) & cells["metric"].isin(SHARES)]
    shares = chosen[chosen["value"].notna()].assign(gender=lambda frame: frame["metric"].map(SHARES))
    if shares.empty:
        return None
    tasks = list(dict.fromkeys(shares["task"]))
    bars = {task: _bars(shares[shares["task"] == task]) for task in tasks}
    with figure_style.applied():
        height = sum(0.36 * len(table) + 0.65 for table in bars.values()) + 0.4
        figure = new_figure(7.0, height)
        ratios = [len(table) + 0.6 for table in bars.values()]
        panels = figure.subplots(len(tasks), 1, squeeze=False, sharex=True, gridspec_kw={"height_ratios": ratios})[:, 0]
        for panel, (task, table) in zip(panels, bars.items(), strict=True):
            draw_bars(panel, table)
            panel.set_title(label(task, fitting(TITLE, 10)))
        panels[-1].set_xlabel("mean probability of the pronoun")
        handles = [Patch(facecolor=colour, label=gender) for gender, colour in figure_style.GENDERS.items()]
        figure.legend(handles=handles, loc="outside upper center", ncols=len(handles))
    caption = (
        "Mean probability of male, neutral and female pronouns by member. The bar “truth” shows the true shares of generated "
        "text; tasks without that bar have no known truth."
    )
    data = pd.concat(
        [table.assign(task=task).rename_axis("member").reset_index() for task, table in bars.items()], ignore_index=True
    )
    return ReportFigure(pronouns, "pronouns", "Pronouns", caption, figure, data)


def occupations(study: StudyRecords, block: str) -> ReportFigure | None:
    """Each occupation's share of she among she and he against a statistic, one panel per member and one row per task."""
    points = _points(study, block)
    if points.empty:
        return None
    tasks = sorted(set(points["task"]))
    members = wording.members_first(set(points["member"]))
    with figure_style.applied():
        figure = new_figure(2.3 * len(members) + 0.7, 2.6 * len(tasks) + 0.5)
        grid = figure.subplots(len(tasks), len(members), squeeze=False, sharex=True, sharey=True)
        for row, task in zip(grid, tasks, strict=True):
            for panel, member in zip(row, members, strict=True):
                chosen = points[(points["member"] == member) & (points["task"] == task)]
                _draw_occupations(panel, chosen, member, members)
                panel.set_xlabel(_statistic(task), fontsize=7.5)
            row[0].set_ylabel(f"{label(task.replace('_', ' '))}\np(she) of she and he", fontsize=8)
        for panel, title in zip(grid[0], labels(members, fitting(PLOT, 10)), strict=True):
            panel.set_title(title)
    caption = (
        "Each point is an occupation: the model's probability of she, among she and he. It is plotted against the share of she "
        "in the generated text (world), or of women in the occupation by labour statistics (Winogender). In world the diagonal "
        "is what was trained on: a slope above one amplifies the association, a slope below one flattens it."
    )
    return ReportFigure(occupations, "occupations", "Occupations", caption, figure, points)


def _statistic(task: str) -> str:
    """What a task's occupations are set against."""
    return "share of she in the text" if task == "world" else "share of women (statistics)"


def _bars(shares: pd.DataFrame) -> pd.DataFrame:
    table = shares.pivot(index="member", columns="gender", values="value")[list(figure_style.GENDERS)]
    table = table.loc[wording.members_first(set(table.index))]
    truth = shares.drop_duplicates("gender").set_index("gender")["reference"]
    if truth.notna().all():
        table.loc["truth"] = truth[list(figure_style.GENDERS)].astype(float)
    return table


def draw_bars(panel: Axes, table: pd.DataFrame) -> None:
    """A bar for each row, divided into the shares of the genders."""
    names = [str(name) for name in table.index]
    places, left = range(len(names)), [0.0] * len(names)
    for gender, colour in figure_style.GENDERS.items():
        widths = [float(width) for width in table[gender]]
        drawn = panel.barh(places, widths, left=left, color=colour, height=0.72, edgecolor="white", linewidth=0.8)
        numbers = [f"{width:.2f}" if width >= LEGIBLE else "" for width in widths]
        panel.bar_label(
            drawn, numbers, label_type="center", color="black" if gender == "neutral" else "white", fontsize=8
        )
        left = [start + width for start, width in zip(left, widths, strict=True)]
    panel.set_yticks(places, labels(names))
    if "truth" in names:
        panel.axhline(len(names) - 1.5, color="0.4", linewidth=0.8)
    panel.invert_yaxis()
    panel.set_xlim(0, max(1.0, *left))
    panel.grid(visible=False)


def _points(study: StudyRecords, block: str) -> pd.DataFrame:
    rows = []
    members = study.runs[study.runs["block"] == block]["member"]
    for (run, protocol, task), items in study.items.items():
        if protocol == PROTOCOL and task != ALL and run in members.index:
            for item in rows_of(items):
                occupation, truth = item.details.get("occupation"), item.details.get("truth_female")
                if occupation is not None and truth is not None:
                    both = truth + item.details.get("truth_male", 1 - truth)
                    share = item.value / (item.value + item.details["male"])
                    rows.append((members[run], task, occupation, float(truth / both), share))
    frame = pd.DataFrame(rows, columns=["member", "task", "occupation", "truth", "model"])
    return frame.groupby(["member", "task", "occupation"], as_index=False)[["truth", "model"]].mean()


def _draw_occupations(panel: Axes, points: pd.DataFrame, member: str, members: list[str]) -> None:
    look = figure_style.look(member, members)
    panel.plot([0, 1], [0, 1], color="0.5", linewidth=1, linestyle=":")
    face = look.colour if look.filled else "none"
    panel.scatter(points["truth"], points["model"], s=18, marker=look.marker, edgecolors=look.colour, facecolors=face)
    panel.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), aspect="equal")
    panel.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
    panel.set_yticks([0, 0.5, 1], ["0", "0.5", "1"])
