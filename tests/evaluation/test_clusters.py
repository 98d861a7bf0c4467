"""Items that are not independent, ties, and versions of different length: what the records of evaluation say of them."""

import json
from pathlib import Path

import numpy as np
import pytest

from ettin_core.data.config import DataConfig
from ettin_core.data.corpus import Corpus
from ettin_core.data.preparation.prepare import prepare
from ettin_core.evaluation.bias import agreement, crows_pairs, published, stereoset, winobias
from ettin_core.evaluation.bias.versions import compared
from ettin_core.evaluation.finetuning.metrics import scores, value_of
from ettin_core.evaluation.finetuning.tasks import task_of
from ettin_core.evaluation.multiple_choice import Choice, answered, minimal_pairs
from ettin_core.evaluation.pronouns import measure as pronouns
from ettin_core.evaluation.protocol import Result, standard_error
from ettin_core.evaluation.suite import _unequal_lengths
from ettin_core.evaluation.suite_config import SuiteConfig
from ettin_core.evaluation.tasks.find import find_task
from ettin_core.evaluation.tasks.rows import task_rows
from tests.evaluation.small_sets import blimp_rows, winogender_rows, write_rows, write_sets
from tests.evaluation.test_estimators import rigged, tiny


@pytest.fixture
def suite(tmp_path: Path) -> SuiteConfig:
    """All small sets, with eight pairs in each of BLiMP's two paradigms."""
    folder = write_sets(tmp_path / "sets")
    rows = [row | {"pairID": str(number)} for row in blimp_rows() for number in range(8)]
    for number, row in enumerate(rows):
        row |= {side: row[side].replace(".", f" {'very ' * number}.") for side in ("good", "bad")}
    write_rows(folder / "probing/blimp.jsonl.gz", rows)
    rows = [row | {"sentence": row["sentence"].replace("they were", "themselves were")} for row in winogender_rows()]
    write_rows(folder / "bias/winogender.jsonl.gz", rows)
    return SuiteConfig(400, 4, 8, str(folder), 8192)


def result_of(results: list[Result], task: str, metric: str) -> Result:
    """The only result of a task and metric."""
    [result] = [result for result in results if (result.task, result.metric) == (task, metric)]
    return result


def test_error_of_clusters_by_hand() -> None:
    values, names = [1.0, 1.0, 1.0, 0.0], ["a", "a", "b", "b"]
    # residuals 1/4, 1/4, 1/4, -3/4: sums 1/2 and -1/2; sqrt(2 / 1 * (1/4 + 1/4)) / 4
    assert standard_error([1.0, 1.0, 0.0, 0.0], names) == pytest.approx((2 * (1 + 1)) ** 0.5 / 4)
    assert standard_error(values, names) == pytest.approx(max((2 * 0.5) ** 0.5 / 4, np.std(values, ddof=1) / 2))
    alone = standard_error(values)
    assert standard_error(values, ["a"] * 4) == standard_error(values, list("abcd")) == alone
    # means of two clusters that agree leave no error between them, and items theirs
    assert standard_error([1.0, 0.0, 1.0, 0.0], names) == standard_error([1.0, 0.0, 1.0, 0.0])


def test_blimp_is_clustered_by_paradigm(corpus: Corpus, suite: SuiteConfig) -> None:
    results, items = minimal_pairs("left_to_right")(tiny(corpus), None, suite)
    paradigms = [str(item.details["cluster"]) for item in items]
    assert sorted(set(paradigms)) == ["adjunct_island", "anaphor_gender_agreement"]
    values = [item.value for item in items]
    assert result_of(results, "blimp", "accuracy").standard_error == standard_error(values, paradigms)


def test_every_set_declares_its_clusters(corpus: Corpus, suite: SuiteConfig) -> None:
    model, masked = tiny(corpus), tiny(corpus, "mlm")
    measured = {
        "agreement": agreement.measure(model, None, suite)[1],
        "pronouns": pronouns(model, None, suite)[1],
        "winobias": winobias.measure(model, None, suite)[1],
        "crows_pairs": crows_pairs.measure("sentence")(model, None, suite)[1],
        "stereoset": stereoset.measure(model, None, suite)[1],
        "gotcha": published.measure_encoder(masked, None, suite)[1],
        "world": minimal_pairs("left_to_right")(model, corpus, SuiteConfig(400, 8, 1, None, 8192))[1],
    }
    clusters = {name: {item.details["cluster"] for item in items} for name, items in measured.items()}
    assert clusters["pronouns"] == clusters["gotcha"] == {"nurse", "judge", "cook", "clerk"}
    assert clusters["winobias"] == {"type1 the nurse met the", "type2 the judge met the"}
    assert clusters["crows_pairs"] == {"age | old | young", "gender | daughter | son"}
    assert clusters["stereoset"] == {"profession/poet", "profession/cook"}
    assert "anaphor_gender_agreement" in clusters["agreement"] and len(clusters["world"]) > 2


