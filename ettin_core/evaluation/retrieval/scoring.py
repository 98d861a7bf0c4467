"""A task's score, which is MTEB's own, and the items behind it, from which its standard error comes.

Items are the nDCG of each query, the share of probes that label a text rightly, and for a rank or Matthews correlation the
centred jackknife pseudo-values (Efron 1982): in every case values whose mean is the score. Queries that the same documents
answer (the questions about one passage) are one cluster.
"""

import json
import math
import tempfile
from collections import Counter
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from ettin_core.evaluation.protocol import MeasuredModel, Result, standard_error
from ettin_core.evaluation.retrieval.embedder import quiet
from ettin_core.foundation.folders import folder_under_construction
from ettin_core.foundation.provenance import library_versions
from ettin_core.foundation.storage import canonical_json, hash_text, read_mapping, write_json
from ettin_core.records.folders import append
from ettin_core.records.schema import Item, Measurement

VERSION = 1
ROUNDING = 1e-5  # MTEB rounds the scores of retrieval to five digits


def settings_of(task: Any, batch: int) -> dict[str, Any]:
    """What decides a score beside the model; equal settings are not measured twice."""
    score = task.metadata.main_score
    return {
        "task": task.metadata.name,
        "splits": list(task.eval_splits),
        "revision": task.metadata.dataset["revision"],
        "mteb": metadata.version("mteb"),
        "batch": batch,
        **({"metric": score} if score == "mcc" else {}),  # not MTEB's own
    }


def scored(target: Path, settings: dict[str, Any]) -> bool:
    """Whether a folder holds the score of these settings."""
    file = target / "settings.json"
    return file.is_file() and read_mapping(file) == settings


def score(
    model: Any, task: Any, batch: int, target: Path, subject: MeasuredModel, protocol: str, origin: dict[str, Any]
) -> None:
    """Write `target`, whole or not at all: MTEB's result and model meta, our measurement with its items, the settings.

    The measurement is of `subject` under `protocol`, with `origin` in its provenance.
    """
    import mteb

    loaded = task.data_loaded
    task.load_data()
    with quiet(), tempfile.TemporaryDirectory() as scratch, folder_under_construction(target) as building:
        [result] = mteb.evaluate(
            model,
            task,
            cache=None,
            encode_kwargs={"batch_size": batch, "show_progress_bar": False},
            prediction_folder=scratch,
            show_progress_bar=False,
        ).task_results
        predictions = _predictions(Path(scratch))
        value, metric = float(result.get_score()), str(task.metadata.main_score)
        values = item_values(task, predictions, metric) if math.isfinite(value) else {}
        if values and abs(float(np.mean(list(values.values()))) - value) > ROUNDING:
            raise RuntimeError(f"{task.metadata.name}: the items' mean {np.mean(list(values.values()))} is not {value}")
        result.to_disk(building / "mteb.json")
        write_json(building / "model_meta.json", _meta(model))
        settings = settings_of(task, batch)
        clusters = item_clusters(task) if values else {}
        error = standard_error(list(values.values()), [clusters.get(name, name) for name in values])
        found = value if math.isfinite(value) else None
        outcome = Result(task.metadata.name, metric, found, len(values) or _size(task), error)
        origin = origin | {
            "task_type": str(task.metadata.type),
            "embedder_weights": model.model_card_data.base_model_revision,
            "libraries": versions(),
            "settings": settings,
        }
        measurement = subject.measurement(protocol, VERSION, outcome, origin)
        append(building / "measurements.jsonl", [measurement])
        items = [_item(measurement, name, number, clusters.get(name)) for name, number in values.items()]
        append(building / "items.jsonl", items)
        write_json(building / "settings.json", settings)
    if not loaded:
        task.unload_data()


def versions() -> dict[str, str]:
    """Versions of the libraries that can move a score."""
    return library_versions("sentence-transformers", "datasets", "scikit-learn", "scipy", "pytrec-eval-terrier")


def item_values(task: Any, predictions: dict[str, Any], metric: str) -> dict[str, float]:
    """The items behind a task's main score, by name; none where the score is no mean of items, or spans several subsets."""
    from mteb.abstasks import AbsTaskClassification, AbsTaskRetrieval, AbsTaskSTS

    places = [(subset, split) for subset, splits in predictions.items() for split in splits]
    if len(places) != 1:
        return {}
    [(subset, split)] = places
    predicted = predictions[subset][split]
    data = task.dataset.get(subset, task.dataset)[split]
    if isinstance(task, AbsTaskRetrieval) and metric.startswith("ndcg_at_") and not task.skip_first_result:
        return query_ndcg(
            data["relevant_docs"], predicted, int(metric.removeprefix("ndcg_at_")), task.ignore_identical_ids
        )
    if isinstance(task, AbsTaskSTS) and metric == "cosine_spearman":
        values = spearman_values(np.array(data["score"], float), np.array(predicted["cosine_scores"]))
        return {str(number): float(value) for number, value in enumerate(values)}
    if isinstance(task, AbsTaskClassification) and metric == "accuracy" and not task.is_cross_validation:
        right = np.array(predicted) == np.array(data[task.label_column_name])
        return {str(number): float(value) for number, value in enumerate(right.mean(0))}
    if isinstance(task, AbsTaskClassification) and metric == "mcc":
        gold = np.array(data[task.label_column_name])
        probes = np.mean([matthews_values(gold, np.array(probe)) for probe in predicted], axis=0)
        return {str(number): float(value) for number, value in enumerate(probes)}
    return {}


