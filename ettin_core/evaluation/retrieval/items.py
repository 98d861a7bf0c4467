"""The items behind a score of MTEB, from which its standard error comes.

Items are the nDCG of each query, the share of probes that label a text rightly, and for a rank or Matthews correlation the
centred jackknife pseudo-values (Efron 1982): in every case values whose mean is the score. Queries that the same documents
answer (the questions about one passage) are one cluster.
"""

from collections import Counter
from typing import Any

import numpy as np

from ettin_core.foundation.storage import canonical_json, hash_text


def item_values(task: Any, predictions: dict[str, Any], metric: str) -> dict[str, float]:
    """The items behind a task's main score, by name; none where the score is not a mean of items, or spans several subsets."""
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
    return query_clusters(only_split(task)["relevant_docs"])


def only_split(task: Any) -> Any:
    """The data of a retrieval task with one subset and one split."""
    [subset], [split] = task.hf_subsets, task.eval_splits
    return task.dataset.get(subset, task.dataset)[split]


def query_clusters(relevant: dict[str, dict[str, int]]) -> dict[str, str]:
    """The cluster of each query that shares all the documents that answer it with another query: a hash of their names."""
    answers = {
        query: hash_text(canonical_json(sorted(name for name, score in judged.items() if score > 0)))[:16]
        for query, judged in relevant.items()
    }
    count = Counter(answers.values())
    return {query: name for query, name in answers.items() if count[name] > 1}


def query_ndcg(
    relevant: dict[str, dict[str, int]], ranking: dict[str, dict[str, float]], cut: int, ignore_identical: bool = False
) -> dict[str, float]:
    """nDCG of each query at a cut (Järvelin and Kekäläinen 2002), by trec_eval."""
    import pytrec_eval

    if ignore_identical:
        ranking = {
            query: {name: value for name, value in hits.items() if name != query} for query, hits in ranking.items()
        }
    judged = pytrec_eval.RelevanceEvaluator(relevant, {f"ndcg_cut.{cut}"}).evaluate(ranking)
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
