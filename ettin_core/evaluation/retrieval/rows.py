"""Rows of the sets that are one file: pairs, labelled texts, and queries with their candidates."""

from collections.abc import Callable
from typing import Any

from ettin_core.evaluation.lines import NUMBER, Kind, checked_rows
from ettin_core.evaluation.retrieval.sets import SPLITS, LocalSet
from ettin_core.evaluation.tasks.find import Task
from ettin_core.evaluation.tasks.rows import TaskRow, label_number, labels_of, task_rows
from ettin_core.foundation.errors import invalid, unknown

FIELDS: dict[str, dict[str, Kind]] = {
    "STS": {"split": str, "text1": str, "text2": str, "score": NUMBER},
    "Classification": {"split": str, "text": str, "label": int},
}
GROUPED = ("PairClassification", "Clustering")  # kinds whose score needs two labels in a split


def read_rows(local: LocalSet, split: str) -> list[dict[str, Any]]:
    """A split's rows of any set but a retrieval one; labels are numbers from 0. Raises ValueError when there are none."""
    if local.task is not None:
        rows = _described_rows(local.task, split)
    else:
        rows = [row for _, row in checked_rows(local.root, FIELDS[local.kind]) if row["split"] in SPLITS[split]]
    if not rows:
        raise local.lacks(split)
    if local.kind in GROUPED and len({row["label"] for row in rows}) < 2:
        problem = f"has rows of one label alone in its {split} split"
        raise invalid("task", local.name, problem, "give rows of at least two labels")
    return rows


def _described_rows(task: Task, split: str) -> list[dict[str, Any]]:
    """A split's rows of a task file. Raises ValueError naming file and line."""
    read = READERS[task.spec.kind](task)
    rows = [(row.part, read(row)) for row in task_rows(task, unsplit="test")]
    return [values for part, values in rows if part == split]


def _scored(task: Task) -> Callable[[TaskRow], dict[str, Any]]:
    def read(row: TaskRow) -> dict[str, Any]:
        score = row.values["score"]
        if not isinstance(score, (int, float)) or isinstance(score, bool):
            raise invalid("row", row.place, f"has the score {score!r}", "give a number")
        return {name: _text(row, name) for name in ("text1", "text2")} | {"score": score}

    return read


def _labelled(task: Task) -> Callable[[TaskRow], dict[str, Any]]:
    labels = labels_of(task)
    if task.spec.kind == "pair_classification" and (len(labels) != 2 or not (task.spec.labels or labels == ("0", "1"))):
        remedy = f"use 0 and 1 (the same meaning), or name two in tasks/{task.name}.yaml, that of the same meaning last"
        raise invalid("labels", list(labels), f"of task {task.name} do not say which pairs mean the same", remedy)

    def read(row: TaskRow) -> dict[str, Any]:
        number = label_number(labels, row.values["label"])
        if number is None:
            raise unknown("row", row.place, f"has the label {row.values['label']!r}", labels)
        return {name: _text(row, name) for name in row.values if name != "label"} | {"label": number}

    return read


def _ranked(task: Task) -> Callable[[TaskRow], dict[str, Any]]:
    def read(row: TaskRow) -> dict[str, Any]:
        values = {"query": _text(row, "query")} | {name: _texts(row, name) for name in ("positive", "negative")}
        if both := set(values["positive"]) & set(values["negative"]):
            problem = f"has {sorted(both)[0][:40]!r} among its positive and its negative texts"
            raise invalid("row", row.place, problem, "keep it in one of them")
        return values

    return read


def _text(row: TaskRow, name: str) -> str:
    value = row.values[name]
    if not isinstance(value, str) or not value:
        raise invalid("row", row.place, "has no text where one belongs", "give every text as a string")
    return value


def _texts(row: TaskRow, name: str) -> list[str]:
    """The texts of a list, each once."""
    value = row.values[name]
    if not isinstance(value, list) or not value or not all(isinstance(text, str) and text for text in value):
        raise invalid("row", row.place, f"has no list of texts in the field {name!r}", "give at least one text in it")
    return list(dict.fromkeys(value))


READERS = {
    "sts": _scored,
    "classification": _labelled,
    "pair_classification": _labelled,
    "clustering": _labelled,
    "reranking": _ranked,
}
