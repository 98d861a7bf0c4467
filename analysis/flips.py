"""Which conclusions change their sign: with the measure, the scoring, the ruler, the mask rate, the text and the size.

All are read from the tables of the studies' reports. A conclusion is a comparison of two sides. Its sign changes where both
sides win somewhere, each after correction; what no record can say is a hole with its reason.
"""

import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from analysis import learning_rates, mask_rates, render
from analysis.costs import RULERS
from analysis.study_records import rows_of
from analysis.tables import HOLE, Table, grouped, measure, signed
from analysis.ways import OWN, split, way_name
from analysis.wording import arrow, metric_name, question_name

NAMES = ("flips.csv", "flips.md")
TESTS = ("differences.csv", "effects.csv")  # of reports, with a verdict in words per row
COLUMNS = [
    "varies",
    "study",
    "left",
    "right",
    "measured",
    "condition",
    "value",
    "low",
    "high",
    "words",
    "changes",
    "hole",
]
HEADER = ["Conclusion", "Measured by", "Signs", "Changes?"]
VARIES = {
    "measure": "With what is measured",
    "scoring": "With the way of scoring",
    "ruler": "With the ruler, at equal cost",
    "mask rate": "With the encoder's mask rate",
    "size": "With the size, on one text",
    "text": "With the text (and the size, where both differ)",
    "learning rate": "With a learning rate tuned for each member",
}
NO_RULER = "no checkpoint was measured at equal cost by another ruler than tokens"
NO_RATE = "no study of mask rates has a decoder beside it that saw the same tokens"
NO_CONTEXT = "one {} of this comparison was trained"
NO_SEARCH = "no search was run: both members have the preset rate of their size"
NO_WINNER = "no winner"
COPIES = "quantised."  # of a model: no ways of scoring it
DECIDED = (" better", " higher")


def collect(results: Path, reported: Mapping[Path, bytes]) -> pd.DataFrame:
    """A row per conclusion and condition under which it was tested, from the files of the studies' reports by path."""
    tables = {
        (path.parent.name, path.name): pd.read_csv(io.BytesIO(content))
        for path, content in sorted(reported.items())
        if path.suffix == ".csv" and path.parent.parent == results
    }
    tests = [
        frame.assign(study=study, side=_conclusion(frame))
        for (study, name), frame in tables.items()
        if name in TESTS and "words" in frame and len(frame)
    ]
    tested = pd.concat(tests, ignore_index=True) if tests else pd.DataFrame(columns=["words", "side"])
    tested = tested[
        tested["words"].astype(str).map(_is_verdict) & ~tested["side"].astype(str).str.contains("+", regex=False)
    ]
    tested = tested.drop_duplicates([name for name in SAME if name in tested])
    rows = [
        *_by_measure(tested),
        *_by_scoring(tested),
        *_by_ruler(tables, tested),
        *mask_rates.compared(tables, NO_RATE),
        *_by_context(tested),
        *learning_rates.compared(tables, NO_SEARCH),
    ]
    frame = pd.DataFrame(rows).reindex(columns=COLUMNS)
    changes = {key: changed(list(group["words"])) for key, group in frame.groupby(KEY, dropna=False)}
    of = [changes[key] for key in frame[KEY].itertuples(index=False, name=None)] if len(frame) else []
    return frame.assign(
        changes=["" if isinstance(row.hole, str) else word for row, word in zip(rows_of(frame), of, strict=True)]
    )


SAME = ["side", "protocol", "task", "metric", "value"]  # a comparison that studies of the same runs repeat
KEY = ["varies", "study", "left", "right", "measured"]  # what makes one conclusion


def _conclusion(frame: pd.DataFrame) -> pd.Series:
    """What is compared, in words: the term of an effect, or both sides."""
    return frame["term"] if "term" in frame else frame["left"] + " − " + frame["right"]


def _is_verdict(words: str) -> bool:
    return words.startswith("not distinguishable") or words.endswith(DECIDED)


def winner(words: str) -> str:
    """The side that a verdict names; empty where it names none."""
    return next((words.removesuffix(end) for end in DECIDED if words.endswith(end)), "")


def changed(words: list[str]) -> str:
    """Whether verdicts under several conditions name two winners, one and no other, or none."""
    winners = [winner(str(word)) for word in words]
    if len(set(winners) - {""}) > 1:
        return "yes"
    if not any(winners):
        return NO_WINNER
    return "no" if all(winners) else "in part"


def _row(varies: str, row: Any, measured: str, condition: str) -> dict[str, Any]:
    names = ("study", "left", "right", "value", "low", "high", "words")
    named = {name: getattr(row, name) for name in names}
    return named | {"varies": varies, "left": row.side, "right": "", "measured": measured, "condition": condition}


def _asked(row: Any) -> str:
    """The question, the way of scoring where it has several, and the measurement."""
    question, way = split(row.protocol)
    return ", ".join(filter(None, [question_name(question), way_name(way) if way else "", measure(row._asdict())]))


