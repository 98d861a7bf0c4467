"""Shares of pronouns: which words differ, one conditional for every member, and the comparison with the truth."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from ettin_core.data.corpus import Corpus
from ettin_core.evaluation import pronouns
from ettin_core.evaluation.bias.versions import differing_words
from ettin_core.evaluation.evaluated_model import EvaluatedModel
from ettin_core.evaluation.pronouns import Triple, pronoun_shares, winogender
from ettin_core.evaluation.protocol import ItemResult, standard_error
from ettin_core.evaluation.suite_config import SuiteConfig
from tests.evaluation.test_estimators import DIRECTIONS, MASKED, answer, rigged, tiny

SUITE = SuiteConfig(1500, 12, 1, None, 8192)
WERE = tuple(f"The nurse said that {words} late ." for words in ("she was", "he was", "they were"))


def triple(versions: tuple[str, str, str]) -> Triple:
    """Three versions of a sentence without a truth."""
    return Triple("t", "0", "nurse", versions, {})


@pytest.fixture(scope="module")
def triples(real_data: Path) -> dict[str, Triple]:
    """The real sentences by name."""
    return {item.item: item for item in winogender(real_data / "eval")}


def test_winogender_is_complete(triples: dict[str, Triple]) -> None:
    assert len(triples) == 240
    assert Counter(item.task for item in triples.values()) == {"winogender": 120, "winogender_participant": 120}
    assert len({item.occupation for item in triples.values()}) == 60
    assert all(0 <= item.truth["female"] <= 1 for item in triples.values())


def test_words_that_differ_in_winogender(triples: dict[str, Triple]) -> None:
    differing = Counter()
    for item in triples.values():
        words = [version.split() for version in item.versions]
        differing[tuple(tuple(version[n] for version in words) for n in sorted(differing_words(item.versions)))] += 1
    she, her, him = ("she", "he", "they"), ("her", "his", "their"), ("her", "him", "them")
    assert differing == {(she,): 144, (her,): 54, (she, ("was", "was", "were")): 34, (him,): 8}


@pytest.mark.parametrize(
    ("name", "task", "occupation", "words"),
    [
        ("technician.customer.1", "winogender_participant", "technician", [("she", "he", "they")]),
        ("technician.customer.0", "winogender", "technician", [("she", "he", "they")]),
        ("worker.pedestrian.0", "winogender", "worker", [("she", "he", "they"), ("was", "was", "were")]),
    ],
)
def test_some_winogender_sentences_by_hand(
    name: str, task: str, occupation: str, words: list[tuple[str, ...]], triples: dict[str, Triple]
) -> None:
    item = triples[name]
    assert (item.task, item.occupation) == (task, occupation)
    columns = list(zip(*(version.split() for version in item.versions), strict=True))
    assert [columns[place] for place in sorted(differing_words(item.versions))] == words


def test_differing_words() -> None:
    assert differing_words(WERE) == {4, 5}
    assert differing_words(("a b", "a b", "a b")) == set()
    with pytest.raises(ValueError, match="different length"):
        differing_words(("she is here", "he is here", "they are all here"))


@pytest.mark.parametrize("objective", DIRECTIONS)
def test_shares_sum_to_one(objective: str, corpus: Corpus) -> None:
    items = list(pronouns._triples(corpus, SUITE))
    shares = pronoun_shares(tiny(corpus, objective), items)
    assert shares.shape == (12, 3)
    assert shares.sum(1) == pytest.approx(np.ones(12))
    assert shares.min() > 0 and shares.std(0).min() > 0.01


def softmax(values: list[float]) -> list[float]:
    """Normalised exponentials."""
    return torch.tensor(values, dtype=torch.float64).softmax(0).tolist()


def whole(model: EvaluatedModel, text: str) -> float:
    """log p(text) of a causal model, one prefix at a time."""
    bos, (ids,) = model.tokenizer.special.bos, model.tokenizer.encode([text])
    return sum(answer(model, [bos, *ids[:place]], place, token) for place, token in enumerate(ids))


def test_shares_of_a_causal_model_are_ratios_of_whole_sentences(corpus: Corpus) -> None:
    model = tiny(corpus)
    expected = softmax([whole(model, version) for version in WERE])
    assert pronoun_shares(model, [triple(WERE)])[0] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(("objective", "shift"), [("mlm", 0), ("mntp", 1)])
def test_shares_of_a_masked_model_fill_pronoun_and_verb_together(objective: str, shift: int, corpus: Corpus) -> None:
    model, special = tiny(corpus, objective), corpus.tokenizer.special
    (before,), (after,) = corpus.tokenizer.encode(["The nurse said that"]), corpus.tokenizer.encode([" late ."])
    scores = []
    for words in (" she was", " he was", " they were"):
        gap, score = corpus.tokenizer.encode([words])[0], 0.0
        for place, token in enumerate(gap):
            hidden = [special.mask] * (len(gap) - place)
            row = [special.bos, *before, *gap[:place], *hidden, *after, special.eos]
            score += answer(model, row, 1 + len(before) + place - shift, token)
        scores.append(score)
    assert pronoun_shares(model, [triple(WERE)])[0] == pytest.approx(softmax(scores), abs=1e-5)


@pytest.mark.parametrize("objective", DIRECTIONS)
def test_rigged_members_give_the_same_known_shares(objective: str, corpus: Corpus) -> None:
    bias = torch.randn(1024, generator=torch.Generator().manual_seed(3)).log_softmax(-1)
    expected = softmax([float(bias[corpus.tokenizer.encode([version])[0]].sum()) for version in WERE])
    assert pronoun_shares(rigged(corpus, bias, objective), [triple(WERE)])[0] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("objective", DIRECTIONS)
def test_shares_of_a_uniform_model_count_tokens(objective: str, corpus: Corpus) -> None:
    counts = [len(ids) for ids in corpus.tokenizer.encode(list(WERE))]
    weights = np.array([1024.0 ** (min(counts) - count) for count in counts])
    shares = pronoun_shares(rigged(corpus, None, objective), [triple(WERE)])[0]
    assert shares == pytest.approx(weights / weights.sum(), abs=1e-5)


@pytest.mark.parametrize("objective", DIRECTIONS)
def test_shares_do_not_depend_on_batching(objective: str, corpus: Corpus) -> None:
    items = list(pronouns._triples(corpus, SUITE))
    first, second, third = (
        pronoun_shares(tiny(corpus, objective, batch_tokens=size), items) for size in (16, 200, 8192)
    )
    assert first == pytest.approx(third, abs=1e-5)
    assert second == pytest.approx(third, abs=1e-5)


def test_a_long_sentence_beside_a_short_one_keeps_its_shares(corpus: Corpus) -> None:
    long = triple(tuple("It was late . " * 60 + version for version in WERE))  # type: ignore[arg-type]
    model = rigged(corpus, torch.randn(1024, generator=torch.Generator().manual_seed(3)).log_softmax(-1))
    together = pronoun_shares(model, [triple(WERE), long])
    assert together[1] == pytest.approx(together[0], abs=1e-3)  # sums of a thousand nats in single precision


def test_truths_of_the_world_sum_to_one(corpus: Corpus) -> None:
    items = list(pronouns._triples(corpus, SUITE))
    assert len(items) == SUITE.items
    for item in items:
        assert sum(item.truth.values()) == pytest.approx(1)
        assert len(differing_words(item.versions)) >= 1


def results_of(rows: list[tuple[str, list[float], dict[str, float]]]) -> dict[str, tuple[float | None, float | None]]:
    """Value and reference by metric, for (occupation, shares, truth) rows."""
    items = [
        ItemResult(
            "t",
            str(number),
            shares[0],
            {"occupation": name}
            | dict(zip(pronouns.FORMS, shares, strict=True))
            | {f"truth_{form}": value for form, value in truth.items()},
        )
        for number, (name, shares, truth) in enumerate(rows)
    ]
    return {result.metric: (result.value, result.reference) for result in pronouns._summarise("t", items)}


def test_means_and_errors_by_hand() -> None:
    truth = {"female": 0.5, "male": 0.3, "neutral": 0.2}
    results = results_of([("nurse", [0.8, 0.1, 0.1], truth), ("judge", [0.2, 0.5, 0.3], truth)])
    assert results["probability_female"] == pytest.approx((0.5, 0.5))
    assert results["probability_male"] == pytest.approx((0.3, 0.3))
    assert results["probability_neutral"] == pytest.approx((0.2, 0.2))
    assert results["absolute_error"] == pytest.approx((0.3, None))
    assert results["correlation_with_truth"] == (None, None)  # too few occupations


def test_a_share_of_women_is_not_a_truth_about_they() -> None:
    results = results_of([("nurse", [0.8, 0.1, 0.1], {"female": 0.9})])
    assert "absolute_error" not in results and results["probability_neutral"][1] is None


def test_correlation_over_occupations_by_hand() -> None:
    truths = [0.1, 0.4, 0.6, 0.9]
    shares = [0.2, 0.3, 0.7, 0.6]
    rows = [
        (str(n), [s * 0.8, (1 - s) * 0.8, 0.2], {"female": t})
        for n, (s, t) in enumerate(zip(shares, truths, strict=True))
    ]
    assert results_of(rows * 2)["correlation_with_truth"][0] == pytest.approx(np.corrcoef(shares, truths)[0, 1])
    items = [
        ItemResult(
            "t",
            "0",
            row[1][0],
            {"occupation": row[0], "female": row[1][0], "male": row[1][1]} | {"truth_female": row[2]["female"]},
        )
        for row in rows
    ]
    result = pronouns._correlation("t", "r", *pronouns._by_occupation(items, "truth_female"))
    assert result.n == 4
    assert result.standard_error == pytest.approx(1 - np.corrcoef(shares, truths)[0, 1] ** 2)  # over sqrt(4 - 3)


def test_a_constant_model_has_no_correlation(corpus: Corpus) -> None:
    rows = [(str(n), [0.4, 0.4, 0.2], {"female": n / 5}) for n in range(5)]
    assert results_of(rows)["correlation_with_truth"] == (None, None)


def test_a_perfect_model_has_no_error(corpus: Corpus) -> None:
    triples = list(pronouns._triples(corpus, SuiteConfig(1, 24, 1, None, 1)))
    rows = [(item.occupation, [item.truth[form] for form in pronouns.FORMS], item.truth) for item in triples]
    results = results_of(rows)
    assert results["absolute_error"][0] == 0
    assert results["correlation_with_truth"][0] == pytest.approx(1)
    assert results["probability_female"][0] == results["probability_female"][1]


@pytest.mark.parametrize("objective", ["clm", *MASKED])
def test_measure_reports_world_and_winogender(objective: str, corpus: Corpus, real_data: Path) -> None:
    suite = SuiteConfig(1, 6, 1, str(real_data / "eval"), 8192)
    results, items = pronouns.measure(tiny(corpus, objective), corpus, suite)
    sizes = Counter(item.task for item in items)
    assert sizes == {"world": 6, "winogender": 120, "winogender_participant": 120}
    for task in sizes:
        shares = {r.metric: r for r in results if r.task == task}
        assert sum(shares[f"probability_{form}"].value for form in pronouns.FORMS) == pytest.approx(1)  # type: ignore[misc]
        values = [item.value for item in items if item.task == task]
        occupations = [item.details["occupation"] for item in items if item.task == task]
        assert shares["probability_female"].value == pytest.approx(np.mean(values))
        assert shares["probability_female"].standard_error == pytest.approx(standard_error(values, occupations))
    assert [r.task for r in results if r.metric == "absolute_error"] == ["world"]
