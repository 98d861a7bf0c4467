"""Do the intervals hold what they say, in studies of the same shape? `python -m analysis.coverage` measures it for every table.

All tables of a study are made from its records while their estimators are watched. Each of these calls is then repeated on
drawn studies: as many seeds, items and clusters, with the values and the variance components of the records, and a known
truth. *Coverage* is how often the interval holds the truth, with the recorded effect and, of a difference, without one.
*Error* is how often a family of tests without any effect has a verdict after Holm's correction. Tests of a family are drawn
independently of each other, which is nearly the worst case. Draws are seeded: the same records give the same bytes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from omegaconf import DictConfig

from analysis import coverage_files, inference, kinds, predictions
from analysis.command import command
from analysis.drawn_estimates import Estimates, Shape, shape
from analysis.load import load
from analysis.observed import Call, watched
from analysis.records_archive import ARCHIVE, STUDY, unpacked
from analysis.render import text
from analysis.study_records import MEASURE, StudyRecords
from analysis.tables import Table
from analysis.uncertainty import Crossing, holm
from ettin_core.foundation.errors import invalid

NAMED = (
    "statement",
    "group",
    "way",
    "term",
    "curve",
    "left",
    "right",
    "member",
    "level",
)  # columns that say what a row is of
WITHIN = ("block", "left", "right", "term", "curve")  # a family is within these
BATCH = 250  # studies drawn at a time
POWER = 0.8
INTERVALS = ["table", "name", "kind", "seeds", "items", "clusters", "test", "reason", "coverage", "studies"]
INTERVALS += [
    "error",
    "sees",
    "claims",
]  # of a test alone, and the effect that it finds with power 0.8, drawn and claimed
FAMILIES = ["table", "family", "tests", "error", "studies"]


@dataclass(frozen=True)
class Interval:
    """An interval of a table: the call that made it (and which of its estimates it is), and the table's row."""

    call: int
    place: int
    row: dict[str, Any]


@dataclass(frozen=True)
class Simulated:
    """The estimates of drawn studies: whether each interval holds the truth, and of a test the null's value, reach and p."""

    covered: np.ndarray
    null: inference.Bounds | None


