"""What a study's author stated before anything was trained, judged by what was measured.

A sign is confirmed where the interval of the difference is on its side and p, Holm-corrected over all predictions of the
study, is below 5%; contradicted where that holds of the other side. A size is confirmed where the whole interval is within
it, contradicted where none of it is; its p is that of a difference at the nearer end, and is corrected with the others, since
each verdict may be wrong. All else is not distinguishable, with the difference that could have been seen with power 0.8: by the
test that Holm's correction leaves to these predictions, 5% over their number.
"""

import math
from typing import Any

import pandas as pd

from analysis import families, wording
from analysis.answer import Answer, Verdict, named
from analysis.cell_names import level_name, short_names
from analysis.estimates import RECORD, by_measure, paired
from analysis.sources import Cell
from analysis.study_records import MEASURE, OWN_SCORING, StudyRecords, rows_of
from analysis.tables import HOLE, Table, grouped, number, probability, signed
from analysis.uncertainty import could_see, holm
from analysis.ways import with_own_ways
from ettin_core.records.predictions import Prediction, Side, restored

CONFIRMED, CONTRADICTED, UNDECIDED, NOT_MEASURED = "confirmed", "contradicted", "not distinguishable", "not measured"
VERDICTS = (CONFIRMED, CONTRADICTED, UNDECIDED, NOT_MEASURED)
LEVEL = 0.05


def judge(study: StudyRecords) -> pd.DataFrame:
    """A row for each prediction and measurement that it is about."""
    rows = []
    for prediction in restored(study.predictions):
        measured = list(_measured(study, prediction))
        rows += measured or [_named(prediction) | {"measured": prediction.measure}]
    sides = [row.pop("sides", None) for row in rows]
    frame = pd.DataFrame(rows)
    if frame.empty:
        return frame
    for name in ("value", "low", "high", "p"):
        frame[name] = frame[name].astype(float) if name in frame else float("nan")
    frame["p_corrected"] = float("nan")
    tested = frame[frame["p"].notna()]
    frame.loc[tested.index, "p_corrected"] = holm(list(tested["p"]))
    frame["could_see"] = float("nan")
    frame["verdict"] = [_verdict(row) for row in frame.to_dict("records")]
    undecided = tested.index[frame.loc[tested.index, "verdict"] == UNDECIDED]
    for place in undecided:
        level = 1 - LEVEL / len(undecided)
        left, right = sides[place]
        interval = paired(study.items, left, right, level=level)
        assert interval is not None, "it has been compared"
        reach = max(interval["high"] - interval["value"], interval["value"] - interval["low"])  # one may end at a bound
        frame.loc[place, "could_see"] = could_see(reach, level)
    return frame


def _named(prediction: Prediction) -> dict[str, Any]:
    names = ("statement", "left", "right", "sign", "size", "reason", "source")
    return {name: getattr(prediction, name) for name in names} | {
        "left": _label(prediction.left),
        "right": _label(prediction.right),
    }


def _label(side: Side) -> str:
    """A member by its name, a cell by its levels."""
    if isinstance(side, str):
        return side
    short = short_names(list(side))
    return ", ".join(level_name(short[axis], level) for axis, level in side.items())


def _runs(study: StudyRecords, runs: pd.DataFrame, side: Side) -> list[str]:
    """The complete runs of one side. Raises ValueError where its levels leave several cells of one seed."""
    if isinstance(side, str):
        return list(runs.index[runs["member"] == side])
    cells = [cell for cell in study.cells.values() if side.items() <= cell["axes"].items()]
    chosen = runs[runs.index.isin([cell["run"] for cell in cells])]
    if chosen["seed"].duplicated().any():
        axes = sorted({axis for cell in cells for axis in cell["axes"]} - set(side) - {"seed"})
        raise ValueError(
            f"predictions: {side} picks several cells of one seed; name a level of {' and '.join(axes)} too."
        )
    return list(chosen.index)


def _measured(study: StudyRecords, prediction: Prediction) -> Any:
    """The differences that a prediction is about, block by block."""
    for block in study.blocks:
        runs = study.runs[study.runs["block"] == block]
        names = [_runs(study, runs, side) for side in (prediction.left, prediction.right)]
        runs = runs[runs.index.isin([*names[0], *names[1]])]
        measured = study.measurements[study.measurements["run"].isin(runs.index)]
        if measured.empty:
            continue
        measured = with_own_ways(measured[RECORD], runs, asked=OWN_SCORING in prediction.measure)
        for key, records in by_measure(measured[~families.is_part(measured)]):
            left, right = (records[records["run"].isin(of_side)] for of_side in names)
            difference = paired(study.items, left, right) if prediction.asks(*map(str, key)) else None
            if difference is not None:
                if prediction.size is not None:
                    ends = [paired(study.items, left, right, against=end) for end in prediction.size]
                    difference["p"] = max(end["p"] for end in ends if end is not None)
                better = bool(records["higher_is_better"].iloc[0])
                yield (
                    _named(prediction)
                    | dict(zip(MEASURE, key, strict=True))
                    | {"measured": ": ".join(map(str, key)), "higher_is_better": better}
                    | difference
                    | {"sides": (left, right)}
                )


