"""Metrics and their errors against the libraries, against definitions, and against examples worked out by hand."""

import numpy as np
import pytest

from ettin_core.evaluation.finetuning.metrics import entities, reference, scores, value_of
from ettin_core.evaluation.finetuning.tasks import TASKS, FinetuningTask, task_of

sklearn_metrics = pytest.importorskip("sklearn.metrics")
scipy_stats = pytest.importorskip("scipy.stats")
NER = task_of("wikigold_ner")


def random_answers(count: int, classes: int) -> tuple[list[int], list[int]]:
    """Gold and predicted classes that agree about half of the time."""
    draw = np.random.default_rng(3)
    gold = draw.integers(classes, size=count)
    predicted = np.where(draw.random(count) < 0.5, gold, draw.integers(classes, size=count))
    return gold.tolist(), predicted.tolist()


def leave_one_out(task: FinetuningTask, metric: str, gold: list, predicted: list) -> float:
    """The jackknife as it is defined, one item at a time."""
    n = len(gold)
    left = [value_of(metric, task, gold[:at] + gold[at + 1 :], predicted[:at] + predicted[at + 1 :]) for at in range(n)]
    return float(((n - 1) / n * ((np.array(left) - np.mean(left)) ** 2).sum()) ** 0.5)


@pytest.mark.parametrize(
    ("name", "metric", "library"),
    [("cola", "mcc", "matthews_corrcoef"), ("trec", "accuracy", "accuracy_score"), ("mrpc", "f1", "f1_score")],
)
def test_metrics_of_classes_are_the_libraries(name: str, metric: str, library: str) -> None:
    task = task_of(name)
    gold, predicted = random_answers(60, len(task.labels))
    score = next(score for score in scores(task, gold, predicted) if score.metric == metric)
    assert score.value == pytest.approx(getattr(sklearn_metrics, library)(gold, predicted), abs=1e-12)
    assert score.standard_error == pytest.approx(leave_one_out(task, metric, gold, predicted), abs=1e-12)
    assert score.n == 60


def test_the_error_of_an_accuracy_is_that_of_a_mean() -> None:
    gold, predicted = random_answers(80, 2)
    right = np.equal(gold, predicted)
    score = scores(task_of("sst2"), gold, predicted)[0]
    assert score.standard_error == pytest.approx(right.std(ddof=1) / 80**0.5, abs=1e-12)


def test_correlations_are_the_libraries() -> None:
    draw = np.random.default_rng(1)
    gold = draw.integers(0, 5, 40).astype(float).tolist()  # with ties
    predicted = (np.array(gold) + draw.normal(size=40)).tolist()
    spearman, pearson = scores(task_of("stsb"), gold, predicted)
    assert spearman.value == pytest.approx(scipy_stats.spearmanr(gold, predicted).statistic, abs=1e-12)
    assert pearson.value == pytest.approx(scipy_stats.pearsonr(gold, predicted).statistic, abs=1e-12)
    assert spearman.standard_error == pytest.approx(leave_one_out(task_of("stsb"), "spearman", gold, predicted))
    constant = scores(task_of("stsb"), gold, [1.0] * 40)
    assert [score.value for score in constant] == [0.0, 0.0]


@pytest.mark.parametrize(
    ("tags", "spans"),
    [
        ("O B-PER I-PER O B-LOC", {(1, 3, "PER"), (4, 5, "LOC")}),
        ("B-PER B-PER I-PER", {(0, 1, "PER"), (1, 3, "PER")}),
        ("O I-ORG I-ORG O", {(1, 3, "ORG")}),  # an I that nothing begins, begins
        ("B-PER I-LOC", {(0, 1, "PER"), (1, 2, "LOC")}),
        ("O O", set()),
    ],
)
def test_entities(tags: str, spans: set[tuple[int, int, str]]) -> None:
    assert entities(tags.split()) == spans


def tags(*sentences: str) -> list[list[int]]:
    return [[NER.labels.index(tag) for tag in sentence.split()] for sentence in sentences]


def test_entity_f1_worked_out() -> None:
    gold = tags("B-PER I-PER O B-LOC", "O B-ORG", "O O")
    predicted = tags("B-PER I-PER O B-ORG", "O B-ORG", "B-MISC O")
    # Of 3 entities 2 are found exactly, of 4 guesses 2 are right: precision 1/2, recall 2/3, F1 = 4/7.
    score = scores(NER, gold, predicted)[0]
    assert score.value == pytest.approx(4 / 7)
    # Without the first sentence 2/3, without the second 2/5, without the third 4/6.
    left = np.array([2 / 3, 2 / 5, 2 / 3])
    assert score.standard_error == pytest.approx((2 / 3 * ((left - left.mean()) ** 2).sum()) ** 0.5)
    assert score.n == 3
    assert scores(NER, gold, tags("O O O O", "O O", "O O"))[0].value == 0.0


def test_tags_are_counted_by_word_and_erred_by_sentence() -> None:
    task = task_of("ewt_upos")
    score = scores(task, [[1, 2, 3], [4]], [[1, 2, 0], [-1]])[0]
    assert score.value == pytest.approx(2 / 4)
    assert score.standard_error == pytest.approx((0.5 * ((2 / 3 - 1 / 3) ** 2 + (0 - 1 / 3) ** 2)) ** 0.5)


def test_references() -> None:
    assert reference(task_of("sst2"), [1, 1, 0], [0, 0, 1, 1, 1]) == pytest.approx(0.6)
    assert reference(task_of("ewt_upos"), [[7, 7, 1]], [[7, 1], [7]]) == pytest.approx(2 / 3)
    assert reference(task_of("cola"), [1, 1, 0], [0, 1]) == 0.0


def test_the_table_of_tasks_is_consistent() -> None:
    for name, task in TASKS.items():
        assert task.name == name
        assert len(set(task.labels)) == len(task.labels)
        assert (task.kind == "regression") == (not task.labels)
        assert task.kind != "tagging" or task.hub is None