def measure(study: StudyRecords, studies: int, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A row per interval of the study's tables, and a row per family of tests; `studies` are drawn for each."""
    with watched() as calls:
        judged = predictions.judge(study)
        findings = kinds.analyse(study)
    frames = {"predictions": judged} | {item.table.name: item.data for item in findings.tables if item.data is not None}
    frames["cells"] = findings.cells
    places = _places(calls)
    simulated: dict[int, tuple[Shape, list[Simulated]]] = {}
    rows, families = [], []
    for name, frame in frames.items():
        null: dict[int, np.ndarray] = {}
        for index, interval in _intervals(frame, places):
            if interval.call not in simulated:
                of_call = shape(calls[interval.call], calls)
                simulated[interval.call] = of_call, _simulated(of_call, studies, seed, interval.call)
            of_call, drawn = simulated[interval.call]
            row = {"table": name, **_described(interval.row), **_shown(of_call)}
            if drawn:
                row |= _measured(drawn[interval.place])
                row |= _claimed(of_call, interval.row, judged, studies, seed) if name == "predictions" else {}
                if (bounds := drawn[interval.place].null) is not None:
                    null[index] = bounds.p
            rows.append(row)
        if name == "predictions" or "family" in frame:  # other tables have no verdicts
            families += [{"table": name, **family} for family in _families(frame, null)]
    return pd.DataFrame(rows, columns=INTERVALS), pd.DataFrame(families, columns=FAMILIES)


def _places(calls: list[Call]) -> dict[tuple[str, float], tuple[int, int]]:
    """By an end of an interval, as a table shows it: the call that returned it, and its place in the result.

    The value is no key, since a table shows the recorded one, of which items have fewer digits. A table may cut an end where
    no share can be.
    """
    places: dict[tuple[str, float], tuple[int, int]] = {}
    for number, call in enumerate(calls):
        results = call.result if isinstance(call.result, list) else [call.result]
        for place, result in enumerate(results):
            low, high = _ends(result)
            for of_sign in ((low, high), (-high, -low)):  # a gap is a difference from the other side
                for key in zip(("low", "high"), np.round(of_sign, 9).tolist(), strict=True):
                    places.setdefault(key, (number, place))
    return {key: place for key, place in places.items() if key[1] not in (-1.0, 0.0, 1.0)}


def _ends(result: Any) -> tuple[float, float]:
    """The ends of an interval; not a number where there is none."""
    if isinstance(result, inference.Bounds):
        return float(result.low), float(result.high)
    if isinstance(result, Crossing) and result.interval is not None:
        return result.interval.low, result.interval.high
    return np.nan, np.nan


def _intervals(frame: pd.DataFrame, places: dict[tuple[str, float], tuple[int, int]]) -> Iterator[tuple[int, Interval]]:
    """The intervals of a table that an estimator returned, by the table's index."""
    if not {"low", "high"} <= {*frame.columns}:
        return
    for index, row in zip(frame.index, frame.to_dict("records"), strict=True):
        keys = [(name, round(float(row[name]), 9)) for name in ("low", "high")]
        of_row = next((places[key] for key in keys if key in places), None)
        if of_row is not None:
            yield index, Interval(*of_row, {str(name): value for name, value in row.items()})


def _simulated(of_call: Shape, studies: int, seed: int, number: int) -> list[Simulated]:
    """Every estimate of a call on drawn studies: with the recorded truth, and of a test as many without an effect."""
    if of_call.draw is None:
        return []
    generator = np.random.default_rng([seed, number])
    recorded = _batches(of_call, generator, studies, False)
    if not of_call.test:
        return [Simulated(_holds(each), None) for each in recorded]
    null = _batches(of_call, generator, studies, True)
    return [
        Simulated(np.concatenate([_holds(with_effect), _holds(without)]), without[0])
        for with_effect, without in zip(recorded, null, strict=True)
    ]


def _batches(
    of_call: Shape, generator: np.random.Generator, studies: int, null: bool, level: float = inference.LEVEL
) -> list[Estimates]:
    assert of_call.draw is not None
    sizes = [min(BATCH, studies - start) for start in range(0, studies, BATCH)]
    drawn = [of_call.draw(generator, size, null, level) for size in sizes]
    return [
        (inference.Bounds(*map(np.concatenate, zip(*(bounds for bounds, _ in of_place), strict=True))), of_place[0][1])
        for of_place in zip(*drawn, strict=True)
    ]


def _holds(estimates: Estimates) -> np.ndarray:
    bounds, truth = estimates
    slack = 1e-9 * max(1.0, abs(truth))  # a drawn study in which nothing differs has the truth but for rounding
    return np.asarray(~(bounds.low > truth + slack) & ~(bounds.high < truth - slack))


def _described(row: dict[str, Any]) -> dict[str, Any]:
    measured = [str(row[name]) for name in MEASURE if name in row]
    named = [str(row[name]) for name in NAMED if name in row and not pd.isna(row[name]) and str(row[name])]
    return {"name": "; ".join(filter(None, [": ".join(measured), *named]))}


def _shown(of_call: Shape) -> dict[str, Any]:
    return {name: getattr(of_call, name) for name in ("kind", "seeds", "items", "clusters", "test", "reason")}


def _measured(drawn: Simulated) -> dict[str, Any]:
    """Coverage, the error of the single test, and the effect that it finds four times in five."""
    row: dict[str, Any] = {"coverage": float(drawn.covered.mean()), "studies": len(drawn.covered)}
    if drawn.null is not None:
        row["error"] = float((drawn.null.p < 1 - inference.LEVEL).mean())
        row["sees"] = _sees(drawn.null)
    return row


def _sees(null: inference.Bounds) -> float:
    """The effect with which four in five null studies would have had an interval above none."""
    return float(np.quantile(np.nan_to_num(null.high - null.value) - null.value, POWER))


def _claimed(of_call: Shape, row: dict[str, Any], judged: pd.DataFrame, studies: int, seed: int) -> dict[str, Any]:
    """What an undecided prediction claims that it could have seen, and what drawn studies see at the same level."""
    if pd.isna(row["could_see"]) or of_call.draw is None:
        return {}
    level = 1 - predictions.LEVEL / int(judged["could_see"].notna().sum())
    generator = np.random.default_rng([seed, 0, studies])
    bounds = _batches(of_call, generator, studies, True, level)[0][0]
    return {"sees": _sees(bounds), "claims": row["could_see"]}


def _families(frame: pd.DataFrame, null: dict[int, np.ndarray]) -> Iterator[dict[str, Any]]:
    """How often each family of a table has a verdict where there is no effect."""
    if not null:
        return
    tested = frame.loc[list(null)]
    if "family" in tested:
        tested = tested[tested["family"] != ""]
        groups = tested.groupby([*(name for name in WITHIN if name in tested), "family"], sort=False, dropna=False)
    else:
        groups = tested.groupby(lambda _: "predictions", sort=False)
    for name, group in groups:
        p = np.nan_to_num(np.stack([null[index] for index in group.index], axis=1), nan=1.0)
        error = float(np.mean([min(holm(list(of_study))) < 1 - inference.LEVEL for of_study in p]))
        parts = name if isinstance(name, tuple) else (name,)
        yield {"family": "; ".join(map(str, parts)), "tests": len(group), "error": error, "studies": len(p)}


def of_archive(archive: Path, studies: int, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows of a packed study's intervals and families, with what they were measured with."""
    with unpacked(archive) as folder:
        rows = measure(load(folder / "runs", folder / STUDY), studies, seed)
    inputs = coverage_files.inputs(archive)
    first, second = (each.assign(study=archive.parent.name, inputs=inputs, asked=studies, seed=seed) for each in rows)
    return first, second


def update(results: Path, studies: int, seed: int) -> list[Table]:
    """Measure every packed study of which records or estimators have changed, and write the files after each."""
    archives = sorted(results.glob(f"*/{ARCHIVE}"))
    if not archives:
        raise invalid("results", str(results), "has no packed study", "name one by study=studies/<study>")
    rows = coverage_files.read(results)
    present = pd.DataFrame(
        [(archive.parent.name, coverage_files.inputs(archive), studies, seed) for archive in archives],
        columns=["study", *coverage_files.WITH],
    )
    rows = [each.merge(present, on=["study", *coverage_files.WITH]) for each in rows]
    for archive in archives:
        if archive.parent.name not in set(rows[0]["study"]):
            more = of_archive(archive, studies, seed)
            rows = [
                pd.concat(pair, ignore_index=True) if len(pair[0]) else pair[1] for pair in zip(rows, more, strict=True)
            ]
            rows = [each.sort_values("study", kind="stable", ignore_index=True) for each in rows]
            coverage_files.write(results, *rows)
    return coverage_files.write(results, *rows)


@command("coverage")
def main(config: DictConfig) -> None:
    """The command line."""
    if config.studies < BATCH:
        raise invalid("studies", config.studies, "is too few for a share near 95%", f"draw at least {BATCH}")
    if config.study is not None:
        recorded = load(Path(config.runs), Path(config.study) / STUDY)
        intervals, families = (
            rows.assign(study=recorded.name) for rows in measure(recorded, config.studies, config.seed)
        )
        print("\n\n".join(map(text, coverage_files.tables(intervals, families))))
        return
    shown = update(Path(config.results), config.studies, config.seed)
    print("\n\n".join(map(text, shown)))


if __name__ == "__main__":
    main()
