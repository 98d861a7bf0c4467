"""The list of what was found: questions in words, each answered by a row of a study's table.

`paper/results/findings.yaml` has an entry per finding, newest first: the study, the question, and which row of which of the
report's tables (a CSV file) answers it; and the panels of the figure above the list. No number is in it.
"""

import io
import json
import math
import os
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd

from analysis import claims, findings_figure, flips, hours, render, verdicts
from analysis.findings_figure import Panel
from analysis.predictions import NOT_MEASURED, UNDECIDED
from analysis.records_archive import ARCHIVE, STUDY, unpacked
from analysis.study_records import MEASURE
from analysis.tables import Table, signed
from analysis.wording import metric_name, protocol_name
from ettin_core.foundation.errors import invalid
from ettin_core.foundation.storage import read_mapping
from ettin_core.records.folders import run_folders
from ettin_core.records.studies import read_study

LIST = "findings.yaml"
SHOWN = ["Question", "Measured by", "Estimate [95%]", "Verdict", "Study"]
TABLES = (*verdicts.NAMES, *claims.NAMES, *flips.NAMES, *hours.NAMES)
NAMES = ("README.md", "findings.csv", "findings.png", "findings.data.csv", *TABLES)
MAIN_FIGURES = ("comparison", "interaction", "curve", "frontier", "size", "loss")  # of a study that no panel shows
BEGIN, END = "<!-- findings: made by python -m analysis.results -->", "<!-- end of findings -->"

_PAGE = """# What was found

Newest first. Every number is made from the records in the folders beside this page by `python -m analysis.results`, which needs
no torch and takes seconds; a test compares. Verdicts are those of each study's own table, corrected within its families. A commit
with a plus had changes that were not committed. How often the intervals and tests are right in drawn studies of the same shape is
in [coverage.md](coverage.md).

{table}

![{title}](findings.png)

*{title}.* {caption}

## Published claims

What others published that these studies test ([the file](claims.csv)).

{claims}

## Sign changes

Conclusions that hold under one condition and not under another ([the file](flips.csv)).

{flips}

## Predictions

{predictions}

## Hours of computing

{hours}
"""
_PREDICTIONS = """What each study stated, and what became of it: {counts}. Below its own table of predictions a study says
which of its cells had begun to train by then. A difference is the first side less the second. Not distinguishable (could see
x): a true difference of x would have been found with power 0.8.

{table}"""
_BLOCK = """
![{title}]({results}/findings.png)

*{title}.* {caption}

{table}

"""


Entry = TypeVar("Entry", "Question", Panel)


@dataclass(frozen=True)
class Question:
    """An entry of the list: `where` names the columns of `table` (and their values) that only one row has.

    The README has the entries with a `headline` (all of them where none has one).
    """

    study: str
    question: str
    table: str
    where: Mapping[str, Any]
    headline: bool = False


@dataclass(frozen=True)
class Made:
    """The files of the list by name, and the same as a block of Markdown, for the README.

    `answers` are the rows that answer the `questions`, `judged` those of the predictions, `scales` says of each study how
    large it is, `figures` names its main figure. `overall` are the tables over all studies: claims, sign changes and hours.
    """

    files: dict[str, bytes]
    block: str
    questions: list[Question]
    answers: pd.DataFrame
    judged: pd.DataFrame
    overall: list[Table]
    counts: dict[str, int]
    scales: dict[str, str]
    figures: dict[str, str]


