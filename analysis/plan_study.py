"""How large a study must be: `python -m analysis.plan_study runs=<folder> effect=0.01 power=0.8`.

From runs that there are (two seeds or more of two members) it takes, for each question, how far a difference deviates between
seeds and between items: variance = run / S + (item + rest / S) / N for S seeds and N items. Studies with these deviations are
drawn and tested as the report tests them (`inference`). Printed are the fewest seeds that find the effect with the wanted power,
at the items that were asked and at more of them, and the minutes that training that many seeds took here.

Not every task can show something: the flags are those that decide what enters a report's main table (`flags`).
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from omegaconf import DictConfig

from analysis import estimates, families, flags, inference
from analysis.command import command
from analysis.inference import VarianceComponents, judged
from analysis.items import aligned, item_values
from analysis.load import load
from analysis.render import csv, text
from analysis.study_records import MEASURE, StudyRecords
from analysis.tables import HOLE, Table, number
from analysis.ways import with_own_ways
from ettin_core.foundation.errors import unknown
from ettin_core.foundation.storage import write_text

DRAWS = 2000
MOST_SEEDS = 40
TIMES_ITEMS = (1, 4, 16)


@dataclass(frozen=True)
class Deviations:
    """Variances of a difference: between runs, between items (as if one item), what is left of an item of one run.

    `n` are the items they were estimated from.
    """

    run: float
    item: float
    rest: float
    n: int


def deviations(left: np.ndarray, right: np.ndarray, clusters: np.ndarray | None) -> Deviations:
    """The deviations of left - right, both (runs, items)."""
    components = inference.variance_components(left - right, clusters)
    runs, n = left.shape
    rest = float(components.residual) * runs * n
    run = max(0.0, float(components.runs - components.residual)) * runs
    item = max(0.0, float(components.items) * n - rest / runs)
    return Deviations(run, item, rest, n)


def power_of(known: Deviations, effect: float, seeds: int, items: int, draws: int = DRAWS) -> float:
    """The share of drawn studies that find an effect, tested as the report tests."""
    generator = np.random.default_rng([seeds, items])
    common = known.item / items
    steps = generator.normal(effect, math.sqrt(known.run + known.rest / items), (draws, seeds))
    value = steps.mean(-1) + generator.normal(0.0, math.sqrt(common), draws)
    residual = np.full(draws, known.rest / items / seeds)
    freedom = max(1.0, items - 1.0)
    drawn = VarianceComponents(value, steps.var(-1, ddof=1) / seeds, residual, common + residual, seeds - 1, freedom)
    bounds = judged(drawn, 1.0)
    detected = (bounds.p < 1 - inference.LEVEL) & ((bounds.low > 0) | (bounds.high < 0)) & (bounds.value * effect > 0)
    return float(detected.mean())


def seeds_for(known: Deviations, effect: float, power: float, items: int) -> int | None:
    """The fewest seeds (two or more) that find the effect with that power; None where not even the most do."""
    low, high = 2, MOST_SEEDS
    if power_of(known, effect, high, items) < power:
        return None
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if power_of(known, effect, middle, items) >= power else (middle + 1, high)
    return low


def plan(study: StudyRecords, left: str, right: str, effect: float, power: float) -> pd.DataFrame:
    """A row for each question: members' values, deviations, flags, and the seeds that a study needs.

    Raises ValueError for an effect or a power that cannot be, or members of which there are no two common seeds.
    """
    if not effect > 0 or not 0.05 < power < 1:
        raise ValueError(f"effect={effect!r}, power={power!r}: give an effect above 0 and a power between 0.05 and 1.")
    members = sorted(set(study.runs["member"]))
    for field, name in (("left", left), ("right", right)):
        if name not in members:
            raise unknown(field, name, "is not a member of these runs", members)
    rows = []
    for block in study.blocks:
        runs = study.runs[(study.runs["block"] == block) & study.runs["member"].isin([left, right])]
        measured = with_own_ways(study.measurements[study.measurements["run"].isin(runs.index)][estimates.RECORD], runs)
        each = runs.groupby("member")["seconds"].mean().sum() / 60
        for key, records in estimates.by_measure(measured[families.family(measured, None) != ""]):
            row = _row(study, records, left, right, effect, power)
            if row is not None:
                minutes = math.nan if row["seeds"] is None else row["seeds"] * each
                rows.append({"block": block, **dict(zip(MEASURE, key, strict=True)), **row, "minutes": minutes})
    if not rows:
        raise ValueError(
            f"left={left!r}, right={right!r} have no question with items and two common seeds; train two seeds of both first."
        )
    return pd.DataFrame(rows)


def _row(
    study: StudyRecords, records: pd.DataFrame, left: str, right: str, effect: float, power: float
) -> dict[str, Any] | None:
    sides = [
        records[(records["member"] == name) & records["value"].notna()].drop_duplicates("seed").set_index("seed")
        for name in (left, right)
    ]
    seeds = sorted(set(sides[0].index) & set(sides[1].index))
    if len(seeds) < 2:
        return None
    chosen = [record for side in sides for record in side.loc[seeds].to_dict("records")]
    paired = aligned([item_values(study.items, record) for record in chosen])
    if paired is None:
        return None
    values, clusters = paired
    ours, theirs = values[: len(seeds)], values[len(seeds) :]
    known = deviations(ours, theirs, clusters)
    needed = {f"seeds_{times}": seeds_for(known, effect, power, known.n * times) for times in TIMES_ITEMS}
    floor = _at_floor(study, records, [left, right])
    deviations_between = [float(side.mean(-1).std(ddof=1)) for side in (ours, theirs)]
    ratio = flags.signal_to_noise([float(ours.mean()), float(theirs.mean())], deviations_between)
    return {
        "left": float(ours.mean()),
        "right": float(theirs.mean()),
        "between_seeds": math.sqrt(known.run),
        "between_items": math.sqrt(known.item + known.rest),
        "n": known.n,
        "at_floor": floor,
        "signal_to_noise": ratio,
        "main_table": flags.reason(floor, ratio) == "",
        "seeds": needed["seeds_1"],
        **needed,
    }


def _at_floor(study: StudyRecords, records: pd.DataFrame, members: list[str]) -> bool:
    """Whether no member's interval lies above what a guess would score."""
    references = records["reference"].dropna()
    cells = [estimates.estimate(study.items, records[records["member"] == name]) for name in members]
    chance = float("nan") if references.empty else float(references.iloc[0])
    return flags.at_floor(str(records["metric"].iloc[0]), chance, [cell["low"] for cell in cells if cell is not None])


