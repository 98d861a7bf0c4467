"""Which tasks can carry a comparison: what enters the main table, and why the rest does not.

At floor: no member's interval is above what a guess scores. Below the noise: the members' means differ by less than one
member deviates between seeds (signal to noise below one, Heineman et al. 2025; one seed has no deviation, and leaves nothing
out). Decided by the tests of a task; its other metrics follow them.
"""

import math
from collections.abc import Sequence

import pandas as pd

from analysis import wording
from analysis.families import family
from analysis.items import kind_of
from analysis.study_records import MEASURE

AT_FLOOR, NOISE = "at floor", "below the noise"
LEAST_SIGNAL = 1.0
EXPLAINED = {
    AT_FLOOR: "no member's interval is above chance",
    NOISE: "members differ by less than one deviates between seeds",
}


def with_flags(cells: pd.DataFrame) -> pd.DataFrame:
    """The cells with `signal_to_noise` and `left_out`, the reason why a row is not in the main table (empty: it is)."""
    keys = ["block", *MEASURE]
    tested = cells.assign(tested=family(cells, None) != "")
    ratios, reasons = {}, {}
    for key, group in tested.groupby(keys, sort=False):
        valued = group[group["value"].notna()]
        ratio = signal_to_noise(list(valued["value"]), list(valued["deviation"]))
        floor = at_floor(str(group["metric"].iloc[0]), group["reference"].iloc[0], list(valued["low"]))
        ratios[key], reasons[key] = ratio, reason(floor, ratio)
    of_row = list(zip(*(cells[name] for name in keys), strict=True))
    by_task: dict[tuple[object, ...], list[str]] = {}
    for key in dict.fromkeys(key for key, wanted in zip(of_row, tested["tested"], strict=True) if wanted):
        by_task.setdefault(key[:3], []).append(reasons[key])
    left_out = [
        reasons[key] if wanted else _of_task(by_task.get(key[:3], []))
        for key, wanted in zip(of_row, tested["tested"], strict=True)
    ]
    return cells.assign(signal_to_noise=[ratios[key] for key in of_row], left_out=left_out)


def _of_task(reasons: list[str]) -> str:
    """Why a metric beside the tested ones is left out: all of them are."""
    return reasons[0] if reasons and all(reasons) else ""


def signal_to_noise(values: Sequence[float], deviations: Sequence[float]) -> float:
    """The distance of the outermost members' means over the deviation between seeds (not a number: not known)."""
    if len(values) < 2 or any(map(math.isnan, deviations)):
        return math.nan
    noise = math.sqrt(sum(deviation**2 for deviation in deviations) / len(deviations))
    return (max(values) - min(values)) / noise if noise > 0 else math.nan


def at_floor(metric: str, chance: float, lows: Sequence[float]) -> bool:
    """Whether no member's interval is above chance; where chance or an interval is not known, the task is kept."""
    if kind_of(metric) == "mean" or metric in wording.UNORDERED or math.isnan(chance):
        return False
    return len(lows) > 0 and all(low <= chance for low in lows)


def reason(floor: bool, ratio: float) -> str:
    """Why a task is not for the main table; empty where it is."""
    return AT_FLOOR if floor else NOISE if ratio < LEAST_SIGNAL else ""


def left_out_note(cells: pd.DataFrame) -> str | None:
    """How many rows the main table leaves out and why, in a line; None where it has all."""
    rows = cells.drop_duplicates(["block", *MEASURE])
    without = rows[rows["left_out"] != ""]
    if without.empty:
        return None
    counts = without["left_out"].value_counts()
    named = "; ".join(f"{count} {name}: {EXPLAINED[str(name)]}" for name, count in counts.items())
    return f"Left out of the main table: {len(without)} of {len(rows)} rows ({named}); they are in the table beside it."
