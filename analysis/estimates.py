"""Records to numbers with uncertainty: one cell per member and measurement, one row per paired comparison."""

from typing import Any

import numpy as np
import pandas as pd

from analysis import families, inference, wording
from analysis.inference import LEVEL, Bounds, VarianceComponents
from analysis.items import Items, aligned, item_values, items_of, kind_of, ties, within
from analysis.study_records import MEASURE, OWN_SCORING, PSEUDO_LIKELIHOOD, StudyRecords, rows_of
from analysis.uncertainty import Interval
from analysis.ways import LM_EVAL, with_own_ways
from ettin_core.records.readout import NOT_READ, fills_masks

NOT_DEFINED = "not defined for this member"
MISSING_RUN = "missing run"
NOT_MEASURED = "not measured"
NO_VALUE = "could not be measured"
UNREADABLE = "its objective declares no readout"
NEEDED = {"heldout_clm": "causal", "heldout_mlm": "masked", "heldout_ahead": "ahead"}  # the kind of readout
NEEDED |= {f"heldout_likelihood.{order}": "masked" for order in ("most_confident_first", "any_order")}
NO_SPREAD = "cannot be told"
NO_VERDICT = "no verdict"  # of a part of a task, or of a metric beside the main one
NATIVE = {"causal": "decoder", "bidirectional": "encoder"}
SIGNIFICANCE = 0.05
RECORD = ["run", "member", "seed", *MEASURE, "scored_as", "version", "value", "n", "standard_error"]
RECORD += ["higher_is_better", "reference"]  # the columns of measurements that estimates need
COLUMNS = ["block", *MEASURE, "version", "reference", "higher_is_better"]  # of `cells`
COLUMNS += ["member", "value", "low", "high", "deviation", "n", "over", "lacking", "ties", "hole"]


def cells(study: StudyRecords) -> pd.DataFrame:
    """One row per block, measurement and member: value, interval, or the reason why there is none."""
    rows = []
    for block in study.blocks:
        runs = study.runs[study.runs["block"] == block]
        for key, records in by_measure(measured(study, runs)):
            for member in wording.members_first({*runs["member"], *study.planned_members}):
                of_member = records[records["member"] == member]
                cell = estimate(study.items, of_member) or {"hole": hole(key[0], member, runs, of_member)}
                if cell.get("hole") is None:
                    cell["lacking"] = lacking(runs[runs["member"] == member], of_member)
                named = {"block": block, "member": member, **dict(zip(MEASURE, key, strict=True))}
                rows.append({**named, **shared(records), **cell})
    return pd.DataFrame(rows, columns=COLUMNS).astype({"reference": float})


def measured(study: StudyRecords, runs: pd.DataFrame) -> pd.DataFrame:
    """The records of some runs, with the ways of their own where these differ."""
    records = study.measurements[study.measurements["run"].isin(runs.index)]
    return with_own_ways(records[RECORD], runs)


def differences(study: StudyRecords, members: tuple[str, ...] | None = None) -> pd.DataFrame:
    """Every paired comparison of whole tasks (of some `members`) with its interval, p corrected within families, and verdict."""
    rows = []
    for block in study.blocks:
        runs = study.runs[study.runs["block"] == block]
        if members is not None:
            runs = runs[runs["member"].isin(members)]
        for left, right in comparisons(runs):
            scope = runs[runs["member"].isin([left, right])]
            rows += [{"block": block, **row} for row in _compare(study, scope, left, right)]
    columns = ["block", "left", "right", *MEASURE, "higher_is_better", "value", "low", "high", "p", "n", "over"]
    frame = pd.DataFrame(rows, columns=columns)
    return verdicts(frame, ["block", "left", "right"], study.analysis.get("families"))


def verdicts(frame: pd.DataFrame, within: list[str], stated: dict[str, list[str]] | None) -> pd.DataFrame:
    """Tests with their family, p Holm-corrected within it (and within the named columns), and the verdict in words."""
    frame = families.corrected(frame, within, stated)
    return frame.assign(words=[words(row) for row in rows_of(frame)])


def distinguishable(row: Any) -> bool:
    """Whether a comparison's interval leaves out zero and its corrected p-value stays below 5%."""
    return not Interval(row.low, row.high).contains_zero and row.p_corrected < SIGNIFICANCE