def make(results: Path, readme: Path, files: Mapping[Path, bytes]) -> Made:
    """The list, and the block of the README, from the files of the studies' reports by path.

    Raises ValueError for an entry that no row answers, or more than one.
    """
    questions = read_list(results / LIST, "findings", Question)
    answers = [answered(question, results, files) for question in questions]
    picture = findings_figure.draw(read_list(results / LIST, "figure", Panel), results, files)
    figures = main_figures(results, files)
    judged = verdicts.collect(results, files, figures)
    trained = {name: _trained(results / name / ARCHIVE) for name in sorted(figures)}
    rows = pd.DataFrame([answer | trained[answer["study"]] for answer in answers])
    scales = {name: _scale(study) for name, study in trained.items()}
    asked = {question.study for question in questions}
    caption = " ".join([picture.caption, *(f"{name}: {scales[name]}." for name in sorted(asked))])
    table = _markdown(rows, ".", [*SHOWN, "Trained at"])
    claimed = claims.collect(judged, set(figures), claims.read())
    changes, costs = flips.collect(results, files), hours.collect(results, files)
    beside = {
        "claims": claims.table(claimed, "."),
        "flips": flips.table(changes),
        "hours": hours.table(costs),
    }
    list_page = _PAGE.format(
        table=table,
        title=picture.title,
        caption=caption,
        predictions=_predictions(judged),
        **{name: render.markdown(each).partition("\n\n")[2].rstrip() for name, each in beside.items()},
    )
    page_files = {
        "README.md": list_page.encode(),
        "findings.csv": render.csv(rows).encode(),
        "findings.png": picture.encoded("png"),
        "findings.data.csv": render.csv(picture.data).encode(),
        **verdicts.files(judged),
        **claims.files(claimed),
        **flips.files(changes),
        **hours.files(costs),
    }
    place = Path(os.path.relpath(results, readme.parent)).as_posix()
    chosen = any(each.headline for each in questions)
    heads = [each.headline or not chosen for each in questions]
    named = sorted({each.study for each, head in zip(questions, heads, strict=True) if head})
    shown = " ".join([picture.caption, *(f"{name}: {scales[name]}." for name in named)])
    block = _BLOCK.format(table=_markdown(rows[heads], place, SHOWN), results=place, title=picture.title, caption=shown)
    overall = [claims.table(claimed), beside["flips"], beside["hours"]]
    return Made(page_files, block, questions, rows, judged, overall, claims.counts(claimed), scales, figures)


def _predictions(judged: pd.DataFrame) -> str:
    if judged.empty:
        return "No study here states predictions."
    counts = ", ".join(f"{count} {word}" for word, count in verdicts.tally(judged).items() if count)
    return _PREDICTIONS.format(counts=counts, table=verdicts.markdown(judged, ".").rstrip())


def main_figures(results: Path, files: Mapping[Path, bytes]) -> dict[str, str]:
    """The main figure of every study that has a report: the one that its first panel shows, or the first that is usual."""
    panels = {panel.study: panel.figure for panel in reversed(read_list(results / LIST, "figure", Panel))}
    drawn: dict[str, list[str]] = {}
    for path in sorted(files):
        if path.parent.parent == results and path.suffix == ".png":
            drawn.setdefault(path.parent.name, []).append(path.stem)
    usual = {
        study: next((name for usual in MAIN_FIGURES for name in names if name.startswith(usual)), names[0])
        for study, names in drawn.items()
    }
    return usual | {study: figure for study, figure in panels.items() if study in usual}


def read_list(file: Path, section: str, kind: type[Entry]) -> list[Entry]:
    """The entries of a section of the list. Raises ValueError for one that lacks a field or has another."""
    names = {field.name for field in fields(kind)}
    needed = {field.name for field in fields(kind) if field.default is MISSING}
    entries = read_mapping(file, "restore it", **{section: list})[section]
    for number, entry in enumerate(entries):
        if not isinstance(entry, dict) or not needed <= entry.keys() <= names:
            problem = f"does not have the fields {', '.join(sorted(needed))}"
            raise invalid(f"{section}.{number}", entry, problem, f"correct {file}")
    return [kind(**entry) for entry in entries]


