"""The harness's own result file as our measurements, beside it."""

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

from ettin_core.evaluation.harness import NAME
from ettin_core.evaluation.harness.data import set_file
from ettin_core.evaluation.harness.texts import COUNTED
from ettin_core.evaluation.protocol import MeasuredModel, Result
from ettin_core.foundation.errors import invalid
from ettin_core.foundation.provenance import library_versions
from ettin_core.foundation.storage import hash_file, read_json, write_text
from ettin_core.records.folders import append
from ettin_core.records.schema import Measurement


def record(file: Path) -> Path:
    """Write the measurements of results_<date>.json to measurements_<date>.jsonl beside it. Returns that file."""
    out = file.with_name(file.name.replace("results", "measurements", 1)).with_suffix(".jsonl")
    write_text(out, "")
    append(out, measurements(read_json(file)))
    return out


def measurements(results: dict[str, Any]) -> list[Measurement]:
    """One measurement for each task and metric of the harness's results.

    The protocol is `lm_eval.<protocol>`. Raises ValueError for results of another model than `ettin`.
    """
    config = results["config"]
    if NAME not in config:
        raise invalid("model", config.get("model"), "does not record its checkpoint", "measure it as --model ettin")
    facts = config[NAME]
    subject = MeasuredModel(**{field.name: facts[field.name] for field in fields(MeasuredModel)})
    protocol = f"lm_eval.{facts['protocol']}"
    rows = []
    for task, values in results["results"].items():
        settings = results["configs"].get(task, {})
        origin = {
            "weights": facts["weights"],
            "readout": facts["readout"],
            "data": _data_hash(settings),
            "libraries": library_versions(),
            "task_version": results["versions"].get(task),
            "num_fewshot": results["n-shot"].get(task),
            "limit": config.get("limit"),
            "batch_size": config.get("batch_size"),
            **{kind: _total(results, task, facts.get(kind, {}).get) for kind in COUNTED},
        }
        for key, value in values.items():
            metric, _, filtered = key.partition(",")
            if not filtered or metric.endswith("_stderr"):
                continue
            error = values.get(f"{metric}_stderr,{filtered}")
            better = results["higher_is_better"].get(task, {}).get(metric)
            result = Result(
                task,
                metric if filtered == "none" else f"{metric},{filtered}",
                float(value),
                _items(results, task),
                float(error) if isinstance(error, float | int) else None,
                True if better is None else bool(better),
            )
            rows.append(subject.measurement(protocol, facts["protocol_version"], result, origin))
    return rows


def _items(results: dict[str, Any], task: str) -> int:
    """Items of a task, or of all tasks of a group."""
    return _total(results, task, lambda name, _: results["n-samples"][name]["effective"])


def _total(results: dict[str, Any], task: str, count: Callable[[str, int], int]) -> int:
    """`count` of a task (and what it is where there is none), or its sum over all tasks of a group."""
    if task in results["n-samples"]:
        return int(count(task, 0))
    return sum(_total(results, child, count) for child in results.get("group_subtasks", {}).get(task, []))


def _data_hash(settings: dict[str, Any]) -> str | None:
    """sha256 of an offline task's set; of others the harness's name of the data set."""
    file = (settings.get("dataset_kwargs") or {}).get("file")
    folder = (settings.get("metadata") or {}).get("eval_data")
    return hash_file(set_file(folder, file)) if file and folder else settings.get("dataset_path")
