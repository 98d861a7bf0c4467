"""Does the winner depend on the ruler? Members compared where they had cost the same by each of the four."""

from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from analysis import estimates, families, wording
from analysis.answer import Answer, counted
from analysis.costs import RULERS
from analysis.families import is_part
from analysis.figures import smoothed
from analysis.inference import difference_of_runs
from analysis.kinds import design
from analysis.kinds.cells import every_cell
from analysis.kinds.design import Findings, ReportTable
from analysis.study_records import MEASURE, OWN_SCORING, TRAINING, StudyRecords
from analysis.tables import Table, grouped, measurement, signed
from analysis.ways import own_scoring
from ettin_core.records.readout import fills_masks

SAME = 1e-2  # costs that differ by less than this share are equal
NOT_COMPARABLE = "not comparable"  # losses of different objectives or mask rates
NO_EVALUATION = "not measured there"


@dataclass(frozen=True)
class Options:
    """The axis whose levels are compared, all else being equal, and the axis of repetitions."""

    compare: str = "member"
    block: str = "seed"


def analyse(study: StudyRecords) -> Findings:
    """The winner by each ruler, and all means."""
    options = design.options(Options, study)
    cells = design.grid(study, options.block, compare=options.compare)
    scored = design.scores(study, cells)
    means = design.summary(study, cells, scored)
    described = ("cell", "run", "parent", "label", "complete", options.compare, options.block)
    others = [name for name in cells.columns if name not in described]
    pairs = []
    for place, group in (
        cells.astype(object).fillna(dict.fromkeys(others, "")).groupby(others, sort=False) if others else [((), cells)]
    ):
        title = ", ".join(
            f"{_plain(axis)} {_plain(level)}" for axis, level in zip(others, place, strict=True) if level != ""
        )
        levels = {
            level: of_level.set_index(options.block)["run"]
            for level, of_level in group.groupby(options.compare, sort=False)
        }
        for left, right in combinations(levels, 2):
            runs = pd.concat([levels[left], levels[right]], axis=1, join="inner", keys=["left", "right"])
            pairs.append((title, str(left), str(right), list(runs.itertuples(index=False, name=None))))
    compared = winners(study, pairs)
    tables = [
        ReportTable(winners_table(compared), winners_table, compared),
        every_cell(means, scored, options.block),
    ]
    return Findings(means, tables, [], _numbers(compared), answers_of(compared))


def answers_of(compared: pd.DataFrame) -> list[Answer]:
    """For each pair, in how many measurements the winner depends on the ruler."""

    def question(key: tuple[str, ...]) -> str:
        title, left, right = key
        return f"{left} − {right}" + (f" ({title})" if title else "") + ": does the winner depend on the ruler?"

    return counted(compared, ["title", "left", "right"], "winners", question, lambda row: str(row.depends))


Pair = tuple[
    str, str, str, list[tuple[str, str]]
]  # what they have in common, the two names, and their runs seed by seed


def of_members(study: StudyRecords) -> list[Pair]:
    """The pairs that a report without cells compares: the native members, and each conversion with its native."""
    pairs: list[Pair] = []
    for block in study.blocks:
        runs = study.runs[study.runs["block"] == block]
        for left, right in estimates.comparisons(runs):
            sides = [
                pd.Series(of_member.index, index=of_member["seed"])
                for of_member in (runs[runs["member"] == name] for name in (left, right))
            ]
            both = pd.concat(sides, axis=1, join="inner")
            pairs.append(
                ("" if len(study.blocks) == 1 else block, left, right, list(both.itertuples(index=False, name=None)))
            )
    return pairs


