"""Bias quantities against numbers worked out by hand; the same for every size of a batch."""

import itertools
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ettin_core.data.corpus import Corpus
from ettin_core.evaluation import pronouns
from ettin_core.evaluation.bias import agreement, crows_pairs, stereoset, winobias
from ettin_core.evaluation.bias.amplification import amplification
from ettin_core.evaluation.bias.winogender import schemas
from ettin_core.evaluation.datasets import BLIMP, CROWS_PAIRS, STEREOSET, WINOBIAS, WINOGENDER
from ettin_core.evaluation.protocol import ItemResult, Measured
from ettin_core.evaluation.registry import PROTOCOLS
from ettin_core.evaluation.scoring import Segmented
from ettin_core.evaluation.suite import applicable
from ettin_core.evaluation.suite_config import SuiteConfig
from ettin_core.records.readout import KNOWN
from tests.evaluation.small_sets import SETS, write_rows, write_sets
from tests.evaluation.test_estimators import DIRECTIONS, answer, rigged, tiny

CONTEXT = 256


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> SuiteConfig:
    """A suite over the small sets."""
    folder = write_sets(tmp_path_factory.mktemp("sets"))
    return SuiteConfig(200, 4, 5, str(folder), 8192)


def value_of(measured: Measured, task: str, metric: str) -> float | None:
    """One value of a measurement."""
    (result,) = [result for result in measured[0] if (result.task, result.metric) == (task, metric)]
    return result.value


def bias_of(corpus: Corpus) -> torch.Tensor:
    """Log-probabilities of a rigged model, which says the same at every position."""
    return torch.randn(1024, generator=torch.Generator().manual_seed(5)).log_softmax(-1)


@pytest.mark.parametrize("objective", DIRECTIONS)
def test_the_example_of_a_protocol_by_hand(objective: str, corpus: Corpus) -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "extend" / "protocol.md").read_text()
    module: dict[str, Any] = {}
    exec(page.split("```python\n")[1].split("```")[0], module)
    bias, protocol = bias_of(corpus), module["PROTOCOL"]
    measured = protocol.measure(rigged(corpus, bias, objective), None, None)
    ids = [corpus.tokenizer.encode([sentence])[0] for sentence in module["SENTENCES"]]
    expected = -np.mean([float(bias[row].mean()) for row in ids])
    assert value_of(measured, "sentences", "loss") == pytest.approx(expected, abs=1e-5)
    assert protocol.has_items(sets=False, corpus=False) and protocol not in PROTOCOLS


@pytest.mark.parametrize("objective", DIRECTIONS)
def test_scores_are_equal_for_every_size_of_a_batch(objective: str, corpus: Corpus, suite: SuiteConfig) -> None:
    few = replace(suite, heldout_tokens=64, items=2)  # in batches of one row they take longest
    models = [tiny(corpus, objective, context=CONTEXT, batch_tokens=size) for size in (1, 100, 8192)]
    for protocol in applicable(KNOWN[objective], few):
        measured = [protocol.measure(model, corpus, few) for model in models]
        assert measured[0][0], protocol.name
        for results in measured[1:]:
            for left, right in zip(measured[0][0], results[0], strict=True):
                assert (left.task, left.metric, left.n) == (right.task, right.metric, right.n)
                if left.value is not None:  # perplexities are large, differences of rounding with them
                    assert right.value == pytest.approx(left.value, abs=1e-4, rel=1e-4), (
                        protocol.name,
                        left.task,
                        left.metric,
                    )


def roughened(text: str) -> str:
    """The same words with other white space between them and at the ends."""
    blanks = itertools.cycle(["  ", "\t", "\u00a0", "\r\n", "\u2003 "])
    return "\n" + "".join(word + next(blanks) for word in text.split())


@pytest.mark.parametrize("objective", ["clm", "mlm"])
def test_white_space_of_one_version_moves_no_number(
    objective: str, corpus: Corpus, suite: SuiteConfig, tmp_path: Path
) -> None:
    folder = write_sets(tmp_path)
    for item in (BLIMP, WINOGENDER, WINOBIAS, CROWS_PAIRS, STEREOSET):
        rows = SETS[item.file]()
        planted = rows[::2] if len(item.texts) == 1 else rows
        for row in planted:
            row[item.texts[0]] = roughened(row[item.texts[0]])
        write_rows(folder / item.file, rows)
        assert item.uneven_rows(folder) == len(planted)
    spaced = replace(suite, eval_data=str(folder))
    for protocol in applicable(KNOWN[objective], suite, corpus=False):
        model = tiny(corpus, objective, context=CONTEXT)
        assert protocol.measure(model, None, suite) == protocol.measure(model, None, spaced), protocol.name


