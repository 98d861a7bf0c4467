"""Gaps between converted and native members, and the line that says where they close."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from analysis.cell_names import level_name
from analysis.estimates import paired
from analysis.items import item_values
from analysis.kinds import design
from analysis.study_records import MEASURE, StudyRecords
from analysis.uncertainty import Crossing, Interval, crossing

MEMBER = "member"  # the axis whose levels are converted and native members
FEWEST = 3  # levels that a line is fitted through


def pairs_of(
    cells: pd.DataFrame, scored: pd.DataFrame, native: Mapping[str, str], x: str, group: tuple[str, ...], block: str
) -> tuple[pd.DataFrame, list[str]]:
    """A row per converted cell, native cell and measurement, with the gap; and what is left out for want of a partner."""
    named = {MEMBER, x, *group}
    described = ["cell", "run", "parent", "label", "complete"]
    shared = [axis for axis in cells.columns if axis not in named and axis not in described]
    natives = cells[cells[MEMBER].isin(native.values()) & cells[x].isna()]
    within = (
        natives.groupby(MEMBER)[shared].nunique().max()
    )  # an axis that each native has one level of is the member's own
    shared = [axis for axis in shared if axis == block or within[axis] > 1]
    design.check_no_mixtures(natives, [MEMBER, *shared])
    converted = cells[cells[MEMBER].isin(native)]
    partner = natives.set_index([MEMBER, *shared])["cell"]
    wanted = converted.assign(**{MEMBER: converted[MEMBER].map(native)})[[MEMBER, *shared]]
    partners = {
        cell: partner.get(tuple(place)) for cell, place in zip(converted["cell"], wanted.to_numpy(object), strict=True)
    }
    complete = set(cells[cells["complete"]]["cell"])
    reasons = {"missing run": [], "its native member is missing": []}  # type: dict[str, list[str]]
    for cell, native in partners.items():
        if cell not in complete or native not in complete:
            reasons["missing run" if cell not in complete else "its native member is missing"].append(cell)
    lacking = [f"Left out ({reason}): {'; '.join(names)}." for reason, names in reasons.items() if names]
    left = scored[scored["cell"].isin(partners)].assign(partner=lambda frame: frame["cell"].map(partners))
    right = scored[["cell", "run", "scored_as", *MEASURE, "value", "standard_error"]]
    pairs = left.merge(right, left_on=["partner", *MEASURE], right_on=["cell", *MEASURE], suffixes=("", "_native"))
    sign = np.where(pairs["higher_is_better"], 1.0, -1.0)
    gap = sign * (pairs["value_native"].astype(float) - pairs["value"].astype(float))
    varying = [axis for axis in group if converted[axis].nunique() > 1] or [MEMBER]
    curve = [
        ", ".join(level_name(axis, row[axis]) for axis in varying if pd.notna(row[axis])) for _, row in pairs.iterrows()
    ]
    return pairs.assign(gap=gap, sign=sign, curve=curve, level=pairs[x], unit=pairs[block]), lacking


def on_ruler(pairs: pd.DataFrame, study: StudyRecords) -> pd.DataFrame:
    """Where the levels are along the axis: as stated, or as a share of the parent's cost by another ruler."""
    x = pairs["level"].astype(float)
    if study.ruler != "tokens":
        costs = study.runs[study.ruler]
        share = pairs["run"].map(costs).astype(float) / pairs["parent"].map(costs).astype(float)
        x = share.groupby([pairs["curve"], pairs["level"]]).transform("mean")
    return pairs.assign(x=x)


def gaps_of(study: StudyRecords, pairs: pd.DataFrame) -> pd.DataFrame:
    """The mean gap of each curve, level and measurement, with an interval over seeds, or over items where there is one."""
    rows = []
    for key, group in design.measured(pairs):
        for (curve, level), pairs_at_level in group.groupby(["curve", "level"], sort=False):
            value, interval, over = _gap(study, pairs_at_level)
            rows.append(
                {
                    "curve": curve,
                    "member": pairs_at_level[MEMBER].iloc[0],
                    **dict(zip(MEASURE, key, strict=True)),
                    "higher_is_better": bool(pairs_at_level["higher_is_better"].iloc[0]),
                    "level": float(level),
                    "x": float(pairs_at_level["x"].iloc[0]),
                    "value": value,
                    "low": interval.low if interval else np.nan,
                    "high": interval.high if interval else np.nan,
                    "over": over,
                }
            )
    columns = ["curve", "member", *MEASURE, "higher_is_better", "level", "x", "value", "low", "high", "over"]
    return pd.DataFrame(rows, columns=columns).sort_values("level", kind="stable")