def winners(study: StudyRecords, pairs: list[Pair]) -> pd.DataFrame:
    """A row per pair and measurement: by each ruler the difference where both had cost as much as the cheaper one in all."""
    rows: list[dict[str, Any]] = []
    known: dict[str, dict[tuple[str, str, str], _Track]] = {}
    for title, left, right, runs in pairs:
        present = [pair for pair in runs if set(pair) <= set(study.runs.index)]
        for run in {run for pair in present for run in pair} - set(known):
            known[run] = _track(study, run)
        tracks = [(known[first], known[second]) for first, second in present]
        alike = study.runs.loc[[run for pair in present for run in pair], "readout"].map(fills_masks).nunique() < 2
        keys = {key for first, second in tracks for key in first if key in second}
        for key in sorted(keys, key=lambda key: (key[0] == TRAINING, wording.order(*key))):
            if alike and key[0].endswith(OWN_SCORING):
                continue  # the same as the one scoring that suits both
            both = [(first[key], second[key]) for first, second in tracks if key in first and key in second]
            higher = both[0][0].higher_is_better
            row = {"title": title, "left": left, "right": right, **dict(zip(MEASURE, key, strict=True))}
            rows.append({**row, "higher_is_better": higher, "seeds": len(both), **_leads(both)})
    columns = [
        "title",
        "left",
        "right",
        *MEASURE,
        "higher_is_better",
        "seeds",
        *RULERS,
        *(f"{r}_p" for r in RULERS),
        *(f"{r}_words" for r in RULERS),
    ]
    return _judged(pd.DataFrame(rows, columns=columns), study.analysis.get("families"))


@dataclass(frozen=True)
class _Track:
    """One measurement along a run: what it had cost by each ruler, and the value there."""

    costs: pd.DataFrame
    values: np.ndarray
    kind: str
    higher_is_better: bool
    error: float = float("nan")  # of a measurement over its items

    def at(self, ruler: str, cost: float) -> float:
        """The value at a cost, between the two points around it; not a number before the first and after the last."""
        costs = self.costs[ruler].to_numpy(dtype=float)
        if not len(costs) or cost < costs[0] * (1 - SAME) or cost > costs[-1] * (1 + SAME):
            return float("nan")
        return float(np.interp(cost, costs, self.values))


def _track(study: StudyRecords, run: str) -> dict[tuple[str, str, str], _Track]:
    tracks = {}
    rows = study.training[study.training["run"] == run].sort_values("tokens").dropna(subset=["loss"])
    if len(rows):
        loss = smoothed(rows["loss"].to_numpy(dtype=float))
        tracks[(TRAINING, "smoothed", "loss")] = _Track(rows[list(RULERS)], loss, rows["trained_on"].iloc[0], False)
    measured = study.trajectory[study.trajectory["run"] == run]
    measured = measured[~is_part(measured)].assign(scored_as=lambda frame: frame["protocol"])
    measured = pd.concat([measured, own_scoring(measured, study.runs)]).sort_values("tokens", kind="stable")
    for key, group in design.measured(estimates.headline(measured)):
        higher = bool(group["higher_is_better"].iloc[0])
        error = float(group["standard_error"].astype(float).iloc[-1])
        tracks[key] = _Track(group[list(RULERS)], group["value"].to_numpy(dtype=float), "", higher, error)
    return tracks


def _leads(both: list[tuple[_Track, _Track]]) -> dict[str, Any]:
    """By each ruler the difference at equal cost, the p-value over seeds, and the word where there is no such difference."""
    leads: dict[str, Any] = {}
    for ruler in RULERS:
        leads |= dict(zip((ruler, f"{ruler}_p", f"{ruler}_words"), _lead(both, ruler), strict=True))
    return leads


def _lead(both: list[tuple[_Track, _Track]], ruler: str) -> tuple[float, float, str]:
    if any(first.kind != second.kind for first, second in both):
        return float("nan"), float("nan"), NOT_COMPARABLE
    costs = [min(side.costs[ruler].max() for side in pair) for pair in both]
    sides = np.array(
        [[side.at(ruler, cost) for side in pair] for pair, cost in zip(both, costs, strict=True)], dtype=float
    )
    known = ~np.isnan(sides).any(axis=1)
    if not known.any():
        return float("nan"), float("nan"), NO_EVALUATION
    errors = np.array([[side.error for side in pair] for pair in both])[known]
    left, right = sides[known].T
    bounds = difference_of_runs(left, right, None if np.isnan(errors).any() else (errors[:, 0], errors[:, 1]))
    return float(bounds.value), float(bounds.p) if len(left) > 1 else float("nan"), ""


