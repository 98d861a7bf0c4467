"""Records to numbers with uncertainty: one cell per member and measurement, one row per paired comparison."""

import math
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from analysis import style
from analysis.load import MEASURE, PSEUDO_LIKELIHOOD, Evidence, Items, own_scoring, rows_of
from analysis.uncertainty import Difference, Interval, around, holm, over_seeds, paired_items, paired_seeds, proportion
from ettin_core.records.readout import NOT_READ, fills_masks

NOT_DEFINED = "not defined for this member"
MISSING_RUN = "missing run"
NOT_MEASURED = "not measured"
NO_VALUE = "could not be measured"
UNREADABLE = "its objective declares no readout"
NEEDED = {"heldout_clm": "causal", "heldout_mlm": "masked", "heldout_ahead": "ahead"}  # the kind of readout
NATIVE = {"causal": "decoder", "bidirectional": "encoder"}
SIGNIFICANCE = 0.05
COLUMNS = ["block", *MEASURE, "version", "reference", "higher_is_better"]  # of `cells`
COLUMNS += ["member", "value", "low", "high", "n", "over", "hole"]
AGREEMENT = 1e-4  # a measurement may be stored rounded

# How an item's row gives the value whose mean a metric is. Used only where the mean agrees with the measurement.
ITEM_VALUES: dict[str, Callable[[Any], float | None]] = {
    "accuracy": lambda item: item.value,
    "probability_female": lambda item: item.value,
    "absolute_error": lambda item: _absolute_error(item),
    "loss": lambda item: item.value,
}


def cells(evidence: Evidence) -> pd.DataFrame:
    """One row per block, measurement and member: value, interval, or the reason why there is none."""
    rows = []
    for block in evidence.blocks:
        runs = evidence.runs[evidence.runs["block"] == block]
        measured = evidence.measurements[evidence.measurements["block"] == block]
        for key, records in by_measure(measured):
            for member in style.members_first(set(runs["member"])):
                of_member = records[records["member"] == member]
                cell = estimate(evidence.items, of_member) or {"hole": hole(key[0], member, runs, of_member)}
                named = {"block": block, "member": member, **dict(zip(MEASURE, key, strict=True))}
                rows.append({**named, **shared(records), **cell})
    return pd.DataFrame(rows, columns=COLUMNS).astype({"reference": float})


def differences(evidence: Evidence) -> pd.DataFrame:
    """Every paired comparison with its interval, Holm-corrected p-value (one family) and verdict in words."""
    rows = []
    for block in evidence.blocks:
        runs = evidence.runs[evidence.runs["block"] == block]
        for left, right in comparisons(runs):
            scope = runs[runs["member"].isin([left, right])]
            rows += [{"block": block, **row} for row in _compare(evidence, scope, left, right)]
    columns = ["block", "left", "right", *MEASURE, "higher_is_better", "value", "low", "high", "p", "n", "over"]
    frame = pd.DataFrame(rows, columns=columns)
    frame["p_corrected"] = holm(list(frame["p"]))
    frame["words"] = [words(row) for row in rows_of(frame)]
    return frame


def distinguishable(row: Any) -> bool:
    """Whether a comparison's interval leaves out zero and its corrected p-value stays below 5%."""
    return not Interval(row.low, row.high).contains_zero and row.p_corrected < SIGNIFICANCE


