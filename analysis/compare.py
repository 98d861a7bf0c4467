"""Two models on the questions that both were asked: `python -m analysis.compare left=<folder> right=<folder> [margin=0.01]`.

Either side is a run, a folder of our records (as `experiments.evaluate model=...` writes of any model), of lm-eval's
`--log_samples` output or of MTEB's results; or a list of such folders, which are seeds and are paired in order. Where both sides
kept their items, differences are paired by item and clustered (`inference`). Independent items that are right or wrong have
McNemar's exact test (1947): of the items on which the sides differ, would a coin decide so. p-values are Holm-corrected over
the questions of a metric.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from omegaconf import DictConfig, OmegaConf
from scipy import stats

from analysis import compare_figure, inference, outside
from analysis.command import command
from analysis.inference import Bounds
from analysis.items import aligned, kind_of
from analysis.outside import Key, Scored
from analysis.render import csv, markdown, text
from analysis.tables import HOLE, Table, number, probability, signed
from analysis.uncertainty import could_see, holm
from ettin_core.foundation.errors import unknown
from ettin_core.foundation.storage import write_text

HEADER = [
    "Question",
    "Metric",
    "Left",
    "Right",
    "Difference",
    "p (Holm)",
    "p",
    "Test",
    "p, unpaired",
    "n",
    "Ties",
    "In words",
]


@dataclass(frozen=True)
class Sides:
    """What both sides scored on one question and metric, by seed."""

    left: list[Scored]
    right: list[Scored]


def compare(left: list[Path], right: list[Path], margin: float | None, cluster: str | None) -> pd.DataFrame:
    """A row for each question and metric that both sides have.

    Raises ValueError for sides that cannot be read, have nothing in common, or were asked different things under one name.
    """
    if len(left) != len(right):
        raise ValueError(
            f"left holds {len(left)} folders and right {len(right)}; seeds are paired, so give equally many."
        )
    if margin is not None and not 0 < margin < math.inf:
        raise ValueError(f"margin={margin!r} is not positive; give the largest difference that does not matter.")
    ours, theirs = ([outside.read(path, cluster) for path in side] for side in (left, right))
    common = [key for key in ours[0] if all(key in scores for scores in (*ours, *theirs))]
    if not common:
        raise ValueError(
            f"left={str(left[0])!r} and right={str(right[0])!r} share no question: {_some(ours[0])} and {_some(theirs[0])}; "
            "measure both with the same tasks and protocols."
        )
    rows = [_row(key, Sides([f[key] for f in ours], [f[key] for f in theirs])) for key in common]
    frame = pd.DataFrame(rows)
    frame["p_corrected"] = float("nan")
    for _, group in frame[frame["p"].notna()].groupby("metric", sort=False):
        frame.loc[group.index, "p_corrected"] = holm(list(group["p"]))
    frame["words"] = [words(row, margin) for row in frame.to_dict("records")]
    return frame


def _some(scores: dict[Key, Scored]) -> str:
    names = list(dict.fromkeys(question for question, _ in scores))
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")


def _row(key: Key, sides: Sides) -> dict[str, Any]:
    """The comparison of one question."""
    values = [float(np.mean([score.value for score in side])) for side in (sides.left, sides.right)]
    ties = [float(np.mean([score.ties for score in side])) for side in (sides.left, sides.right)]
    named = {"question": key[0], "metric": key[1], "left": values[0], "right": values[1]}
    named |= {"higher_is_better": sides.left[0].higher_is_better, "ties_left": ties[0], "ties_right": ties[1]}
    return named | _tested(key, sides)


def _tested(key: Key, sides: Sides) -> dict[str, Any]:
    _check_same(key, sides)
    every = [*sides.left, *sides.right]
    paired = aligned([score.items for score in every])
    errors = [np.array([score.error for score in side]) for side in (sides.left, sides.right)]
    if paired is None:
        bounds = _of_errors(sides, errors)
        test = "independent errors" if not np.isnan(bounds.p) else "no items kept"
        n = min(score.n for score in every)
        return _test_row(bounds, n, test, float(bounds.p), math.nan, math.nan)
    values, clusters = paired
    seeds = len(sides.left)
    ours, theirs = values[:seeds], values[seeds:]
    choices = kind_of(key[1]) == "share" and bool(np.isin(values, (0.0, 0.5, 1.0)).all())
    bounds = inference.difference(ours, theirs, clusters, choices)
    groups, n = len(set(clusters)), values.shape[1]
    unpaired = _unpaired(ours, theirs)
    if seeds == 1 and groups == n and bool(np.isin(values, (0.0, 1.0)).all()):
        gained, lost = int(((ours == 1) & (theirs == 0)).sum()), int(((ours == 0) & (theirs == 1)).sum())
        return _test_row(
            bounds._replace(p=np.array(mcnemar(gained, lost))), n, f"McNemar {gained}:{lost}", unpaired, gained, lost
        )
    over = f"{groups:,} clusters" if groups < n else "items"
    return _test_row(bounds, n, f"t, {over}" + (f", {seeds} seeds" if seeds > 1 else ""), unpaired, math.nan, math.nan)


def _test_row(bounds: Bounds, n: int, test: str, unpaired: float, gained: float, lost: float) -> dict[str, Any]:
    low, high = float(bounds.low), float(bounds.high)
    return {
        "value": float(bounds.value),
        "low": low,
        "high": high,
        "p": float(bounds.p),
        "test": test,
        "p_unpaired": unpaired,
        "n": n,
        "left_only": gained,
        "right_only": lost,
        "could_see": could_see((high - low) / 2),
    }


def mcnemar(gained: int, lost: int) -> float:
    """The exact two-sided p of McNemar's test: items that the left alone has right, and the right alone."""
    return float(stats.binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0


def _unpaired(left: np.ndarray, right: np.ndarray) -> float:
    """p by a z-test of independent errors, as lm-eval's own comparison has it; for reading beside the paired test."""
    n = left.shape[-1]
    variance = sum(float(side.mean(0).var(ddof=1)) / n for side in (left, right)) if n > 1 else 0.0
    return float(2 * stats.norm.sf(abs(left.mean() - right.mean()) / variance**0.5)) if variance else math.nan


def _of_errors(sides: Sides, errors: list[np.ndarray]) -> Bounds:
    """The difference where no items are kept: over seeds, and over items as if they were independent."""
    ours, theirs = (np.array([score.value for score in side]) for side in (sides.left, sides.right))
    known = None if any(np.isnan(error).any() for error in errors) else (errors[0], errors[1])
    return inference.difference_of_runs(ours, theirs, known)


def _check_same(key: Key, sides: Sides) -> None:
    """Raises ValueError for items of one name that were asked different things."""
    kept = [score.items for score in (*sides.left, *sides.right)]
    hashes = [items["hash"].dropna() for items in kept if items is not None and "hash" in items]
    for hash_column in hashes[1:]:
        both = hashes[0].index.intersection(hash_column.index)
        if len(both) and (hashes[0][both] != hash_column[both]).any():
            item = both[(hashes[0][both] != hash_column[both]).to_numpy()][0]
            raise ValueError(
                f"{key[0]}: document {item} differs between the sides; measure both on one version of the data set."
            )


def words(row: dict[str, Any], margin: float | None) -> str:
    """A comparison's reading. The whole interval within the margin: the same, for what the margin is for."""
    low, high = row["low"], row["high"]
    if math.isnan(low):
        return "cannot be told"
    same = margin is not None and -margin < low and high < margin
    if row["p_corrected"] < 1 - inference.LEVEL:
        better = "left" if (row["value"] > 0) == row["higher_is_better"] else "right"
        return f"{better} better" + (f", within {margin:g}" if same else "")
    if same:
        return f"same within {margin:g}"
    return f"not distinguishable (could see {number(row['could_see'])})"


def table(frame: pd.DataFrame, left: Sequence[Path], right: Sequence[Path], margin: float | None) -> Table:
    """The comparison for readers."""
    rows = [_cells(row) for row in frame.to_dict("records")]
    tasks = _over_questions(frame)
    notes = [
        f"Left: {', '.join(map(str, left))}. Right: {', '.join(map(str, right))}.",
        "Difference: left minus right, with a 95% interval. Could see x: one test alone, not corrected, "
        "finds a true difference of x with power 0.8.",
        "McNemar a:b: exact test; a items are right on the left alone, b on the right alone. p, unpaired: a z-test of "
        "independent errors.",
        "Ties: share of items whose best answers have equal scores, left and right.",
    ]
    if margin is not None:
        notes.append(f"Same within {margin:g}: the whole interval is within it (two one-sided tests at 2.5%).")
    return Table("compare", "Comparison", HEADER, [("", rows)], [*tasks, *notes])


def _cells(row: dict[str, Any]) -> list[str]:
    interval = "" if math.isnan(row["low"]) else f" [{signed(row['low'])}, {signed(row['high'])}]"
    chances = [HOLE if math.isnan(row[name]) else probability(row[name]) for name in ("p_corrected", "p", "p_unpaired")]
    ties = [row["ties_left"], row["ties_right"]]
    shown = HOLE if any(map(math.isnan, ties)) else " / ".join(map(number, ties))
    named = [row["question"], row["metric"], number(row["left"]), number(row["right"]), signed(row["value"]) + interval]
    return [*named, chances[0], chances[1], row["test"], chances[2], f"{row['n']:,}", shown, row["words"]]


def _over_questions(frame: pd.DataFrame) -> list[str]:
    """The mean difference of each metric over questions, which are then the units: all that scores without items can say."""
    lines = []
    for metric, group in frame.groupby("metric", sort=False):
        if len(group) < 2:
            continue
        bounds = inference.difference(group[["left"]].to_numpy().T, group[["right"]].to_numpy().T)
        if not math.isnan(float(bounds.low)):
            lines.append(
                f"{metric} over {len(group)} questions, weighted equally: {signed(float(bounds.value))} "
                f"[{signed(float(bounds.low))}, {signed(float(bounds.high))}], p {probability(float(bounds.p))}."
            )
    return lines


def _folders(value: Any) -> list[Path]:
    plain = OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
    return [Path(str(item)) for item in (plain if isinstance(plain, list) else [plain])]


def _chosen(frame: pd.DataFrame, metric: str | None, tasks: Sequence[str] | None) -> pd.DataFrame:
    """The rows that are asked for. Raises ValueError where there are none."""
    kept = frame if metric is None else frame[frame["metric"] == metric]
    if kept.empty:
        raise unknown("metric", metric, "is none that both have", sorted(set(frame["metric"])))
    for name in tasks or ():
        if not kept["question"].str.contains(name, regex=False).any():
            raise unknown("tasks", name, "is in no question", sorted(set(kept["question"])))
    wanted = [not tasks or any(name in question for name in tasks) for question in kept["question"]]
    return kept[wanted]


@command("compare")
def main(config: DictConfig) -> None:
    """The command line."""
    left, right = _folders(config.left), _folders(config.right)
    frame = _chosen(compare(left, right, config.margin, config.cluster), config.metric, config.tasks)
    shown = table(frame, left, right, config.margin)
    print(text(shown))
    if config.out is not None:
        out = Path(config.out)
        write_text(out / "compare.md", markdown(shown))
        write_text(out / "compare.csv", csv(frame))
        print(f"table    {out / 'compare.md'}")
        compare_figure.differences(frame, config.margin).save(out)


if __name__ == "__main__":
    main()
