"""Metrics of predictions, and their standard error over items by the jackknife.

An item is a row; of a tagging task it is a sentence, whose words are not independent. The jackknife (Efron and Stein 1981)
leaves each item out once: sqrt((n - 1) / n * sum (leave-one-out value - their mean)^2), which is s / sqrt(n) for a mean and holds
for smooth functions of means, as Matthews correlation, F1 and the correlations are.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ettin_core.evaluation.finetuning.tasks import FinetuningTask
from ettin_core.foundation.errors import invalid, with_extra


@dataclass(frozen=True)
class TaskScore:
    """A metric of all items; `standard_error` is None below two items."""

    metric: str
    value: float
    standard_error: float | None
    n: int


def value_of(metric: str, task: FinetuningTask, gold: Sequence[Any], predicted: Sequence[Any]) -> float:
    """The metric alone."""
    return _measure(metric, task, gold, predicted, with_error=False).value


def scores(
    task: FinetuningTask, gold: Sequence[Any], predicted: Sequence[Any], clusters: Sequence[str] | None = None
) -> list[TaskScore]:
    """Every metric of the task with its standard error, which is at least that of independent items.

    Items of one of the `clusters` (None: each is its own) are not independent: a cluster is left out as a whole.
    """
    measured = [_measure(metric, task, gold, predicted, with_error=True) for metric in task.metrics]
    if clusters is None or len(set(clusters)) in (1, len(clusters)):
        return measured
    errors = [_clustered(score.metric, task, gold, predicted, clusters) for score in measured]
    return [
        replace(score, standard_error=max(score.standard_error or 0.0, error))
        for score, error in zip(measured, errors, strict=True)
    ]


def reference(task: FinetuningTask, train: Sequence[Any], gold: Sequence[Any]) -> float:
    """The task's metric for the best guess that looks at no text: the commonest training label, or always the same score."""
    if task.kind == "regression" or task.metric in ("mcc", "entity_f1"):
        return 0.0
    labels = train if task.kind == "classification" else [label for tags in train for label in tags]
    most = Counter(labels).most_common(1)[0][0]
    guess = [most] * len(gold) if task.kind == "classification" else [[most] * len(tags) for tags in gold]
    return value_of(task.metric, task, gold, guess)


def need_libraries() -> None:
    """Raises ValueError if the libraries of the metrics are missing."""
    try:
        import scipy  # noqa: F401
        import sklearn  # noqa: F401
    except ImportError as error:
        raise invalid("task", "metrics", "need scikit-learn and scipy", with_extra("evaluation")) from error


def _measure(
    metric: str, task: FinetuningTask, gold: Sequence[Any], predicted: Sequence[Any], with_error: bool
) -> TaskScore:
    if task.kind == "tagging":
        counts = np.array([_COUNTS[metric](task, *pair) for pair in zip(gold, predicted, strict=True)], dtype=float)
        total = counts.sum(0)
        left = [_ratio(total - row) for row in counts] if with_error else []
        return TaskScore(metric, _ratio(total), jackknife(left, np.ones(len(left))), len(gold))
    if task.kind == "regression":
        numbers, guesses = np.asarray(gold, dtype=float), np.asarray(predicted, dtype=float)
        correlate = _CORRELATIONS[metric]
        left, keep = [], np.ones(len(numbers), dtype=bool)
        for place in range(len(numbers) if with_error else 0):
            keep[place] = False
            left.append(correlate(numbers[keep], guesses[keep]))
            keep[place] = True
        return TaskScore(metric, correlate(numbers, guesses), jackknife(left, np.ones(len(left))), len(gold))
    cells = Counter(zip(gold, predicted, strict=True))  # items of a cell are alike, so each cell leaves one out for all
    pairs, counts = np.array(list(cells)), np.array(list(cells.values()), dtype=float)
    left = []
    for place in range(len(pairs) if with_error else 0):
        counts[place] -= 1
        left.append(_LABELS[metric](pairs[:, 0], pairs[:, 1], counts))
        counts[place] += 1
    error = jackknife(left, counts) if with_error else None
    return TaskScore(metric, _LABELS[metric](pairs[:, 0], pairs[:, 1], counts), error, len(gold))