def _gap(study: StudyRecords, pairs: pd.DataFrame) -> tuple[float, Interval | None, str]:
    """The gap over the repetitions and items of both, and what its interval is over."""
    native = {name: pairs[f"{name}_native"] for name in ("run", "scored_as", "value", "standard_error")}
    difference = paired(study.items, pairs.assign(**native), pairs, "unit")
    assert difference is not None, "a gap is of two runs with a unit in common"
    sign = float(pairs["sign"].iloc[0])
    low, high = sorted((sign * difference["low"], sign * difference["high"]))
    return sign * difference["value"], None if np.isnan(low) else Interval(low, high), difference["over"]


def _item_gaps(study: StudyRecords, pairs: pd.DataFrame) -> pd.DataFrame | None:
    """The gap of every item in common, a column per row of `own`; None where the items do not make up the measurement."""
    columns = []
    for row in pairs.to_dict("records"):
        native = row | {"run": row["run_native"], "scored_as": row["scored_as_native"], "value": row["value_native"]}
        ours, theirs = item_values(study.items, row), item_values(study.items, native)
        if ours is None or theirs is None:
            return None
        columns.append(row["sign"] * (theirs["value"] - ours["value"]))
    common = pd.concat(columns, axis=1, join="inner").dropna()
    return common if len(common) > 1 else None


def crossings_of(study: StudyRecords, pairs: pd.DataFrame) -> pd.DataFrame:
    """The fitted zero of every curve and measurement with three budgets or more."""
    rows = []
    for key, group in design.measured(pairs[pairs["x"] > 0]):
        for curve, of_curve in group.groupby("curve", sort=False):
            fit, x, over = _fit(study, of_curve)
            rows.append(
                {
                    "curve": curve,
                    **dict(zip(MEASURE, key, strict=True)),
                    "higher_is_better": bool(of_curve["higher_is_better"].iloc[0]),
                    "value": fit.x if fit else np.nan,
                    "low": fit.interval.low if fit and fit.interval else np.nan,
                    "high": fit.interval.high if fit and fit.interval else np.nan,
                    "intercept": fit.level if fit else np.nan,
                    "slope": fit.slope if fit else np.nan,
                    "bends": bool(fit and fit.bends),
                    "over": over,
                    "words": statement(fit, x),
                }
            )
    columns = [
        "curve",
        *MEASURE,
        "higher_is_better",
        "value",
        "low",
        "high",
        "intercept",
        "slope",
        "bends",
        "over",
        "words",
    ]
    return pd.DataFrame(rows, columns=columns)


def _fit(study: StudyRecords, pairs: pd.DataFrame) -> tuple[Crossing | None, np.ndarray, str]:
    """The line through one curve: its units are the seeds that have every level, or the items of a single seed."""
    table = pairs.pivot(index="unit", columns="x", values="gap").sort_index(axis="columns")
    table = table.dropna(axis="columns")
    x = table.columns.to_numpy(dtype=float)
    if len(x) < FEWEST:
        return None, x, "none"
    if len(table) > 1:
        return crossing(x, table.to_numpy(dtype=float)), x, f"{len(table)} seeds"
    items = _item_gaps(study, pairs.sort_values("x"))
    if items is None:
        return crossing(x, table.to_numpy(dtype=float)), x, "none"
    return crossing(x, items.to_numpy(dtype=float)), x, "items"


def statement(fit: Crossing | None, x: np.ndarray) -> str:
    """Where the gap closes, or why there is no such place."""
    if fit is None:
        return f"no fit: fewer than {FEWEST} budgets"
    if fit.bends and fit.changes > 1:
        return f"no single crossing: the gap changes side {fit.changes} times"
    if min(x) <= fit.x <= max(x):
        if fit.interval is None:
            why = "it has no bounded interval" if fit.n > 1 else "one repetition, no interval"
            return f"no crossing established: fitted at {fit.x:.3g}, but {why}"
        verb = "catches up" if fit.slope < 0 else "falls behind"
        return f"{verb} at {fit.x:.3g} [{fit.interval.low:.3g}, {fit.interval.high:.3g}]"
    side = "behind" if fit.level + fit.slope * float(np.log(x).mean()) > 0 else "ahead"
    text = f"no crossing within {min(x):.3g} to {max(x):.3g}: {side} throughout"
    if fit.bends:
        return f"{text}; the gap bends, so its line is not extended"
    if fit.interval is None or fit.x > 10 * max(x) or fit.x < min(x) / 10:
        return text
    return f"{text}; extrapolated {fit.x:.3g} [{fit.interval.low:.3g}, {fit.interval.high:.3g}]"