def test_rows_about_one_passage_are_one_cluster(tmp_path: Path) -> None:
    rows = [
        {
            "id": str(number),
            "split": "test",
            "text1": "Is it?",
            "text2": f"A long passage {number // 2} " * 9,
            "label": 0,
        }
        for number in range(4)
    ]
    write_rows(tmp_path / "cls/qnli.jsonl.gz", rows)
    clusters = [row.cluster for row in task_rows(find_task("qnli", tmp_path, "finetune"))]
    assert clusters[0] == clusters[1] != clusters[2] == clusters[3] and len(str(clusters[0])) == 16


@pytest.mark.parametrize("name", ["qnli", "cola"])
def test_metrics_leave_out_whole_clusters(name: str) -> None:
    task, generator = task_of(name), np.random.default_rng(0)
    gold = generator.integers(0, 2, 30).tolist()
    predicted = [label if number // 3 % 3 else 1 - label for number, label in enumerate(gold)]
    clusters = [str(number // 3) for number in range(30)]
    for score in scores(task, gold, predicted, clusters):
        kept = [[place for place in range(30) if place // 3 != gone] for gone in range(10)]
        left = [
            value_of(score.metric, task, [gold[p] for p in indices], [predicted[p] for p in indices])
            for indices in kept
        ]
        assert score.standard_error == pytest.approx((9 * np.var(left)) ** 0.5, rel=1e-9)
    alone = scores(task, gold, predicted)[0].standard_error
    assert scores(task, gold, predicted, [str(number) for number in range(30)])[0].standard_error == alone
    assert alone is not None and (scores(task, gold, predicted, clusters)[0].standard_error or 0) > alone


def test_ties_are_counted_and_lengths_are_reported(corpus: Corpus) -> None:
    """A uniform model prefers the text of fewer tokens, and by characters it prefers none for its length alone."""
    texts = ("The key is dry.", "The key is dry.", "The key is dry and the key is dry.")
    choices = [
        Choice("t", "g", "tie", "", texts[:2], "", 0),
        Choice("t", "g", "short", "", (texts[0], texts[2]), "", 0),
    ]

    def score(model: object, asked: list[Choice]) -> list[list[float]]:
        return [[-1.0 * len(option) for option in choice.options] for choice in asked]

    results, items = answered(rigged(corpus), choices, score)
    assert [item.details["tied"] for item in items] == [True, False]
    assert result_of(results, "t", "tie_rate").value == 0.5
    assert result_of(results, "t", "accuracy").value == 0.75
    assert result_of(results, "t", "accuracy_per_character").value == 0.5
    assert [item.details["accuracy_per_character"] for item in items] == [0.5, 0.5]


@pytest.mark.parametrize("objective", ["clm", "mlm", "mntp"])
def test_shares_per_token_do_not_know_the_length(objective: str, corpus: Corpus) -> None:
    """A uniform model expects every version alike, where the sum of more tokens is always smaller."""
    words = ("she", "he", "metamorphosis")
    sentence = tuple(f"The clerk said that {word} was late." for word in words)
    shares = compared(rigged(corpus, None, objective), [sentence])
    [tokens] = shares.tokens.tolist()
    assert tokens[2] > max(tokens[:2]) and shares.exact[0, 2] < 1e-3
    assert shares.per_token[0].tolist() == pytest.approx([1 / 3] * 3)


@pytest.mark.parametrize("objective", ["clm", "mlm"])
def test_equal_lengths_have_one_reading(objective: str, corpus: Corpus) -> None:
    model = tiny(corpus, objective)
    words = ("wet", "old", "late", "small", "green", "ready")
    shares = compared(model, [("The key is dry.", f"The key is {word}.") for word in words])
    equal = shares.tokens[:, 0] == shares.tokens[:, 1]
    assert equal.any() and shares.per_token[equal].tolist() == shares.exact[equal].tolist()


def test_records_count_versions_of_unequal_length(corpus: Corpus, suite: SuiteConfig) -> None:
    results, items = pronouns(rigged(corpus), None, suite)
    counted = _unequal_lengths(items)
    assert counted["of"] == len(items) and 0 < counted["items"] == sum(
        len(set(item.details["tokens"])) > 1 for item in items
    )
    assert result_of(results, "winogender", "probability_neutral_per_token").value == pytest.approx(1 / 3)


@pytest.mark.parametrize("objective", ["clm", "mlm"])
def test_a_blank_with_a_token_of_its_own_counts_as_its_words(objective: str, tmp_path: Path) -> None:
    """A tokenizer that knows " they" as one token and " she" as a blank and letters."""
    rows = [json.dumps({"text": f"and they said that they were late {number}"}) for number in range(300)]
    (tmp_path / "t.jsonl").write_text("\n".join(rows))
    corpus = prepare(DataConfig(kind="text", name="t", path=str(tmp_path), vocab_size=300), tmp_path / "corpora", 1)
    shares = compared(rigged(corpus, None, objective), [("and that she said", "and that they said")])
    assert shares.tokens[0, 0] > shares.tokens[0, 1] and shares.exact[0, 1] > 0.9
    assert shares.per_token[0].tolist() == pytest.approx([0.5, 0.5])