def _judged(frame: pd.DataFrame, stated: dict[str, list[str]] | None) -> pd.DataFrame:
    """The winner by every ruler, Holm-corrected over seeds within the families of a pair, and whether it depends on it."""
    for ruler in RULERS:
        tests = families.corrected(frame.assign(p=frame[f"{ruler}_p"]), ["title", "left", "right"], stated)
        frame[f"{ruler}_words"] = [
            row[f"{ruler}_words"] or _winner(row, row[ruler], corrected)
            for row, corrected in zip(frame.to_dict("records"), tests["p_corrected"], strict=True)
        ]
    return frame.assign(depends=[_depends(row) for row in frame.to_dict("records")])


def _winner(row: dict[str, Any], value: float, p: float) -> str:
    if row["seeds"] > 1 and np.isnan(p):
        return estimates.NO_SPREAD
    if value == 0 or (row["seeds"] > 1 and p >= estimates.SIGNIFICANCE):
        return "not distinguishable"
    return row["left"] if (value > 0) == row["higher_is_better"] else row["right"]


def _depends(row: dict[str, Any]) -> str:
    sides = {row["left"], row["right"]}
    said = [row[f"{ruler}_words"] for ruler in RULERS]
    winners, decided = set(said) & sides, sum(word in sides for word in said)
    known = sum(not np.isnan(row[ruler]) for ruler in RULERS)
    if known < 2:
        return "cannot be told"
    if decided < known:
        return "yes" if len(winners) > 1 else "in part" if decided else "no winner"
    return "yes" if len(winners) > 1 else "no"


def _plain(name: object) -> str:
    return str(name).replace("_", " ")


def winners_table(compared: pd.DataFrame) -> Table:
    """Rows are measurements within each pair, columns are rulers."""
    rows = []
    comparable = compared[list(RULERS)].notna().any(axis=1) | (compared["tokens_words"] == NOT_COMPARABLE)
    for row in compared[comparable].to_dict("records"):
        title = f"{row['left']} − {row['right']}" + (f" ({row['title']})" if row["title"] else "")
        shown = [
            row[f"{ruler}_words"]
            + ("?" if row["seeds"] == 1 and not np.isnan(row[ruler]) else "")
            + ("" if np.isnan(row[ruler]) else f" ({signed(row[ruler])})")
            for ruler in RULERS
        ]
        rows.append((title, [measurement(row), *shown, row["depends"]]))
    method = [
        "A ruler is a measure of cost. Each column shows the better member, and the difference, at equal cost by that ruler: "
        "the whole cost of the cheaper member. The other member is then still in the middle of its schedule.",
        "Between measured checkpoints, or between logged and smoothed losses, values are interpolated.",
        "With several seeds, a winner has passed Holm's correction within its question. Question mark: one seed, sign only.",
        "Training losses of different objectives or mask rates are not comparable. A conversion's cost excludes its parent's.",
    ]
    missing = int((~comparable).sum())
    unmeasured = [f"Left out: {missing} rows without a checkpoint measured at equal cost."] if missing else []
    header = ["Measurement", *(f"At equal {name}" for name in RULERS.values()), "Depends on the ruler?"]
    return Table("winners", "Does the winner depend on the ruler?", header, grouped(rows), [*unmeasured, *method])


def _numbers(compared: pd.DataFrame) -> dict[str, str]:
    return {
        f"winner/{row['left']}-{row['right']}/{row['protocol']}/{row['task']}/{row['metric']}/{ruler}": row[
            f"{ruler}_words"
        ]
        for row in compared.to_dict("records")
        for ruler in RULERS
    }
