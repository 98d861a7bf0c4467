"""Scores of one model from several tools: our records, lm-eval's `--log_samples`, an MTEB result folder.

The files of a folder show what it holds. Scores have items where the tool kept them; an item has the cluster that our record
or the row of the data set names.
"""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pandas as pd

from analysis.items import Items, item_frames, item_values, items_of
from ettin_core.foundation.storage import read_json_lines
from ettin_core.records.folders import RunFolder
from ettin_core.records.item_tables import read_item_tables
from ettin_core.records.schema import CHOICE, Measurement, from_row

SAMPLES, RESULTS = "samples_*.jsonl", "results_*.json"
CLUSTERS = {  # the field of a row whose equal values mark rows that are not independent, by the beginning of a task's name
    "boolq": "passage",
    "drop": "passage",
    "race": "article",
    "squad": "context",
    "mnli": "premise",
    "snli": "premise",
    "qnli": "sentence",
    "rte": "sentence1",
}
Key = tuple[str, str]  # a question and a metric


@dataclass(frozen=True)
class Scored:
    """A score of one model: its value over `n` items with its standard error (not a number: unknown).

    `items` has `value`, `cluster` and, where the tool keeps one, the `hash` of what was asked, by item (None: no items are
    kept). `ties` is the share of items whose best answers score alike (not a number: unknown).
    """

    value: float
    error: float
    n: int
    higher_is_better: bool = True
    items: pd.DataFrame | None = None
    ties: float = math.nan


def read(path: Path, cluster: str | None = None) -> dict[Key, Scored]:
    """The scores by question and metric.

    `cluster` is a field of lm-eval's documents ("passage", "meta.source") in place of the known ones. Raises ValueError, naming
    the path, for what holds no scores or those of several models.
    """
    if not path.exists():
        raise ValueError(f"{str(path)!r} does not exist; give a run, or a folder of records, of lm-eval or of MTEB.")
    if path.is_file() or any(path.rglob(SAMPLES)) or any(path.rglob(RESULTS)):
        return _lm_eval(path, cluster)
    if any(path.rglob("measurements*.jsonl")):
        return _records(path)
    scores = _mteb(path)
    if not scores:
        raise ValueError(f"{str(path)!r} holds no scores: no records, no {SAMPLES}, no {RESULTS}, no result of MTEB.")
    return scores


def _records(path: Path) -> dict[Key, Scored]:
    """Our own records: of a run's last checkpoint those that ask most, or every file of measurements below the folder."""
    folder = RunFolder(path)
    files = [place / "measurements.jsonl" for _, place in sorted(folder.evaluations().items())]
    files = files or sorted(file for file in path.rglob("measurements*.jsonl"))
    measured = [row for file in files for row in _rows(file, Measurement)]
    places = dict.fromkeys(file.parent for file in files)
    items = Items(item_frames([table for place in places for table in read_item_tables(place)]))
    runs = sorted({row.run for row in measured})
    if len(runs) > 1:
        raise ValueError(f"{str(path)!r} holds records of several runs ({', '.join(runs)}); give the folder of one.")
    scores: dict[Key, Scored] = {}
    for row in measured:
        key = (f"{row.protocol}: {row.task}", row.metric)
        if row.value is None or row.protocol.startswith(CHOICE):
            continue
        if key in scores:
            raise ValueError(f"{str(path)!r} measures {key[0]} twice; give {folder.path / '<one protocol>@<version>'}.")
        values = item_values(items, vars(row) | {"scored_as": row.protocol})
        kept = items_of(items, row.run, row.protocol, row.task)
        tied = [] if kept is None else [details["tied"] for details in kept["details"] if "tied" in details]
        ties = sum(tied) / len(tied) if tied else math.nan
        error = math.nan if row.standard_error is None else row.standard_error
        scores[key] = Scored(row.value, error, row.n, row.higher_is_better, values, ties)
    return scores


def _rows(file: Path, kind: type) -> list[Any]:
    return [row for row in map(from_row, read_json_lines(file)) if isinstance(row, kind)]


def _lm_eval(path: Path, cluster: str | None) -> dict[Key, Scored]:
    """lm-eval's samples (the newest of each task), and its results where there are no samples of a task."""
    files = [path] if path.is_file() else sorted(path.rglob(SAMPLES))
    folders = sorted({str(file.parent) for file in files})
    if len(folders) > 1:
        raise ValueError(
            f"{str(path)!r} holds samples of several models ({', '.join(folders)}); give the folder of one."
        )
    newest = {_task_of(file): file for file in files if file.suffix == ".jsonl"}
    scores: dict[Key, Scored] = {}
    better: dict[str, dict[str, bool]] = {}
    results = [] if path.is_file() else sorted(path.rglob(RESULTS))
    for file in results:
        content = _json(file)
        better |= content.get("higher_is_better", {})
        scores |= _totals(content)
    for task, file in newest.items():
        for metric, scored in samples(task, file, cluster, better.get(task, {})):
            scores[task, metric] = scored
    return scores


