"""The published tables and figures, filled from a study's records: what each consists of is in published.yaml."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from analysis.estimates import MISSING_RUN, NOT_MEASURED
from analysis.groups import ALIASES, plain_task
from analysis.sources import Cell
from analysis.study_records import StudyRecords, rows_of
from analysis.tables import HOLE, Footnotes, Table, estimated, grouped
from analysis.ways import OWN, split

FILE = Path(__file__).with_name("published.yaml")
POOLED = {
    "encoder": "mean",
    "enc-from-dec": "mean",
    "decoder": "lasttoken",
    "dec-from-enc": "lasttoken",
}  # as published
STAND_INS = {"enc-from-dec": ("enc-from-dec", "enc-from-dec-mntp")}  # members that are such a model
Scores = dict[tuple[str, str], list[dict[Any, Any]]]  # the rows of a member by task and metric
NOT_IN_STUDY = "not part of this study"
NAMED = 3  # measures that a reason names
QUESTIONS = ("finetune", "lm_eval", "mteb", "winogender")  # how the protocols of all measures begin


@dataclass(frozen=True)
class Measure:
    """A column of a published table: a score, a mean of others (`parts`, and theirs), or a number of the run."""

    name: str
    question: str = ""
    task: str = ""
    metric: str = ""
    start: str = ""
    by: str = ""
    run: str = ""
    parts: tuple["Measure", ...] = ()


@dataclass(frozen=True)
class Published:
    """A published table or figure: the kinds of model and the measures it shows, or why no record fills it."""

    name: str
    shows: str
    kinds: tuple[str, ...] = ()
    measures: tuple[Measure, ...] = ()
    drawn: str = ""
    cannot: str = ""

    @property
    def slug(self) -> str:
        """The name of its file in a report."""
        return f"published-{self.name.lower().replace(' ', '-')}"


def published() -> list[Published]:
    """Every table and figure of the paper."""
    facts = yaml.safe_load(FILE.read_text())
    groups = {name: tuple(Measure(**item) for item in items) for name, items in facts["groups"].items()}
    return [
        Published(
            **{name: value for name, value in item.items() if name not in ("kinds", "measures")},
            kinds=tuple(item.get("kinds", ())),
            measures=tuple(measure for entry in item.get("measures", ()) for measure in _measures(entry, groups)),
        )
        for item in facts["exhibits"]
    ]


def _measures(item: Mapping[str, Any], groups: Mapping[str, tuple[Measure, ...]]) -> Iterator[Measure]:
    if "each" in item:
        yield from groups[item["each"]]
    elif "mean" in item:
        means = tuple(Measure(name, parts=groups[name]) for name in item["mean"])
        yield Measure(item["name"], parts=means if len(means) > 1 else means[0].parts)
    elif "pooled" in item:
        yield Measure(item["name"], parts=tuple(part for name in item["pooled"] for part in groups[name]))
    else:
        yield Measure(**item)


def coverage(study: StudyRecords, cells: pd.DataFrame) -> pd.DataFrame:
    """A row per published table or figure, block, kind and measure: the value, or the reason (`hole`) why there is none.

    `member` is the study's member that is such a model and `way` how it was asked, of several the published one.
    """
    scores: dict[tuple[str, str], Scores] = {}
    for row in cells.to_dict("records"):
        by_measure = scores.setdefault((row["block"], row["member"]), {})
        by_measure.setdefault((plain_task(row["task"]), ALIASES.get(row["metric"], row["metric"])), []).append(row)
    blocks = sorted(study.blocks, key=study.runs.groupby("block")["parameters"].min().get)
    kinds, planned = _kinds(study), study.planned_members
    rows = []
    shown = [(item, block, kind) for item in published() for block in blocks for kind in item.kinds]
    for item, block, kind in shown:
        runs = study.runs[study.runs["block"] == block]
        names = STAND_INS.get(kind, (kind,))
        present = [member for member in dict.fromkeys(runs["member"]) if kinds[member] in names]
        absent = MISSING_RUN if planned & set(names) else NOT_IN_STUDY
        for member in present or [None]:
            measured = scores.get((block, str(member)), {})
            of_member = runs[runs["member"] == member]
            for measure in item.measures:
                cell = {"hole": absent} if member is None else _value(measure, kind, measured, of_member)
                named = {"exhibit": item.name, "block": block, "kind": kind, "member": member}
                rows.append({**named, "measure": measure.name, **cell})
    columns = ["exhibit", "block", "kind", "member", "measure", "value", "low", "high", "way", "hole"]
    return pd.DataFrame(rows, columns=columns).astype({"value": float, "low": float, "high": float})


def _kinds(study: StudyRecords) -> dict[str, str]:
    """The member that each of a study's members is in the published words: a cell's label names its budget, too."""
    trained = {cell["run"]: str(cell["axes"].get("member", "")) for cell in study.cells.values()}
    return {str(row.member): trained.get(str(row.Index)) or str(row.member) for row in rows_of(study.runs)}


def _value(measure: Measure, kind: str, scores: Scores, runs: pd.DataFrame) -> dict[str, Any]:
    """The value of a measure for the rows and runs of one member, or its hole."""
    if measure.run:
        embedding = runs["embedding"].fillna(0)
        numbers = {"parameters": runs["parameters"], "embedding": embedding, "other": runs["parameters"] - embedding}
        return {"value": float(numbers[measure.run].iloc[0]) / 1e6}
    if measure.parts:
        parts = [_value(part, kind, scores, runs) for part in measure.parts]
        values = [part["value"] for part in parts if "value" in part]
        lacking = len(parts) - len(values)
        if lacking:
            return {"hole": f"lacks {lacking} of {len(parts)}"}
        return {"value": sum(values) / len(values)}
    rows = [row for row in scores.get((measure.task, measure.metric), []) if _asks(row["protocol"], measure)]
    valued = [row for row in rows if not pd.isna(row["value"])]
    if not valued:
        why = [row["hole"] for row in rows if isinstance(row["hole"], str)]
        return {"hole": why[0] if why else f"{NOT_MEASURED} (experiments.{measure.by})"}
    best = min(valued, key=lambda row: _preference(str(row["protocol"]), measure, kind))
    return {"way": best["protocol"], **{name: best[name] for name in ("value", "low", "high")}}


def _asks(protocol: str, measure: Measure) -> bool:
    question = split(protocol)[0].partition("@")[0]
    return question == measure.question or question.startswith(f"{measure.question}.")


def _preference(protocol: str, measure: Measure, kind: str) -> tuple[bool, bool, bool]:
    """Of several ways: from the published start, each member's own, the published pooling."""
    question, way = split(protocol)
    return question != ".".join(filter(None, [measure.question, measure.start])), way not in OWN, way != POOLED[kind]


