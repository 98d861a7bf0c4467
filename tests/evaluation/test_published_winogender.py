"""The published Winogender protocols: every quirk is kept."""

from pathlib import Path

import pytest
import torch

from ettin_core.data.corpus import Corpus
from ettin_core.evaluation.bias import published
from ettin_core.evaluation.bias.published import GENDERS, masked_sentence, perplexities, pronoun_masses, rewritten
from ettin_core.evaluation.suite_config import SuiteConfig
from tests.evaluation.small_sets import write_sets
from tests.evaluation.test_estimators import answer, rigged, tiny

SENTENCE = "The nurse told the client that he was late."


@pytest.mark.parametrize(
    ("sentence", "gender", "wanted", "expected"),
    [
        ("He said he saw him with his dog", "male", "female", "He said she saw her with her dog"),
        ("that she met her brother", "female", "male", "that he met his brother"),
        ("he told her.", "female", "male", "he told his."),  # the accusative rule never fires
        ("asked her.", "female", "neutral", "asked their."),
        ("because he was late", "male", "neutral", "because they were late"),
        ("because she is late", "female", "neutral", "because they are late"),
        ("because she has left", "female", "neutral", "because they have left"),
        ("because she does care", "female", "neutral", "because they does care"),  # nothing else is repaired
        ("because they were late", "neutral", "male", "because he were late"),
        ("gave them their book", "neutral", "female", "gave her her book"),
        ("the theory of others", "male", "female", "the theory of others"),  # whole words only
    ],
)
def test_rewriting(sentence: str, gender: str, wanted: str, expected: str) -> None:
    assert rewritten(sentence, gender, wanted) == expected


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("The clerk told him that.", ("The clerk told", " that.")),
        ("The clerk asked her.", ("The clerk asked", ".")),
        ('He asked, "her?!"', ("", ' asked, "her?!"')),  # the first pronoun, whatever its case
        ("The  clerk saw THEM...  again", ("The clerk saw", ". again")),  # one mark of punctuation stays
    ],
)
def test_masking(sentence: str, expected: tuple[str, str]) -> None:
    assert masked_sentence(sentence) == expected


def favouring(corpus: Corpus, words: dict[str, float], objective: str = "mlm"):  # type: ignore[no-untyped-def]
    """A model that predicts some tokens above 40 others and these above all, everywhere."""
    bias = torch.full((1024,), -20.0)
    bias[500:540] = 0.0
    for word, value in words.items():
        (ids,) = corpus.tokenizer.encode([word])
        assert len(ids) == 1, f"{word!r} is one token of this vocabulary"
        bias[ids[0]] = value
    return rigged(corpus, bias, objective)


def test_only_the_twenty_likeliest_tokens_count(corpus: Corpus) -> None:
    male, female, neutral = pronoun_masses(favouring(corpus, {" he": 3.0, " she": 2.0, " they": -1.0}), SENTENCE)
    assert neutral == 0  # behind forty others
    assert male == pytest.approx(
        torch.tensor([3.0, 2.0]).softmax(0)[0].item(), abs=1e-5
    ) and male + female == pytest.approx(1)


def test_cases_of_a_gender_are_added_up(corpus: Corpus) -> None:
    model = favouring(corpus, {" he": 1.0, " his": 1.0, " she": 1.5})
    assert pronoun_masses(model, SENTENCE)[0] == pytest.approx(
        float(2 * torch.tensor(1.0).exp() / (2 * torch.tensor(1.0).exp() + torch.tensor(1.5).exp())), abs=1e-5
    )


def test_without_a_pronoun_male_is_predicted(corpus: Corpus, suite: SuiteConfig) -> None:
    model = favouring(corpus, {})
    assert pronoun_masses(model, SENTENCE) == [0, 0, 0]
    results, items = published.measure_encoder(model, None, suite)
    assert {item.details["predicted"] for item in items} == {"male"}
    by_task = {(result.task, result.metric): result for result in results}
    assert by_task["gotcha", "predicted_male"].value == 1
    assert by_task["gotcha", "gotcha_rate"].value == 0.5  # nurse and clerk: men are the minority
    assert by_task["gotcha", "gotcha_rate"].reference == pytest.approx(0.5)
    assert (by_task["gotcha/male", "gotcha_rate"].value, by_task["gotcha/female", "gotcha_rate"].value) == (1, 0)


def test_the_mask_is_read_at_its_position_even_of_mntp(corpus: Corpus) -> None:
    mlm, mntp = tiny(corpus, "mlm", context=128), tiny(corpus, "mntp", context=128)  # the same weights
    assert pronoun_masses(mlm, SENTENCE) == pronoun_masses(mntp, SENTENCE)


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> SuiteConfig:
    """A suite over the small sets."""
    return SuiteConfig(1, 1, 1, str(write_sets(tmp_path_factory.mktemp("sets"))), 8192)


def test_perplexity_by_hand(corpus: Corpus) -> None:
    model, bos = tiny(corpus), corpus.tokenizer.special.bos
    (ids,) = corpus.tokenizer.encode(["She ran"])
    terms = [answer(model, (bos, *ids[:place]), place, token) for place, token in enumerate(ids)]
    assert perplexities(model, ["She ran"]) == pytest.approx(
        [torch.tensor(-sum(terms) / len(terms)).exp().item()], rel=1e-5
    )


def test_a_tie_of_perplexities_is_male(corpus: Corpus, suite: SuiteConfig) -> None:
    results, items = published.measure_decoder(rigged(corpus, None, "clm"), None, suite)  # every token costs log V
    assert {item.details["predicted"] for item in items} == {"male"}
    value = {result.metric: result.value for result in results}["perplexity_neutral"]
    assert value == pytest.approx(1024, rel=1e-4)


def test_the_lowest_perplexity_of_the_whole_sentence_is_predicted(corpus: Corpus, suite: SuiteConfig) -> None:
    model = tiny(corpus, context=128)
    _, items = published.measure_decoder(model, None, suite)
    sentences = {name: (gender, text) for name, gender, text in published.gotcha_sentences(suite)}
    for item in items:
        gender, text = sentences[item.item]
        versions = [
            text if pronoun_gender == gender else rewritten(text, gender, pronoun_gender) for pronoun_gender in GENDERS
        ]
        values = perplexities(model, versions)
        assert item.details["predicted"] == GENDERS[values.index(min(values))]
        assert item.value == float(item.details["predicted"] == gender)


def test_the_published_baseline(real_data: Path, corpus: Corpus) -> None:
    whole = SuiteConfig(1, 1, 1, str(real_data / "eval"), 8192)
    sentences = published.gotcha_sentences(whole)
    assert len(sentences) == 120
    results, _ = published.measure_encoder(rigged(corpus, None, "mlm"), None, whole)
    (rate,) = [result for result in results if (result.task, result.metric) == ("gotcha", "gotcha_rate")]
    assert rate.reference == pytest.approx(0.5006, abs=5e-5)
    for _, gender, sentence in sentences:
        rewritten_back = rewritten(rewritten(sentence, gender, "male"), "male", gender)
        assert rewritten_back == sentence  # on the gotcha set the rewriting makes no error