def headline(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows worth a chart: no pronoun shares (they have their own figure), no nats where bits say the same."""
    beside = frame["metric"].isin((*wording.UNORDERED, *wording.BESIDE))
    return frame[~families.redundant(frame) & ~beside & frame["value"].notna()]


def by_measure(measurements: pd.DataFrame) -> list[tuple[Any, pd.DataFrame]]:
    """The records of each measurement, in reading order."""
    return sorted(measurements.groupby(MEASURE), key=lambda group: wording.order(*group[0]))


def estimate(items: Items, records: pd.DataFrame) -> dict[str, Any] | None:
    """One member's value, interval and n from its records (one per seed); None when none of them has a value."""
    rows = [row for row in records.to_dict("records") if not pd.isna(row["value"])]
    if not rows:
        return None
    bounds, basis = _bounds(items, rows)
    runs = f"{len(rows)} seeds"
    over = basis if len(rows) == 1 else f"{runs} and {basis}" if basis else runs
    return {
        "value": float(np.mean([row["value"] for row in rows])),
        "n": int(rows[0]["n"]),
        "low": float(bounds.low),
        "high": float(bounds.high),
        "deviation": float(np.std([row["value"] for row in rows], ddof=1)) if len(rows) > 1 else float("nan"),
        "over": "none" if np.isnan(bounds.low) else over,
        "ties": _ties(items, rows),
    }


def _bounds(items: Items, rows: list[dict[Any, Any]]) -> tuple[Bounds, str]:
    """The interval of a mean over runs, and what it is over beside them."""
    metric = str(rows[0]["metric"])
    if kind_of(metric) != "correlation":
        paired = aligned([item_values(items, row) for row in rows])
        if paired is not None and metric == "gap":  # twice a share less one
            bounds = inference.mean((paired[0] + 1) / 2, paired[1], share=True)
            return Bounds(2 * bounds.value - 1, 2 * bounds.low - 1, 2 * bounds.high - 1, bounds.p), "items"
        if paired is not None:
            return inference.mean(paired[0], paired[1], kind_of(metric) == "share"), "items"
    values, errors = (np.array([row[name] for row in rows], dtype=float) for name in ("value", "standard_error"))
    return stored_bounds(metric, values, errors, int(rows[0]["n"])), "" if np.isnan(errors).any() else "items"


def _ties(items: Items, rows: list[dict[Any, Any]]) -> float:
    """The mean share of ties among a member's choices; not a number where a metric is no choice."""
    if rows[0]["metric"] not in families.CHOICES:
        return float("nan")
    items_of_runs = [items_of(items, row["run"], row["scored_as"], row["task"]) for row in rows]
    rates = [rate for rate in (ties(of_run) for of_run in items_of_runs if of_run is not None) if rate is not None]
    return float(np.mean(rates)) if rates else float("nan")


def stored_bounds(metric: str, values: np.ndarray, errors: np.ndarray, n: int) -> Bounds:
    """The interval of the mean of runs, (runs,), from their stored errors over `n` items; errors may be unknown."""
    known = None if np.isnan(errors).any() else errors
    if kind_of(metric) == "correlation" and known is not None and n > 3:
        return inference.correlation(values, n, known)
    bounds = inference.mean_of_runs(values, known)
    if kind_of(metric) != "share" or n < 1 or not 0 <= bounds.value <= 1:
        return bounds
    if np.isnan(bounds.low) and known is None:
        return bounds
    return inference.wilson(bounds, n, n)


def lacking(runs: pd.DataFrame, records: pd.DataFrame) -> str | None:
    """The seeds of a member that have no value, by name; None when all have."""
    valued = set(records[records["value"].notna()]["run"])
    without = sorted(runs[~runs.index.isin(valued)]["seed"])
    if not without:
        return None
    reason = NO_VALUE if records["value"].isna().any() else NOT_MEASURED
    return f"without seed {', '.join(map(str, without))} ({reason})"


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
    of_member = runs[runs["member"] == member]
    if of_member.empty:
        return MISSING_RUN
    if len(records):
        return NO_VALUE
    readout = str(of_member["readout"].iloc[0])
    if readout == NOT_READ:
        return UNREADABLE
    kind = "masked" if fills_masks(readout) else "causal" if readout == "clm" else "ahead"
    masked = protocol.endswith(PSEUDO_LIKELIHOOD) and not protocol.startswith(LM_EVAL)
    needed = "masked" if masked else NEEDED.get(protocol, kind)
    return NOT_MEASURED if kind == needed else NOT_DEFINED


def comparisons(runs: pd.DataFrame) -> list[tuple[str, str]]:
    """The native members with each other, then each conversion with the native member of its direction."""
    present = set(runs["member"])
    converted = runs[runs["parent"].notna()].drop_duplicates("member").set_index("member")["direction"]
    pairs = [("encoder", "decoder")]
    pairs += [
        (member, NATIVE.get(converted[member], "")) for member in wording.members_first(present) if member in converted
    ]
    return [(left, right) for left, right in pairs if {left, right} <= present and left != right]


def _compare(study: StudyRecords, runs: pd.DataFrame, left: str, right: str) -> list[dict[str, Any]]:
    records_of_all = measured(study, runs)
    rows = []
    for key, records in by_measure(records_of_all[~families.is_part(records_of_all)]):
        if str(key[0]).endswith(OWN_SCORING) and records["scored_as"].nunique() == 1:
            continue  # the one way that suits both: a row of its own already
        difference = paired(study.items, *(records[records["member"] == member] for member in (left, right)))
        if difference is not None:
            named = {"left": left, "right": right, **dict(zip(MEASURE, key, strict=True))}
            rows.append({**named, "higher_is_better": bool(records["higher_is_better"].iloc[0]), **difference})
    return rows


def paired(
    items: Items, left: pd.DataFrame, right: pd.DataFrame, by: str = "seed", against: float = 0.0, level: float = LEVEL
) -> dict[str, Any] | None:
    """The difference of two members' records over their common seeds (or what else they are paired `by`) and items.

    p is that of the test `against` a difference, the interval has the `level`. None without a common seed.
    """
    sides = [side[side["value"].notna()].drop_duplicates(by).set_index(by, drop=False) for side in (left, right)]
    seeds = sorted(set(sides[0].index) & set(sides[1].index))
    if not seeds:
        return None
    bounds, n, basis = _paired_bounds(items, sides[0].loc[seeds], sides[1].loc[seeds], against, level)
    bounds = bounds._replace(**{name: getattr(bounds, name) + against for name in ("value", "low", "high")})
    bounds = within(bounds, str(left["metric"].iloc[0]))
    runs = f"{len(seeds)} seeds"
    over = (basis or "none") if len(seeds) == 1 else f"{runs} and {basis}" if basis else runs
    alone = sorted((set(left[by]) | set(right[by])) - set(seeds))
    without = f" (without {by} {', '.join(map(str, alone))})" if alone else ""
    return {
        "value": float(bounds.value),
        "low": float(bounds.low),
        "high": float(bounds.high),
        "p": float(bounds.p),
        "n": n,
        "repetitions": len(seeds),
        "over": over + without,
    }


def _paired_bounds(
    items: Items, left: pd.DataFrame, right: pd.DataFrame, against: float, level: float
) -> tuple[Bounds, int, str]:
    """The estimate less `against`, its items and what it is over beside runs: common items, or errors of unpaired ones."""
    records = [*left.to_dict("records"), *right.to_dict("records")]
    paired = aligned([item_values(items, record) for record in records])
    if paired is not None:
        values, clusters = paired
        sides = values[: len(left)] - against, values[len(left) :]
        choices = kind_of(records[0]["metric"]) == "share" and bool(np.isin(values, (0.0, 0.5, 1.0)).all())
        return inference.difference(*sides, clusters, choices, level), values.shape[1], "items"
    ours, theirs = (side["value"].to_numpy(dtype=float) for side in (left, right))
    ours = ours - against
    errors = left["standard_error"].to_numpy(dtype=float), right["standard_error"].to_numpy(dtype=float)
    n = int(min(left["n"].min(), right["n"].min()))
    if np.isnan(errors).any():
        return inference.difference_of_runs(ours, theirs, level=level), n, ""
    return inference.difference_of_runs(ours, theirs, errors, level), n, "unpaired items"


def components(items: Items, left: pd.DataFrame, right: pd.DataFrame | None = None) -> VarianceComponents:
    """The variance components of a mean over runs, or of the difference to another whose runs are its pairs, in order."""
    sides = [side.to_dict("records") for side in (left, right) if side is not None]
    paired = aligned([item_values(items, record) for side in sides for record in side])
    if paired is not None:
        values, clusters = paired
        if right is None:
            return inference.variance_components(values, clusters)
        choices = kind_of(sides[0][0]["metric"]) == "share" and bool(np.isin(values, (0.0, 0.5, 1.0)).all())
        return inference.components_of_difference(values[: len(left)], values[len(left) :], clusters, choices)
    means, errors = (
        np.array([[record[name] for record in side] for side in sides], dtype=float)
        for name in ("value", "standard_error")
    )
    variances = (errors**2).sum(0)
    steps = means[0] if right is None else means[0] - means[1]
    return inference.components_of_runs(steps, None if np.isnan(variances).any() else variances)


def words(row: Any) -> str:
    """A comparison's reading: which side is better, or that the data cannot tell."""
    if row.family == "":
        return NO_VERDICT
    if np.isnan(row.p):
        return NO_SPREAD
    if Interval(row.low, row.high).contains_zero:
        return "not distinguishable"
    if not distinguishable(row):
        return "not distinguishable after correction"
    if row.metric in wording.UNORDERED:
        return f"{row.left if row.value > 0 else row.right} higher"
    return f"{row.left if (row.value > 0) == row.higher_is_better else row.right} better"
