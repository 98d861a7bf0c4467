"""A task's score, which is MTEB's own, with its items, and what is measured beside it: index, speed, BM25."""

import json
import math
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from ettin_core.evaluation.protocol import MeasuredModel, Result, standard_error
from ettin_core.evaluation.retrieval.backbone import quiet
from ettin_core.evaluation.retrieval.beside import is_search, measured_index, search_cost, search_results
from ettin_core.evaluation.retrieval.evaluator import evaluate, read_predictions
from ettin_core.evaluation.retrieval.items import item_clusters, item_values
from ettin_core.evaluation.retrieval.kinds.base import RetrievalKind
from ettin_core.foundation.folders import folder_under_construction
from ettin_core.foundation.provenance import library_versions
from ettin_core.foundation.storage import read_mapping, write_json
from ettin_core.records.folders import append
from ettin_core.records.schema import Item, Measurement

VERSION = 1
ROUNDING = 1e-5  # MTEB rounds the scores of retrieval to five digits


def settings_of(task: Any, batch: int, kind: RetrievalKind) -> dict[str, Any]:
    """What decides a score beside the model; equal settings are not measured twice."""
    metric = task.metadata.main_score
    return {
        "task": task.metadata.name,
        "splits": list(task.eval_splits),
        "revision": task.metadata.dataset["revision"],
        "mteb": metadata.version("mteb"),
        "batch": batch,
        **({"metric": metric} if metric == "mcc" else {}),  # not MTEB's own
        **kind.task_settings(task),
    }


def scored(target: Path, settings: dict[str, Any]) -> bool:
    """Whether a folder holds the score of these settings."""
    file = target / "settings.json"
    return file.is_file() and read_mapping(file) == settings


def score(
    model: Any,
    task: Any,
    kind: RetrievalKind,
    batch: int,
    target: Path,
    subject: MeasuredModel,
    protocol: str,
    origin: dict[str, Any],
) -> None:
    """Write `target`, whole or not at all: MTEB's result and model meta, our measurements with their items, the settings.

    The measurements are of `subject` under `protocol`, with `origin` in their provenance; the first is the task's score.
    """
    loaded = task.data_loaded
    task.load_data()
    with quiet(), tempfile.TemporaryDirectory() as scratch, folder_under_construction(target) as building:
        stage = kind.prepare(task, batch, str(model.device))
        with measured_index(model) as index:
            result = evaluate(model, task, batch, Path(scratch))
        values = _checked_values(task, result, Path(scratch))
        clusters = item_clusters(task) if values else {}
        settings = settings_of(task, batch, kind)
        origin = origin | {
            "task_type": str(task.metadata.type),
            "embedder_weights": model.model_card_data.base_model_revision,
            "libraries": versions(),
            "settings": settings,
        }
        results = [_main_result(task, result, values, clusters), *kind.further(model, task, batch)]
        if is_search(task):
            results += search_results(task, search_cost(result, index), index, stage)
        measurements = [subject.measurement(protocol, VERSION, each, origin) for each in results]
        items = [_item(measurements[0], name, value, clusters.get(name)) for name, value in values.items()]
        append(building / "measurements.jsonl", measurements)
        append(building / "items.jsonl", items)
        result.to_disk(building / "mteb.json")
        write_json(building / "model_meta.json", _model_meta(model, kind))
        write_json(building / "settings.json", settings)
    if not loaded:
        task.unload_data()


def versions() -> dict[str, str]:
    """Versions of the libraries that can move a score."""
    return library_versions("sentence-transformers", "datasets", "scikit-learn", "scipy", "pytrec-eval-terrier")


def _checked_values(task: Any, result: Any, predictions: Path) -> dict[str, float]:
    """The items behind a score by name, whose mean is the score; none where it has no such items."""
    value = float(result.get_score())
    if not math.isfinite(value):
        return {}
    values = item_values(task, read_predictions(predictions), str(task.metadata.main_score))
    mean = float(np.mean(list(values.values()))) if values else value
    if abs(mean - value) > ROUNDING:
        raise RuntimeError(f"{task.metadata.name}: the items' mean {mean} is not {value}")
    return values


def _main_result(task: Any, result: Any, values: dict[str, float], clusters: dict[str, str]) -> Result:
    value = float(result.get_score())
    return Result(
        task.metadata.name,
        str(task.metadata.main_score),
        value if math.isfinite(value) else None,
        len(values) or _size(task),
        standard_error(list(values.values()), [clusters.get(name, name) for name in values]),
    )


def _size(task: Any) -> int:
    """The rows of a local task whose score has no items; of others the samples that MTEB counts, 0 where it does not say."""
    from ettin_core.evaluation.retrieval.tasks import is_local

    if is_local(task):
        return len(task.dataset[task.split])
    known = task.metadata.descriptive_stats or {}
    return sum(int(known.get(split, {}).get("num_samples", 0)) for split in task.eval_splits)


def _model_meta(model: Any, kind: RetrievalKind) -> dict[str, Any]:
    from mteb.models import ModelMeta

    described = getattr(ModelMeta, kind.classes().meta)(model)
    return json.loads(json.dumps(described.to_dict(), default=str))


def _item(measurement: Measurement, name: str, value: float, cluster: str | None) -> Item:
    details = {} if cluster is None else {"cluster": cluster}
    return Item(measurement.run, measurement.protocol, measurement.task, name, value, details)