def coverage_table(filled: pd.DataFrame) -> Table:
    """Rows are the published tables and figures: how much of each is filled, where it is drawn, and what it lacks."""
    rows = []
    for item in published():
        rows_of_item = filled[filled["exhibit"] == item.name]
        count = int(rows_of_item["value"].notna().sum())
        if item.cannot:
            rows.append(("", [item.name, item.shows, "cannot be filled", HOLE, item.cannot]))
            continue
        state = "filled" if count == len(rows_of_item) else f"{count} of {len(rows_of_item)}"
        rows.append(("", [item.name, item.shows, state, item.slug if count else HOLE, _lacking(rows_of_item)]))
    note = (
        "Filled: every kind and measure that the paper shows has a value, at every size of this study. Models of other groups "
        "are not part of a study: measure them with experiments.evaluate, compare them to a run with analysis.compare."
    )
    return Table(
        "published",
        "The published tables and figures",
        ["Published", "Shows", "Filled", "Here", "Lacks"],
        grouped(rows),
        [note],
    )


def _lacking(rows_of_item: pd.DataFrame) -> str:
    """Every reason for a hole with some of the measures it is about."""
    parts = []
    for reason, rows in rows_of_item[rows_of_item["value"].isna()].groupby("hole", sort=False):
        names = list(
            dict.fromkeys(
                row.kind if not isinstance(row.member, str) else f"{row.member} {row.measure}"
                for row in rows.itertuples()
            )
        )
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        parts.append(f"{reason}: {', '.join(names[:NAMED])}{more}")
    return "; ".join(parts)


def _shown(cell: pd.Series, footnotes: Footnotes) -> Cell:
    """A value with the records of its protocol behind it."""
    protocol = (cell["way"],) if isinstance(cell["way"], str) else ()
    return Cell(estimated(cell, footnotes), protocol, str(cell["member"]))


def published_table(item: Published, filled: pd.DataFrame) -> Table:
    """One published table, with the study's members in its rows and its measures in columns."""
    rows_of_item = filled[filled["exhibit"] == item.name]
    footnotes = Footnotes()
    rows = []
    rows_of_item = rows_of_item.assign(named=rows_of_item["member"].fillna(rows_of_item["kind"]))
    for (block, named), cells in rows_of_item.groupby(["block", "named"], sort=False):
        by_measure = cells.assign(lacking=None).set_index("measure")
        shown = [_shown(by_measure.loc[measure.name], footnotes) for measure in item.measures]
        rows.append((str(block), [str(named), *shown]))
    notes = [
        *footnotes.notes(),
        "Brackets: 95% interval; a mean of tasks has none. Of several ways the published one is shown.",
    ]
    header = ["Model", *(measure.name for measure in item.measures)]
    return Table(item.slug, f"{item.name}: {item.shows}", header, grouped(rows), notes)