def item_clusters(task: Any) -> dict[str, str]:
    """The cluster of each query of a retrieval task's only split that has one; none of other tasks."""
    from mteb.abstasks import AbsTaskRetrieval

    if not isinstance(task, AbsTaskRetrieval):
        return {}
    [split] = task.eval_splits
    data = task.dataset.get("default", task.dataset)[split]
    return query_clusters(data["relevant_docs"])


def query_clusters(relevant: dict[str, dict[str, int]]) -> dict[str, str]:
    """The cluster of each query that shares all the documents that answer it with another query: a hash of their names."""
    answers = {
        query: hash_text(canonical_json(sorted(name for name, score in judged.items() if score > 0)))[:16]
        for query, judged in relevant.items()
    }
    count = Counter(answers.values())
    return {query: name for query, name in answers.items() if count[name] > 1}


def query_ndcg(
    relevant: dict[str, dict[str, int]], found: dict[str, dict[str, float]], cut: int, ignore_identical: bool = False
) -> dict[str, float]:
    """nDCG of each query at a cut (Järvelin and Kekäläinen 2002), by trec_eval."""
    import pytrec_eval

    if ignore_identical:
        found = {query: {name: value for name, value in hits.items() if name != query} for query, hits in found.items()}
    judged = pytrec_eval.RelevanceEvaluator(relevant, {f"ndcg_cut.{cut}"}).evaluate(found)
    return {query: float(values[f"ndcg_cut_{cut}"]) for query, values in judged.items()}


def spearman_values(gold: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Values whose mean is Spearman's correlation and whose standard error is the jackknife's, one of each pair."""
    from scipy.stats import rankdata

    ranks = [rankdata(values) for values in (gold, predicted)]
    whole, count = _correlation(*ranks), len(gold)
    without = np.empty(count)
    for left_out in range(count):  # the others' ranks once a pair is gone, without sorting again
        rest = [np.delete(rank - (rank > rank[left_out]) - 0.5 * (rank == rank[left_out]), left_out) for rank in ranks]
        without[left_out] = _correlation(*rest)
    pseudo = -(count - 1) * without
    return whole + pseudo - pseudo.mean()


def matthews_values(gold: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Values whose mean is Matthews' correlation and whose standard error is the jackknife's, one of each text."""
    from sklearn.metrics import matthews_corrcoef

    pairs, cell, counts = np.unique(np.stack([gold, predicted]), axis=1, return_inverse=True, return_counts=True)
    left = np.empty(len(counts))  # texts of a cell are alike, so that one is left out for all
    for place in range(len(counts)):
        rest = counts - (np.arange(len(counts)) == place)
        left[place] = matthews_corrcoef(pairs[0], pairs[1], sample_weight=rest)
    pseudo = -(len(gold) - 1) * left[np.ravel(cell)]
    return matthews_corrcoef(gold, predicted) + pseudo - pseudo.mean()


def _correlation(left: np.ndarray, right: np.ndarray) -> float:
    return float(np.corrcoef(left, right)[0, 1])


def _predictions(folder: Path) -> dict[str, Any]:
    """What MTEB kept of a task: subset, split, and then whatever the kind of task predicts."""
    files = list(folder.glob("*_predictions.json"))
    found = json.loads(files[0].read_bytes()) if len(files) == 1 else {}
    return {subset: splits for subset, splits in found.items() if subset != "mteb_model_meta"}


def _size(task: Any) -> int:
    """Samples that MTEB counts in a task whose score has no items; 0 where it does not say."""
    known = task.metadata.descriptive_stats or {}
    return sum(int(known.get(split, {}).get("num_samples", 0)) for split in task.eval_splits)


def _meta(model: Any) -> dict[str, Any]:
    from mteb.models import ModelMeta

    described = ModelMeta.from_sentence_transformer_model(model, fill_missing=None)
    return json.loads(json.dumps(described.to_dict(), default=str))


def _item(measurement: Measurement, name: str, value: float, cluster: str | None) -> Item:
    details = {} if cluster is None else {"cluster": cluster}
    return Item(measurement.run, measurement.protocol, measurement.task, name, value, details)