def _verdict(row: dict[str, Any]) -> str:
    if math.isnan(row["value"]):
        return NOT_MEASURED
    low, high = row["low"], row["high"]
    if math.isnan(low):
        return UNDECIDED
    if not row["p_corrected"] < LEVEL:
        return UNDECIDED
    if row["size"] is not None:
        least, most = row["size"]
        return CONFIRMED if least <= low and high <= most else CONTRADICTED if high < least or most < low else UNDECIDED
    if low <= 0 <= high:
        return UNDECIDED
    upwards = row["sign"] == "higher" or (row["sign"] == ("better" if row["higher_is_better"] else "worse"))
    return CONFIRMED if (row["value"] > 0) == upwards else CONTRADICTED


def when_stated(study: StudyRecords) -> str:
    """How many cells had begun to train when the predictions were stated."""
    begun, cells = len(study.predictions["trained_before"]), len(study.cells)
    if not begun:
        return "before any cell"
    return "after all cells" if begun == cells else f"after {begun} of {cells} cells"


def predictions_table(judged: pd.DataFrame, study: StudyRecords) -> Table:
    """The predictions and what became of them."""
    rows = [(str(row.statement), _cells(row)) for row in rows_of(judged)]
    before = study.predictions["trained_before"]
    named = f": {', '.join(before)}" if before else ""
    notes = [
        f"Stated {when_stated(study)} had begun{named}; hash {study.predictions['hash'][:12]}.",
        "Difference: the first member minus the second, with a 95% interval. p: Holm-corrected over the study's predictions. Of "
        "a range it is that of a difference at the nearer end.",
        "Not distinguishable (could see x): a true difference of x would have been found with power 0.8, at the level that the "
        f"correction leaves to these predictions (5% / {_undecided(judged)}).",
        *dict.fromkeys(f"{row.statement}: {row.reason}" + _source(row) for row in rows_of(judged)),
    ]
    header = ["Measurement", "Predicted", "Difference", "p (Holm)", "Verdict"]
    return Table("predictions", "Predictions", header, grouped(rows), notes)


def _undecided(judged: pd.DataFrame) -> int:
    """How many predictions share the level of the undecided ones."""
    return max(1, int(judged["could_see"].notna().sum()))


def answers(judged: pd.DataFrame) -> list[Answer]:
    """What became of each prediction, with the differences that say so."""
    answered = [_summary(judged)]
    for statement, rows in judged.groupby("statement", sort=False):
        by_verdict: dict[str, list[str]] = {}
        for row in rows_of(rows):
            name, _, difference, _, verdict = _cells(row)
            seen = verdict.removeprefix(row.verdict)
            by_verdict.setdefault(row.verdict, []).append(f"{name} {difference}{seen}")
        verdicts = [
            Verdict(f"{verdict}{f' in {len(names)} of {len(rows)}' if len(rows) > 1 else ''}: {named(names)}")
            for verdict, names in by_verdict.items()
        ]
        answered.append(Answer(str(statement), sorted(verdicts, key=lambda item: not item.decides), "predictions"))
    return answered


def _summary(judged: pd.DataFrame) -> Answer:
    """How many predictions have which verdict."""
    said = ", ".join(f"{count} {word}" for word in VERDICTS if (count := int((judged["verdict"] == word).sum())))
    return Answer(f"{len(judged)} predictions: {said}", [], "predictions")


def _source(row: Any) -> str:
    return f" ({row.source})" if row.source else ""


def _cells(row: Any) -> list[str]:
    predicted = f"{row.left} {row.sign} than {row.right}" if row.size is None else f"{row.left} − {row.right} in "
    predicted += "" if row.size is None else f"[{signed(row.size[0])}, {signed(row.size[1])}]"
    name = Cell(wording.measured_name(str(row.measured)), tuple(str(row.measured).split(": ")))
    if row.verdict == NOT_MEASURED:
        return [name, predicted, HOLE, HOLE, row.verdict]
    interval = "" if math.isnan(row.low) else f" [{signed(row.low)}, {signed(row.high)}]"
    chance = HOLE if math.isnan(row.p_corrected) else probability(row.p_corrected)
    seen = f" (could see {number(row.could_see)})" if row.verdict == UNDECIDED and not math.isnan(row.could_see) else ""
    return [name, predicted, signed(row.value) + interval, chance, row.verdict + seen]