def answered(question: Question, results: Path, files: Mapping[Path, bytes]) -> dict[str, Any]:
    """The row that answers a question, with what it was measured on; a hole where no record has that measurement.

    Raises ValueError for a table or column that is not there, words that no row has, and an answer in several rows.
    """
    table = results / question.study / f"{question.table}.csv"
    if table not in files:
        raise invalid(
            "table", str(table), "is not made from any record", f"pack the study's records, or correct {LIST}"
        )
    frame = pd.read_csv(io.BytesIO(files[table]))
    unknown = sorted(set(question.where) - set(frame.columns))
    if unknown:
        raise invalid("where", unknown, f"are not columns of {table}", f"use some of {', '.join(frame.columns)}")
    keep = pd.Series(True, index=frame.index)
    for column, value in question.where.items():
        alike = frame[column].astype(str) == str(value)
        if column not in MEASURE and not alike.any():
            problem = f"is answered by 0 rows of {table}: no {column} there is {value!r}"
            raise invalid("where", dict(question.where), problem, "name the columns of one row")
        keep &= alike
    if keep.sum() > 1:
        problem = f"is answered by {keep.sum()} rows of {table}"
        raise invalid("where", dict(question.where), problem, "name the columns of one row")
    row = frame[keep].iloc[0] if keep.any() else pd.Series(dict(question.where), dtype=object)
    return {
        "study": question.study,
        "question": question.question,
        **{column: row.get(column, "") for column in MEASURE},
        **{column: float(row.get(column, math.nan)) for column in ("value", "low", "high")},
        "words": NOT_MEASURED if not keep.any() else row["words"] if "words" in frame else _judged(row),
    }


def _judged(row: pd.Series) -> str:
    """What became of a prediction. An interval beside zero may not be enough: there are as many tests as predictions."""
    alone = row["verdict"] == UNDECIDED and not row["low"] <= 0 <= row["high"]
    return str(row["verdict"]) + (" after correction" if alone else "")


def _trained(archive: Path) -> dict[str, Any]:
    """What the runs of a study were trained on, how many they are, and the commits that trained them, from packed records."""
    with unpacked(archive, only=(STUDY, "COMPLETE", "config.yaml", "provenance.json")) as folder:
        origins = [json.loads(file.read_text()) for file in sorted(folder.glob("runs/*/provenance.json"))]
        summaries = [run.summary() for run in run_folders(folder / "runs")]
        cells = read_study(folder / STUDY).get("cells", [])
    commits = sorted({str(origin.get("commit"))[:7] + ("+" if origin.get("dirty") else "") for origin in origins})
    return {
        "sizes": ", ".join(sorted({summary["size"] for summary in summaries})),
        "corpora": ", ".join(sorted({summary["corpus"].rpartition("-")[0] for summary in summaries})),
        "tokens": max(summary["tokens"] for summary in summaries),
        # A cell's seed, where it has one: a conversion's own seed is another, and its repetition is that of its parent.
        "seeds": len(
            {cell["axes"]["seed"] for cell in cells if "seed" in cell["axes"]} or {each["seed"] for each in summaries}
        ),
        "runs": len(summaries),
        "commit": ", ".join(commits),
    }


def _scale(trained: dict[str, Any]) -> str:
    tokens = f"up to {trained['tokens'] / 1e6:.1f}M tokens of {trained['corpora']}"
    seeds = f"{trained['seeds']} seed" + ("s" if trained["seeds"] > 1 else "")
    return f"{trained['runs']} runs of {trained['sizes']}, {seeds}, {tokens} each"


def inserted(text: str, block: str, readme: Path) -> str:
    """A text with the block of findings between its two marks. Raises ValueError for a text without them."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise invalid("readme", str(readme), "lacks the marks of the findings", f"put in {BEGIN} and {END}")
    return f"{before}{BEGIN}\n{block}{END}{after}"


def _markdown(rows: pd.DataFrame, results: str, header: list[str]) -> str:
    lines = [
        header,
        ["---"] * len(header),
        *([shown(row, results)[name] for name in header] for row in rows.to_dict("records")),
    ]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def shown(row: dict[str, Any], results: str) -> dict[str, str]:
    """A finding as it is read: an estimate without an interval is one of a single seed, or a crossing that is not bounded."""
    bounds = "" if pd.isna(row["low"]) else f" [{signed(row['low'])}, {signed(row['high'])}]"
    task = "" if row["task"] in ("all", "") else f"{row['task']}, "
    return {
        "Question": row["question"],
        "Measured by": f"{protocol_name(row['protocol'])}: {task}{metric_name(row['metric'])}",
        "Estimate [95%]": "—" if pd.isna(row["value"]) else f"{signed(row['value'])}{bounds}",
        "Verdict": row["words"],
        "Study": f"[{row['study']}]({results}/{row['study']}/README.md)",
        "Trained at": row["commit"],
    }