def shared_texts() -> tuple[Segmented, Segmented]:
    """x b c and y b c: three tokens of one word each; they share the last two."""
    return tuple(Segmented((first, 411, 522), (2, 5, 9), (0, 1, 2)) for first in (300, 301))  # type: ignore[return-value]


@pytest.mark.parametrize(("objective", "shift"), [("mlm", 0), ("mntp", 1)])
def test_crows_pairs_of_a_masked_model_by_hand(objective: str, shift: int, corpus: Corpus) -> None:
    model, special = tiny(corpus, objective), corpus.tokenizer.special
    bos, mask, eos, (b, c) = special.bos, special.mask, special.eos, (411, 522)
    shared, whole = [], []
    for x in (300, 301):
        b_hidden = answer(model, (bos, x, mask, c, eos), 2 - shift, b)  # the modified token is always seen
        c_hidden = answer(model, (bos, x, b, mask, eos), 3 - shift, c)
        x_hidden = answer(model, (bos, mask, b, c, eos), 1 - shift, x)
        shared.append(b_hidden + c_hidden)
        whole.append(x_hidden + b_hidden + c_hidden)
    assert crows_pairs.score_shared(model, [shared_texts()]) == pytest.approx(shared, abs=1e-5)
    assert crows_pairs.score_sentences(model, [shared_texts()]) == pytest.approx(whole, abs=1e-5)


def test_crows_pairs_of_a_causal_model_by_hand(corpus: Corpus) -> None:
    model, bos, (b, c) = tiny(corpus), corpus.tokenizer.special.bos, (411, 522)
    shared, whole = [], []
    for x in (300, 301):
        after_x = answer(model, (bos, x), 1, b) + answer(model, (bos, x, b), 2, c)
        shared.append(after_x)
        whole.append(answer(model, (bos,), 0, x) + after_x)
    assert crows_pairs.score_shared(model, [shared_texts()]) == pytest.approx(shared, abs=1e-5)
    assert crows_pairs.score_sentences(model, [shared_texts()]) == pytest.approx(whole, abs=1e-5)


@pytest.mark.parametrize(("objective", "shift"), [("mlm", 0), ("mntp", 1)])
def test_shared_tokens_of_one_word_are_hidden_together(objective: str, shift: int, corpus: Corpus) -> None:
    model, special = tiny(corpus, objective), corpus.tokenizer.special
    bos, mask, eos = special.bos, special.mask, special.eos
    more, less = (Segmented((x, 411, 522), (2, 5, 9), (0, 1, 1)) for x in (300, 301))
    expected = [
        answer(model, (bos, x, mask, mask, eos), 2 - shift, 411)
        + answer(model, (bos, x, 411, mask, eos), 3 - shift, 522)
        for x in (300, 301)
    ]
    assert crows_pairs.score_shared(model, [(more, less)]) == pytest.approx(expected, abs=1e-5)


def test_shared_positions_are_those_of_the_longest_alignment() -> None:
    more = Segmented((1, 2, 3, 4), (1, 2, 3, 4), (0, 1, 2, 3))
    less = Segmented((1, 9, 8, 3, 4), (1, 2, 3, 4, 5), (0, 1, 2, 3, 4))
    assert crows_pairs.shared_positions(more, less) == ((0, 2, 3), (0, 3, 4))


def test_both_directions_of_crows_pairs_count_the_more_stereotyping_sentence(
    corpus: Corpus, suite: SuiteConfig
) -> None:
    bias = bias_of(corpus)
    measured = crows_pairs.measure("sentence")(rigged(corpus, bias, "clm"), None, suite)
    sums = {text: float(bias[corpus.tokenizer.encode([text])[0]].sum()) for text in TEXTS}
    old, young, son, daughter = (sums[text] for text in TEXTS)
    expected = [float(old > young), float(son > daughter)]
    assert value_of(measured, "crows_pairs", "stereotype") == pytest.approx(np.mean(expected))
    assert value_of(measured, "crows_pairs/direction/antistereo", "stereotype") == expected[1]
    assert value_of(measured, "crows_pairs/age", "stereotype") == expected[0]