def _clustered(
    metric: str, task: FinetuningTask, gold: Sequence[Any], predicted: Sequence[Any], clusters: Sequence[str]
) -> float:
    """The jackknife's error with whole clusters left out; clusters whose rows are alike once for all."""
    groups: dict[str, list[int]] = {}
    for place, name in enumerate(clusters):
        groups.setdefault(name, []).append(place)
    kinds: dict[tuple[str, ...], list[list[int]]] = {}
    for places in groups.values():
        rows = tuple(sorted(str((gold[at], predicted[at])) for at in places))
        kinds.setdefault(rows, []).append(places)
    left = []
    for alike in kinds.values():
        gone = set(alike[0])
        rest = [place for place in range(len(gold)) if place not in gone]
        left.append(value_of(metric, task, [gold[at] for at in rest], [predicted[at] for at in rest]))
    return jackknife(left, np.array([len(alike) for alike in kinds.values()], dtype=float)) or 0.0


def jackknife(left_out: Sequence[float], counts: np.ndarray) -> float | None:
    """The standard error from values without one item, each standing for `counts` items that are alike."""
    n = counts.sum()
    if n < 2:
        return None
    values = np.asarray(left_out)
    mean = (values * counts).sum() / n
    return float(((n - 1) / n * (counts * (values - mean) ** 2).sum()) ** 0.5)


def entities(tags: Sequence[str]) -> set[tuple[int, int, str]]:
    """Spans (begin, end, type) of BIO tags. An I without its B before it begins a span, as in conlleval."""
    spans, begin, kind = set(), 0, ""
    for place, tag in enumerate([*tags, "O"]):
        mark, _, name = tag.partition("-")
        if kind and (mark != "I" or name != kind):
            spans.add((begin, place, kind))
            kind = ""
        if mark != "O" and not kind:
            begin, kind = place, name
    return spans


def _entity_counts(task: FinetuningTask, gold: Sequence[int], predicted: Sequence[int]) -> tuple[float, float]:
    """(2 true positives, gold + predicted): sums over sentences give micro F1."""
    right, guessed = (entities([task.labels[label] for label in labels]) for labels in (gold, predicted))
    return 2 * len(right & guessed), len(right) + len(guessed)


def _word_counts(task: FinetuningTask, gold: Sequence[int], predicted: Sequence[int]) -> tuple[float, float]:
    return sum(map(int.__eq__, gold, predicted)), len(gold)


def _ratio(counts: np.ndarray) -> float:
    return float(counts[0] / counts[1]) if counts[1] else 0.0


def _mcc(gold: np.ndarray, predicted: np.ndarray, counts: np.ndarray) -> float:
    from sklearn.metrics import matthews_corrcoef

    return float(matthews_corrcoef(gold, predicted, sample_weight=counts))


def _accuracy(gold: np.ndarray, predicted: np.ndarray, counts: np.ndarray) -> float:
    from sklearn.metrics import accuracy_score

    return float(accuracy_score(gold, predicted, sample_weight=counts))


def _f1(gold: np.ndarray, predicted: np.ndarray, counts: np.ndarray) -> float:
    from sklearn.metrics import f1_score

    return float(f1_score(gold, predicted, sample_weight=counts, zero_division=0.0))


def _correlation(name: str) -> Callable[[np.ndarray, np.ndarray], float]:
    def correlate(gold: np.ndarray, predicted: np.ndarray) -> float:
        import scipy.stats

        if np.ptp(predicted) == 0 or np.ptp(gold) == 0:
            return 0.0  # a constant says nothing of the order
        return float(getattr(scipy.stats, name)(gold, predicted).statistic)

    return correlate


_LABELS = {"mcc": _mcc, "accuracy": _accuracy, "f1": _f1}
_CORRELATIONS = {"spearman": _correlation("spearmanr"), "pearson": _correlation("pearsonr")}
_COUNTS = {"accuracy": _word_counts, "entity_f1": _entity_counts}
