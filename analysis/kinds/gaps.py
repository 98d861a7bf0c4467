"""Gaps between converted and native members, and the line that says where they close."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from analysis.estimates import paired
from analysis.evidence import MEASURE, StudyRecords, level_name
from analysis.items import item_values
from analysis.kinds import design
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
    design.refuse_mixtures(natives, [MEMBER, *shared])
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


def on_ruler(pairs: pd.DataFrame, evidence: StudyRecords) -> pd.DataFrame:
    """Where the levels lie along the axis: as stated, or as a share of the parent's cost by another ruler."""
    x = pairs["level"].astype(float)
    if evidence.ruler != "tokens":
        costs = evidence.runs[evidence.ruler]
        share = pairs["run"].map(costs).astype(float) / pairs["parent"].map(costs).astype(float)
        x = share.groupby([pairs["curve"], pairs["level"]]).transform("mean")
    return pairs.assign(x=x)


def gaps_of(evidence: StudyRecords, pairs: pd.DataFrame) -> pd.DataFrame:
    """The mean gap of each curve, level and measurement, with an interval over seeds, or over items where there is one."""
    rows = []
    for key, group in design.measured(pairs):
        for (curve, level), own in group.groupby(["curve", "level"], sort=False):
            value, interval, over = _gap(evidence, own)
            rows.append(
                {
                    "curve": curve,
                    "member": own[MEMBER].iloc[0],
                    **dict(zip(MEASURE, key, strict=True)),
                    "higher_is_better": bool(own["higher_is_better"].iloc[0]),
                    "level": float(level),
                    "x": float(own["x"].iloc[0]),
                    "value": value,
                    "low": interval.low if interval else np.nan,
                    "high": interval.high if interval else np.nan,
                    "over": over,
                }
            )
    columns = ["curve", "member", *MEASURE, "higher_is_better", "level", "x", "value", "low", "high", "over"]
    return pd.DataFrame(rows, columns=columns).sort_values("level", kind="stable")


def _gap(evidence: StudyRecords, own: pd.DataFrame) -> tuple[float, Interval | None, str]:
    """The gap over the repetitions and items of both, and what its interval is over."""
    native = {name: own[f"{name}_native"] for name in ("run", "scored_as", "value", "standard_error")}
    found = paired(evidence.items, own.assign(**native), own, "unit")
    assert found is not None, "a gap is of two runs with a unit in common"
    sign = float(own["sign"].iloc[0])
    low, high = sorted((sign * found["low"], sign * found["high"]))
    return sign * found["value"], None if np.isnan(low) else Interval(low, high), found["over"]


def _item_gaps(evidence: StudyRecords, own: pd.DataFrame) -> pd.DataFrame | None:
    """The gap of every item in common, a column per row of `own`; None where the items do not make up the measurement."""
    columns = []
    for row in own.to_dict("records"):
        native = row | {"run": row["run_native"], "scored_as": row["scored_as_native"], "value": row["value_native"]}
        ours, theirs = item_values(evidence.items, row), item_values(evidence.items, native)
        if ours is None or theirs is None:
            return None
        columns.append(row["sign"] * (theirs["value"] - ours["value"]))
    common = pd.concat(columns, axis=1, join="inner").dropna()
    return common if len(common) > 1 else None


def crossings_of(evidence: StudyRecords, pairs: pd.DataFrame) -> pd.DataFrame:
    """The fitted zero of every curve and measurement with three budgets or more."""
    rows = []
    for key, group in design.measured(pairs[pairs["x"] > 0]):
        for curve, own in group.groupby("curve", sort=False):
            found, x, over = _fit(evidence, own)
            rows.append(
                {
                    "curve": curve,
                    **dict(zip(MEASURE, key, strict=True)),
                    "higher_is_better": bool(own["higher_is_better"].iloc[0]),
                    "value": found.x if found else np.nan,
                    "low": found.interval.low if found and found.interval else np.nan,
                    "high": found.interval.high if found and found.interval else np.nan,
                    "intercept": found.level if found else np.nan,
                    "slope": found.slope if found else np.nan,
                    "bends": bool(found and found.bends),
                    "over": over,
                    "words": statement(found, x),
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


def _fit(evidence: StudyRecords, own: pd.DataFrame) -> tuple[Crossing | None, np.ndarray, str]:
    """The line through one curve: its units are the seeds that have every level, or the items of a single seed."""
    table = own.pivot(index="unit", columns="x", values="gap").sort_index(axis="columns")
    table = table.dropna(axis="columns")
    x = table.columns.to_numpy(dtype=float)
    if len(x) < FEWEST:
        return None, x, "none"
    if len(table) > 1:
        return crossing(x, table.to_numpy(dtype=float)), x, f"{len(table)} seeds"
    items = _item_gaps(evidence, own.sort_values("x"))
    if items is None:
        return crossing(x, table.to_numpy(dtype=float)), x, "none"
    return crossing(x, items.to_numpy(dtype=float)), x, "items"


def statement(found: Crossing | None, x: np.ndarray) -> str:
    """Where the gap closes, or why there is no such place."""
    if found is None:
        return f"no fit: fewer than {FEWEST} budgets"
    if found.bends and found.changes > 1:
        return f"no single crossing: the gap changes side {found.changes} times"
    if min(x) <= found.x <= max(x):
        if found.interval is None:
            why = "it has no bounded interval" if found.n > 1 else "one repetition, no interval"
            return f"no crossing established: fitted at {found.x:.3g}, but {why}"
        verb = "catches up" if found.slope < 0 else "falls behind"
        return f"{verb} at {found.x:.3g} [{found.interval.low:.3g}, {found.interval.high:.3g}]"
    side = "behind" if found.level + found.slope * float(np.log(x).mean()) > 0 else "ahead"
    told = f"no crossing within {min(x):.3g} to {max(x):.3g}: {side} throughout"
    if found.bends:
        return f"{told}; the gap bends, so its line is not extended"
    if found.interval is None or found.x > 10 * max(x) or found.x < min(x) / 10:
        return told
    return f"{told}; extrapolated {found.x:.3g} [{found.interval.low:.3g}, {found.interval.high:.3g}]"