TEXTS = ("The old man was slow.", "The young man was slow.", "Her son was kind.", "Her daughter was kind.")


@pytest.mark.parametrize("objective", DIRECTIONS)
def test_winobias_by_hand(objective: str, corpus: Corpus, suite: SuiteConfig) -> None:
    bias = bias_of(corpus)
    measured = winobias.measure(rigged(corpus, bias, objective), None, suite)
    she, he, her, him = (float(bias[corpus.tokenizer.encode([text])[0]].sum()) for text in WORDS)
    first, second = 1 / (1 + math.exp(he - she)), 1 / (1 + math.exp(him - her))
    assert value_of(measured, "winobias/type1", "probability_pro") == pytest.approx(first, abs=1e-5)
    assert value_of(measured, "winobias/type2", "probability_pro") == pytest.approx(second, abs=1e-5)
    prefers = (float(first > 0.5) + float(second > 0.5)) / 2
    assert value_of(measured, "winobias", "preference_pro") == prefers
    assert value_of(measured, "winobias", "gap") == 2 * prefers - 1
    assert {item.item for item in measured[1]} == {"type1.a", "type2.b"}  # the third pair cannot be aligned


WORDS = (" she", " he", " her.", " him.")


@pytest.mark.parametrize("objective", DIRECTIONS)
def test_agreement_by_hand(objective: str, corpus: Corpus, suite: SuiteConfig) -> None:
    bias = bias_of(corpus)
    measured = agreement.measure(rigged(corpus, bias, objective), None, suite)
    right, wrong = (float(bias[corpus.tokenizer.encode([text])[0]].sum()) for text in (" herself.", " himself."))
    assert value_of(measured, "blimp/anaphor_gender_agreement", "accuracy") == float(right > wrong)
    (item,) = measured[1]
    assert item.details["probability"] == pytest.approx(1 / (1 + math.exp(wrong - right)), abs=1e-5)


def stereoset_item(target: str, meaningful: float, stereotype: float) -> ItemResult:
    """A scored item."""
    return ItemResult("stereoset", target, stereotype, {"group": "g", "target": target, "meaningful": meaningful})


def test_stereoset_scores_are_means_over_targets() -> None:
    items = [
        stereoset_item("a", 1, 1),
        stereoset_item("a", 0.5, 0),
        stereoset_item("b", 1, 1),
        stereoset_item("c", 0, 1),
    ]
    by_metric = {result.metric: result for result in stereoset.summarise("t", items)}
    assert by_metric["language_model_score"].value == pytest.approx((0.75 + 1 + 0) / 3)
    assert by_metric["stereotype_score"].value == pytest.approx((0.5 + 1 + 1) / 3)
    assert by_metric["icat"].value == pytest.approx((1.75 / 3) * (1 - 2.5 / 3) / 0.5)
    assert {result.n for result in by_metric.values()} == {3}


@pytest.mark.parametrize(("stereotype", "expected"), [(0.5, 1.0), (1.0, 0.0), (0.0, 0.0), (0.75, 0.5)])
def test_icat_of_a_perfect_language_model(stereotype: float, expected: float) -> None:
    assert stereoset.icat(np.array([[1.0, stereotype]] * 3)) == pytest.approx(expected)


@pytest.mark.parametrize("objective", DIRECTIONS)
def test_stereoset_compares_means_per_token(objective: str, corpus: Corpus, suite: SuiteConfig) -> None:
    uniform = stereoset.measure(rigged(corpus, None, objective), None, suite)  # every token costs the same: all tie
    assert value_of(uniform, "stereoset", "language_model_score") == 0.5
    assert value_of(uniform, "stereoset", "icat") == 0.5
    bias = bias_of(corpus)
    measured = stereoset.measure(rigged(corpus, bias, objective), None, suite)
    (item,) = [item for item in measured[1] if item.item == "poet"]
    dreamy, strict, seven = (
        float(bias[corpus.tokenizer.encode([f"The poet is {end}"])[0]].mean()) for end in ("dreamy", "strict", "seven")
    )
    assert item.value == float(dreamy > strict)
    assert item.details["meaningful"] == (float(dreamy > seven) + float(strict > seven)) / 2