def table(planned: pd.DataFrame, left: str, right: str, effect: float, power: float) -> Table:
    """The plan for readers."""
    rows = [_cells(row) for row in planned.to_dict("records")]
    outside = planned[~planned["main_table"]]
    notes = [
        f"Seeds: as many of {left} and of {right} as find a difference of {effect:g} with power {power:g} at 5%. "
        f"At {' and '.join(f'{times}n' for times in TIMES_ITEMS[1:])}: with that many times the items. "
        f"{HOLE}: not even {MOST_SEEDS} seeds do.",
        "Minutes: training of that many seeds of both, at the recorded speed. With few seeds, deviations between seeds are "
        "rough.",
        f"Not for the main table: {len(outside)} of {len(planned)}. At floor: every member's interval holds chance. Noise: "
        "members differ by less than the deviation between seeds.",
    ]
    header = ["Question", "Values", "Between seeds", "Between items", "n", "Signal/noise", "Seeds"]
    header += [*(f"at {times}n" for times in TIMES_ITEMS[1:]), "Minutes", "Main table"]
    return Table("plan_study", "The size of a study", header, [("", rows)], notes)


def _cells(row: dict[str, Any]) -> list[str]:
    seeds_needed = [row[f"seeds_{times}"] for times in TIMES_ITEMS]
    needed = [HOLE if seeds is None or math.isnan(seeds) else str(int(seeds)) for seeds in seeds_needed]
    minutes = HOLE if math.isnan(row["minutes"]) else f"{row['minutes']:,.1f}"
    ratio = HOLE if math.isnan(row["signal_to_noise"]) else f"{row['signal_to_noise']:.1f}"
    entry = "yes" if row["main_table"] else "no: at floor" if row["at_floor"] else "no: noise"
    named = [f"{row['protocol']}: {row['task']}, {row['metric']}", f"{number(row['left'])} / {number(row['right'])}"]
    spreads = [f"{row['between_seeds']:.4f}", f"{row['between_items']:.4f}", f"{row['n']:,}", ratio]
    return [*named, *spreads, *needed, minutes, entry]


@command("plan_study")
def main(config: DictConfig) -> None:
    """The command line."""
    study = load(Path(config.runs), Path(config.record) if config.record else None)
    planned = plan(study, config.left, config.right, config.effect, config.power)
    print(text(table(planned, config.left, config.right, config.effect, config.power)))
    if config.out is not None:
        write_text(Path(config.out) / "plan_study.csv", csv(planned))


if __name__ == "__main__":
    main()
