"""Rows of a task under the names that its kind gives to fields, whatever the file calls them."""

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ettin_core.evaluation.lines import rows_of
from ettin_core.evaluation.tasks.config import KINDS, PARTS, PROMPT
from ettin_core.evaluation.tasks.find import Task
from ettin_core.foundation.errors import invalid
from ettin_core.foundation.storage import hash_text

LONGEST_NAME = 40  # characters of a cluster's value that serves as its name


@dataclass(frozen=True)
class TaskRow:
    """A row: its place (file:line), its part (train, dev, test), an id, the kind's fields, its cluster, and the row as it is."""

    place: str
    part: str
    id: str
    values: dict[str, Any]
    cluster: str | None
    raw: dict[str, Any]


def task_rows(task: Task, unsplit: str | None = None) -> Iterator[TaskRow]:
    """The rows of a task. One file without splits is the part `unsplit` as a whole (None: that is an error).

    Raises ValueError naming file and line for a row that lacks a field or is in no part.
    """
    spec = task.spec
    names = {field: spec.fields.get(field, field) for field in (*KINDS[spec.kind].fields, "id", "split")}
    parts = {spelling: part for part in PARTS for spelling in spec.of(part)}
    for given, path in task.files().items():
        for number, (place, raw) in enumerate(rows_of(path, (names["id"],)), 1):
            values = {field: _value(raw, names[field], place) for field in KINDS[spec.kind].fields}
            part = given or _part(raw.get(names["split"]), parts, unsplit, place)
            identity = raw.get(names["id"], f"{task.name}.{part}.{number}")
            cluster = None if spec.cluster is None else _cluster(str(_value(raw, spec.cluster, place)))
            yield TaskRow(place, part, str(identity), values, cluster, raw)


def _cluster(value: str) -> str:
    """The name of a cluster: a long one, such as a passage, by its hash."""
    return value if len(value) <= LONGEST_NAME else hash_text(value)[:16]


@functools.cache
def labels_of(task: Task) -> tuple[str, ...]:
    """The labels of a task in the order of their numbers: those that it states, or those that its rows have."""
    field = "tags" if task.spec.kind == "tags" else "label"
    if task.spec.labels or field not in KINDS[task.spec.kind].fields:
        return task.spec.labels
    labels = set()
    for row in task_rows(task, unsplit="test"):
        value = row.values[field]
        for label in value if isinstance(value, list) else [value]:
            if type(label) not in (int, str):
                raise invalid("row", row.place, f"has the label {label!r}", "give a name, or a number from 0")
            labels.add(label)
    if len({type(label) for label in labels}) > 1:
        raise invalid(
            "labels", sorted(map(str, labels)), f"of task {task.name} are names and numbers", "use one of them"
        )
    return tuple(map(str, sorted(labels)))


def label_number(labels: tuple[str, ...], label: Any) -> int | None:
    """The number of a label that a row names or numbers (1 is the label "1", where there is one); None for any other."""
    if type(label) not in (int, str):
        return None
    if str(label) in labels:
        return labels.index(str(label))
    if any(name.lstrip("-").isdigit() for name in labels):  # then a number is a name
        return None
    return label if isinstance(label, int) and 0 <= label < len(labels) else None


def choice_of(task: Task, row: TaskRow) -> tuple[str, tuple[str, ...], int]:
    """Of a row of multiple choice: the text before the choices, the choices, and which is right.

    Choices are texts, or objects of label and text as other sets have them; the answer is a number from 0, a label, a letter, or
    the right choice itself. Raises ValueError naming file and line.
    """
    labels, choices = _choices(row)
    answer = row.values["answer"]
    right = None
    if type(answer) is int:
        right = answer if 0 <= answer < len(choices) else None
    elif isinstance(answer, str):
        known = labels or task.spec.labels or tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ"[: len(choices)])
        exact = [place for names in (known, choices) for place, name in enumerate(names) if name == answer]
        right = exact[0] if exact else None
    if right is None or right >= len(choices):
        remedy = "give a number from 0, a letter, a label, or the right choice itself"
        raise invalid(
            "row", row.place, f"has the answer {answer!r}, which is none of its {len(choices)} choices", remedy
        )
    return _prompt(task, row), choices, right


def pair_of(row: TaskRow) -> tuple[str, str]:
    """The good and the bad text of a row of minimal pairs, with even white space. Raises ValueError naming file and line."""
    for name in ("good", "bad"):
        if not isinstance(row.values[name], str) or not row.values[name].strip():
            raise invalid("row", row.place, f"has no text in {name}", "give both texts")
    good, bad = (" ".join(row.values[name].split()) for name in ("good", "bad"))
    if good == bad:
        raise invalid("row", row.place, "has the same text twice", "give two texts that differ")
    return good, bad


def _choices(row: TaskRow) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Labels (none, where the choices have none) and texts."""
    given = row.values["choices"]
    labels: list[Any] = []
    if isinstance(given, dict) and isinstance(given.get("text"), list):
        labels, given = given.get("label") or [], given["text"]
    elif isinstance(given, list) and given and all(isinstance(item, dict) and "text" in item for item in given):
        labels, given = [item["label"] for item in given if "label" in item], [item["text"] for item in given]
    whole = isinstance(given, list) and len(given) > 1 and len(labels) in (0, len(given))
    if not whole or not all(isinstance(text, str) and text.strip() for text in given):
        raise invalid(
            "row", row.place, "has no list of at least two choices that are texts", "give choices: [..., ...]"
        )
    return tuple(map(str, labels)), tuple(given)


def _prompt(task: Task, row: TaskRow) -> str:
    try:
        return (PROMPT if task.spec.prompt is None else task.spec.prompt).format_map({**row.raw, **row.values})
    except (KeyError, IndexError, AttributeError, ValueError, TypeError) as error:
        raise invalid("row", row.place, f"does not fill in the prompt ({error})", "name fields of the row") from error


def _value(raw: dict[str, Any], name: Any, place: str) -> Any:
    """A field by its name in the file; `a.b` is a field within a field, a list of names the list of their values."""
    if isinstance(name, list):
        return [_value(raw, part, place) for part in name]
    value: Any = raw
    for step in [name] if name in raw else str(name).split("."):
        if not isinstance(value, dict) or step not in value:
            remedy = f"the row has {', '.join(raw)}; say in the task file (fields) what is what"
            raise invalid("row", place, f"lacks {name}", remedy)
        value = value[step]
    return value


def _part(named: Any, parts: dict[str, str], unsplit: str | None, place: str) -> str:
    if named is None and unsplit is not None:
        return unsplit
    if named is None:
        raise invalid("row", place, "lacks split", f"give it (one of {', '.join(parts)}), or a file for each split")
    if str(named) not in parts:
        raise invalid("row", place, f"has split={named!r}", f"use one of {', '.join(parts)}, or say so in splits")
    return parts[str(named)]