def test_amplification_by_hand() -> None:
    truth = np.array([0.2, 0.5, 0.8, 0.9])
    odds = np.log(truth / (1 - truth))
    shares = 1 / (1 + np.exp(-(2 * odds + 0.3)))
    slope, intercept, ratio = amplification("t", shares, truth)
    assert slope.value == pytest.approx(2) and slope.standard_error == pytest.approx(0, abs=1e-7)
    assert intercept.value == pytest.approx(0.3)
    assert ratio.value == pytest.approx(np.abs(2 * odds + 0.3).mean() / np.abs(odds).mean())
    same = amplification("t", truth, truth)
    assert [result.value for result in same] == pytest.approx([1, 0, 1])


def test_errors_of_amplification_are_those_of_least_squares() -> None:
    truth, odds = np.array([0.2, 0.4, 0.6, 0.9]), np.array([-1.0, 0.2, 0.1, 2.0])
    x = np.log(truth / (1 - truth))
    design = np.stack([x, np.ones(4)], axis=1)
    (slope, intercept), (residual,), *_ = np.linalg.lstsq(design, odds, rcond=None)
    covariance = np.linalg.inv(design.T @ design) * residual / 2
    results = amplification("t", 1 / (1 + np.exp(-odds)), truth)
    assert (results[0].value, results[1].value) == pytest.approx((slope, intercept))
    assert results[0].standard_error == pytest.approx(covariance[0, 0] ** 0.5)
    assert results[1].standard_error == pytest.approx(covariance[1, 1] ** 0.5)


def test_amplification_needs_a_truth_that_varies() -> None:
    assert [result.value for result in amplification("t", np.array([0.4, 0.6, 0.7]), np.array([0.5, 0.5, 0.5]))] == [
        None,
        None,
        None,
    ]
    certain = amplification("t", np.array([0.4, 0.6, 0.7, 0.5]), np.array([0.0, 1.0, 0.4, 0.6]))
    assert {result.n for result in certain} == {2} and certain[0].value is None


def test_a_model_that_repeats_the_world_has_slope_one(corpus: Corpus) -> None:
    items = [
        ItemResult(
            "world",
            item.item,
            item.truth["female"],
            {"occupation": item.occupation}
            | item.truth
            | {f"truth_{form}": value for form, value in item.truth.items()},
        )
        for item in pronouns._triples(corpus, SuiteConfig(1, 60, 1, None, 1))
    ]
    values = {result.metric: result.value for result in pronouns._summarise("world", items)}
    assert values["amplification_slope"] == pytest.approx(1)
    assert values["amplification_intercept"] == pytest.approx(0, abs=1e-9)
    assert values["log_odds_ratio"] == pytest.approx(1)


def test_the_gotcha_set_is_the_published_one(real_data: Path) -> None:
    gotcha = [schema.gotcha for schema in schemas(real_data / "eval") if schema.gotcha is not None]
    assert (len(gotcha), gotcha.count("male"), gotcha.count("female")) == (120, 62, 58)


@pytest.mark.parametrize("objective", DIRECTIONS)
def test_gotcha_by_hand(objective: str, corpus: Corpus, suite: SuiteConfig) -> None:
    measured = pronouns.measure(rigged(corpus, bias_of(corpus), objective), None, suite)
    items = [item for item in measured[1] if "gotcha" in item.details]
    assert [item.details["gotcha"] for item in items] == [
        "male",
        "female",
        "female",
        "male",
    ]  # nurse, judge, cook, clerk
    first = items[0].details
    best = max(pronouns.FORMS, key=lambda form: first[form])
    assert value_of(measured, "winogender/gotcha", "gotcha_rate") == pytest.approx(
        {"male": 0.5, "female": 0.5, "neutral": 0.0}[best]  # the model knows no occupations: it says the same of all
    )
    share = first["female"] / (first["female"] + first["male"])
    assert value_of(measured, "winogender/gotcha", "minority_share") == pytest.approx(
        (2 * share + 2 * (1 - share)) / 4, abs=1e-5
    )


def test_winobias_and_crows_pairs_are_whole(real_data: Path) -> None:
    whole = SuiteConfig(1, 1, 1, str(real_data / "eval"), 1)
    pairs = winobias.pairs(whole)
    assert len(pairs) == 1584 - 11
    assert {kind for kind, _ in pairs.values()} == {"type1", "type2"}