def headline(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows worth a chart: no pronoun shares (they have their own figure), no nats where bits say the same."""
    bits = set(frame[frame["metric"] == "bits_per_token"]["protocol"])
    redundant = frame["protocol"].isin(bits) & (frame["metric"] == "loss")
    return frame[~redundant & ~frame["metric"].isin(style.UNORDERED) & frame["value"].notna()]


def by_measure(measurements: pd.DataFrame) -> list[tuple[Any, pd.DataFrame]]:
    """The records of each measurement, in reading order."""
    return sorted(measurements.groupby(MEASURE), key=lambda group: style.order(*group[0]))


def estimate(items: Items, records: pd.DataFrame) -> dict[str, Any] | None:
    """One member's value, interval and n from its records (one per seed); None when none of them has a value."""
    records = records[records["value"].notna()]
    if records.empty:
        return None
    values = records["value"].to_numpy(dtype=float)
    n = int(records["n"].iloc[0])
    if len(records) > 1:
        interval: Interval | None = over_seeds(values)
        over = f"{len(records)} seeds"
    else:
        interval, over = _item_interval(items, records.iloc[0]), "items"
    bounds = {"low": interval.low, "high": interval.high, "over": over} if interval else {"over": "none"}
    return {"value": float(values.mean()), "n": n, **bounds}


def _item_interval(items: Items, record: Any) -> Interval | None:
    if record["metric"] == "accuracy":
        values = item_values(items, record)
        if values is not None and values.isin([0.0, 1.0]).all():
            return proportion(record["value"], len(values))
    standard_error = record["standard_error"]
    if standard_error is None or math.isnan(standard_error):
        return None
    if record["metric"] == "accuracy" and _is_of_independent_items(record["value"], record["n"], standard_error):
        return proportion(record["value"], int(record["n"]))
    return around(record["value"], standard_error)


def _is_of_independent_items(share: float, n: int, standard_error: float) -> bool:
    """Whether a stored error is the binomial one: then the interval that stays within 0 and 1 applies."""
    return n > 1 and math.isclose(standard_error, math.sqrt(share * (1 - share) / (n - 1)), rel_tol=1e-3, abs_tol=1e-9)


def shared(records: pd.DataFrame) -> dict[str, Any]:
    """What a measurement's members have in common; a reference that differs between them is none."""
    references = records["reference"].dropna().to_numpy(dtype=float)
    agreed = len(references) > 0 and bool(np.allclose(references, references[0], rtol=1e-6))
    return {
        "version": int(records["version"].iloc[0]),
        "reference": float(references[0]) if agreed else None,
        "higher_is_better": bool(records["higher_is_better"].iloc[0]),
    }


def hole(protocol: str, member: str, runs: pd.DataFrame, records: pd.DataFrame) -> str:
    """Why a member has no value of a protocol."""
    own = runs[runs["member"] == member]
    if own.empty:
        return MISSING_RUN
    if len(records):
        return NO_VALUE
    readout = str(own["readout"].iloc[0])
    if readout == NOT_READ:
        return UNREADABLE
    kind = "masked" if fills_masks(readout) else "causal" if readout == "clm" else "ahead"
    needed = "masked" if protocol.endswith(PSEUDO_LIKELIHOOD) else NEEDED.get(protocol, kind)
    return NOT_MEASURED if kind == needed else NOT_DEFINED


def comparisons(runs: pd.DataFrame) -> list[tuple[str, str]]:
    """The native members with each other, then each conversion with the native member of its direction."""
    present = set(runs["member"])
    converted = runs[runs["parent"].notna()].drop_duplicates("member").set_index("member")["direction"]
    pairs = [("encoder", "decoder")]
    pairs += [
        (member, NATIVE.get(converted[member], "")) for member in style.members_first(present) if member in converted
    ]
    return [(left, right) for left, right in pairs if {left, right} <= present and left != right]


def _compare(evidence: Evidence, runs: pd.DataFrame, left: str, right: str) -> list[dict[str, Any]]:
    measured = evidence.measurements[evidence.measurements["run"].isin(runs.index)]
    if runs["readout"].map(fills_masks).nunique() > 1:
        measured = pd.concat([measured, own_scoring(measured, runs)], ignore_index=True)
    measured = measured[measured["metric"].isin(ITEM_VALUES) & measured["value"].notna()]
    rows = []
    for key, records in by_measure(measured):
        found = _paired(evidence.items, records, left, right)
        if found:
            difference, over = found
            rows.append(
                {
                    "left": left,
                    "right": right,
                    **dict(zip(MEASURE, key, strict=True)),
                    "higher_is_better": bool(records["higher_is_better"].iloc[0]),
                    "value": difference.value,
                    "low": difference.interval.low,
                    "high": difference.interval.high,
                    "p": difference.p,
                    "n": difference.n,
                    "over": over,
                }
            )
    return rows


def _paired(items: Items, records: pd.DataFrame, left: str, right: str) -> tuple[Difference, str] | None:
    """The paired difference over common seeds if there are several, else over the common items of the common seed."""
    sides = [records[records["member"] == member].set_index("seed") for member in (left, right)]
    seeds = sorted(set(sides[0].index) & set(sides[1].index))
    if len(seeds) > 1:
        values = [side["value"].loc[seeds].to_numpy(dtype=float) for side in sides]
        return paired_seeds(*values), f"{len(seeds)} seeds"
    if not seeds:
        return None
    scores = [item_values(items, side.loc[seeds[0]]) for side in sides]
    if scores[0] is None or scores[1] is None:
        return None
    both = pd.concat(scores, axis=1, join="inner").to_numpy()
    if len(both) < 2:
        return None
    stream = zlib.crc32("|".join([left, right, *records[MEASURE].iloc[0]]).encode())
    return paired_items(both[:, 0], both[:, 1], stream), "items"


def item_values(items: Items, record: Any) -> pd.Series | None:
    """The item values behind one measurement, by item; None when there are none or their mean is another number."""
    own = items.get((record["run"], record["scored_as"], record["task"]))
    if own is None:
        return None
    values = pd.Series([ITEM_VALUES[record["metric"]](item) for item in rows_of(own)], index=own.index, dtype=float)
    agrees = bool(values.notna().all()) and abs(values.mean() - record["value"]) < AGREEMENT
    return values if agrees else None


def _absolute_error(item: Any) -> float | None:
    truth = item.details.get("truth_female")
    return None if truth is None else abs(item.value - truth)


def words(row: Any) -> str:
    """A comparison's reading: which side is better, or that the data cannot tell."""
    if Interval(row.low, row.high).contains_zero:
        return "not distinguishable"
    if not distinguishable(row):
        return "not distinguishable after correction"
    if row.metric in style.UNORDERED:
        return f"{row.left if row.value > 0 else row.right} higher"
    return f"{row.left if (row.value > 0) == row.higher_is_better else row.right} better"