def _task_of(file: Path) -> str:
    """The task in samples_<task>_<date>.jsonl."""
    return file.stem.removeprefix("samples_").rpartition("_")[0] or file.stem


def _totals(content: dict[str, Any]) -> dict[Key, Scored]:
    """The scores of a results file, which keeps no items."""
    scores = {}
    for task, values in content.get("results", {}).items():
        n = int(content.get("n-samples", {}).get(task, {}).get("effective", 0))
        for name, value in values.items():
            metric, _, chosen = name.partition(",")
            if not chosen or metric.endswith("_stderr") or not isinstance(value, int | float):
                continue
            error = values.get(f"{metric}_stderr,{chosen}")
            known = float(error) if isinstance(error, int | float) else math.nan
            better = content.get("higher_is_better", {}).get(task, {}).get(metric)
            key = metric if chosen == "none" else name
            scores[task, key] = Scored(float(value), known, n, better is not False)
    return scores


def samples(
    task: str, file: Path, cluster: str | None = None, better: Mapping[str, bool] = MappingProxyType({})
) -> Iterator[tuple[str, Scored]]:
    """The metrics of a task whose items are numbers, filter by filter."""
    tables: dict[str, list[dict[str, Any]]] = {}
    for number, row in enumerate(_lines(file), start=1):
        if not isinstance(row, dict) or "doc_id" not in row:
            raise ValueError(f"{file}:{number} is not a sample of lm-eval: it has no doc_id; give a samples_*.jsonl.")
        chosen = row.get("filter", "none")
        for metric in row.get("metrics", [name for name in ("acc", "exact_match") if name in row]):
            value = row.get(metric)
            if isinstance(value, bool | int | float):
                name = metric if chosen == "none" else f"{metric},{chosen}"
                tables.setdefault(name, []).append(_item(task, row, float(value), cluster, f"{file}:{number}"))
    for metric, rows in tables.items():
        frame = pd.DataFrame(rows).set_index("item")
        if frame.index.has_duplicates:
            raise ValueError(
                f"{file} holds a document twice ({frame.index[frame.index.duplicated()][0]}); run it again."
            )
        n = len(frame)
        error = float(frame["value"].std(ddof=1) / n**0.5) if n > 1 else math.nan
        ties = float(frame["tied"].mean())
        yield metric, Scored(float(frame["value"].mean()), error, n, better.get(metric) is not False, frame, ties)


def _item(task: str, row: dict[str, Any], value: float, cluster: str | None, place: str) -> dict[str, Any]:
    doc = row.get("doc")
    field = cluster or next((name for start, name in CLUSTERS.items() if task.split("_")[-1].startswith(start)), None)
    group: Any = doc
    for name in field.split(".") if field else []:
        group = group.get(name) if isinstance(group, dict) else None
    if cluster is not None and group is None:
        raise ValueError(f"cluster={cluster!r} is not a field of {place}; name one of its doc, or leave it null.")
    independent = field is None or group is None
    item = str(row["doc_id"])
    return {
        "item": item,
        "value": value,
        "cluster": item if independent else f"in {group}",
        "hash": row.get("doc_hash"),
        "tied": _tied(row.get("filtered_resps")),
    }


def _tied(answers: Any) -> float:
    """Whether the best of several log-likelihoods are equal; not a number for any other kind of answer."""
    try:
        scores = [float(answer[0]) for answer in answers if isinstance(answer, list | tuple)]
    except (TypeError, ValueError, IndexError):
        return math.nan
    return float(scores.count(max(scores)) > 1) if len(scores) > 1 else math.nan


def _mteb(path: Path) -> dict[Key, Scored]:
    """The main score of each task, the mean over its subsets and splits."""
    scores: dict[Key, Scored] = {}
    for file in sorted(path.rglob("*.json")):
        content = _json(file)
        if not isinstance(content, dict) or not {"task_name", "scores"} <= set(content):
            continue
        key = (str(content["task_name"]), "main_score")
        if key in scores:
            raise ValueError(
                f"{str(path)!r} holds {key[0]} twice (several models or revisions); give the folder of one."
            )
        values = [
            float(row["main_score"])
            for rows in content["scores"].values()
            for row in rows
            if row.get("main_score") is not None
        ]
        if values:
            scores[key] = Scored(sum(values) / len(values), math.nan, len(values))
    return scores


def _json(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{file} is damaged ({error}); run its tool again.") from error


def _lines(file: Path) -> Iterator[Any]:
    with file.open(encoding="utf-8") as stream:
        for number, line in enumerate(stream, start=1):
            if line.strip():
                try:
                    yield json.loads(line)
                except json.JSONDecodeError as error:
                    raise ValueError(f"{file}:{number} is damaged ({error}); run its tool again.") from error