def _by_measure(tested: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Every conclusion that has two winners in one study, with the measurements that say so."""
    for _, group in tested.groupby(["study", "side"], sort=False) if len(tested) else ():
        decided = group[group["words"].map(winner) != ""]
        if decided["words"].map(winner).nunique() > 1:
            for row in rows_of(decided):
                yield _row("measure", row, "all that was measured", _asked(row))


def _by_scoring(tested: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Every question that was asked in several ways which both sides have."""
    if tested.empty:
        return
    tested = tested[~tested["protocol"].str.startswith(COPIES)]
    asked = [split(name) for name in tested["protocol"]]
    frame = tested.assign(question=[question for question, _ in asked], way=[way for _, way in asked])
    for (_, _, question, task, metric), group in frame.groupby(
        ["study", "side", "question", "task", "metric"], sort=False
    ):
        if group["way"].nunique() > 1:
            for row in rows_of(group):
                name = f"{question_name(question)}: {task}, {metric_name(metric)}{arrow(metric, row.higher_is_better)}"
                yield _row("scoring", row, name, way_name(row.way))


def _by_ruler(tables: Mapping[tuple[str, str], pd.DataFrame], tested: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Every measurement whose winner is known by two rulers or more; a hole where there is none."""
    trained = list(_by_length(tested))
    yield from trained
    known = bool(trained)
    for (study, name), frame in tables.items():
        if name != "winners.csv":
            continue
        for row in rows_of(frame[frame[list(RULERS)].notna().sum(axis=1) > 1]):
            known = True
            title = f" ({row.title})" if isinstance(row.title, str) and row.title else ""
            for ruler, called in RULERS.items():
                said = str(getattr(row, f"{ruler}_words"))
                named = {"varies": "ruler", "study": study, "left": f"{row.left} − {row.right}{title}", "right": ""}
                named |= {"measured": f"{question_name(split(row.protocol)[0])}: {measure(row._asdict())}"}
                words = f"{said} better" if said in (row.left, row.right) else said
                yield named | {"condition": called, "value": getattr(row, ruler), "words": words}
    if not known:
        yield {"varies": "ruler", "hole": NO_RULER}


def _by_length(tested: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Comparisons of members that were trained as long by each ruler, of cells called after it ("flops, decoder")."""
    called = {ruler.replace("_", " "): name for ruler, name in RULERS.items()}
    for row in rows_of(tested[tested["left"].notna()]) if "left" in tested else ():
        (ruler, _, left), (of_right, _, right) = (str(side).partition(", ") for side in (row.left, row.right))
        if ruler in called and of_right in called and left != right:
            words = str(row.words).replace(f"{ruler}, ", "").replace(f"{of_right}, ", "")
            yield _row("ruler", row, _asked(row), called[ruler]) | {"words": words, "left": f"{left} − {right}"}


def _by_context(tested: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """The same comparison and measurement in studies of other sizes and texts; a hole for what never differs alone."""
    known = tested[tested["block"].notna()] if "block" in tested else tested[:0]
    for varies in ("size", "text"):
        rows = list(_contexts(known, varies))
        yield from rows or [{"varies": varies, "hole": NO_CONTEXT.format(varies)}]


def _contexts(known: pd.DataFrame, varies: str) -> Iterator[dict[str, Any]]:
    if known.empty:
        return
    places = known["block"].str.split(" on ", n=1, expand=True)
    corpora = places[1].str.rpartition("-")[0]
    frame = known.assign(size=places[0], corpus=corpora).drop_duplicates(
        ["side", "block", "protocol", "task", "metric"]
    )
    alike = ["side", "protocol", "metric", *(["corpus", "task"] if varies == "size" else [])]
    for _, group in frame.groupby(alike, sort=False):
        if group["size" if varies == "size" else "corpus"].nunique() > 1:
            for row in rows_of(group):
                question, way = split(row.protocol)
                scored = f", {way_name(way)}" if way in OWN else ""
                name = f"{question_name(question)}{scored}: {metric_name(row.metric)}{arrow(row.metric, row.higher_is_better)}"
                yield _row(varies, row, name, f"{row.size}, {row.task}") | {"study": ""}


def table(rows: pd.DataFrame) -> Table:
    """A section for each thing that varies, a row for each conclusion, those that change first."""
    lines: list[tuple[str, list[str]]] = []
    without = 0
    for varies, title in VARIES.items():
        of = rows[rows["varies"] == varies]
        shown = []
        for _, group in of.groupby(KEY, sort=False, dropna=False):
            first = next(rows_of(group))
            if isinstance(first.hole, str):
                shown.append([HOLE, HOLE, first.hole, "cannot be told"])
                continue
            signs = "; ".join(f"{row.condition}: {row.words}{_size(row)}" for row in rows_of(group))
            study = f" ({first.study})" if first.study else ""
            shown.append([f"{first.left}{study}", str(first.measured), signs, str(first.changes)])
        without += sum(line[-1] == NO_WINNER for line in shown)
        shown = [line for line in shown if line[-1] != NO_WINNER] or [
            [HOLE, HOLE, "nothing is distinguishable", NO_WINNER]
        ]
        order = ["yes", "in part", "no", NO_WINNER, "cannot be told"]
        lines += [(title, line) for line in sorted(shown, key=lambda line: order.index(line[-1]))]
    notes = [
        "Yes: each side wins under some condition, after the correction of its own study. In part: one side wins under some and "
        "none under the others. No: one side wins under all. Left out, and in the file: "
        f"{without} conclusions of which nothing is distinguishable, and copies, merges and tuned models.",
        "Brackets: 95% interval of the difference, the first side less the second. At equal cost by a ruler the dearer member is "
        "still in the middle of its schedule, unless a study trained each as long by that ruler (rulers).",
    ]
    return Table("flips", "Which conclusions change their sign", HEADER, grouped(lines), notes)


def _size(row: Any) -> str:
    if pd.isna(row.value):
        return ""
    bounds = "" if pd.isna(row.low) else f" [{signed(row.low)}, {signed(row.high)}]"
    return f", {signed(row.value)}{bounds}"


def files(rows: pd.DataFrame) -> dict[str, bytes]:
    """The table as files by name."""
    return {"flips.csv": render.csv(rows).encode(), "flips.md": render.markdown(table(rows)).encode()}
