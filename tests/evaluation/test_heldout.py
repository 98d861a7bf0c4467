"""Held-out loss against models whose loss is known in closed form, and masks that are the same for every model."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from ettin_core.data.config import DataConfig
from ettin_core.data.corpus import Corpus
from ettin_core.data.preparation.prepare import prepare
from ettin_core.evaluation import heldout
from ettin_core.evaluation.evaluated_model import EvaluatedModel
from ettin_core.evaluation.multiple_choice import corpus_world
from ettin_core.evaluation.protocol import Result
from ettin_core.evaluation.requests import ScoringRequest
from ettin_core.evaluation.suite_config import SuiteConfig
from tests.evaluation.test_estimators import answer, rigged, tiny

WHOLE = SuiteConfig(10**9, 4, 1, None, 8192)
SMALL = SuiteConfig(2000, 4, 1, None, 8192)


def by_metric(results: list[Result]) -> dict[str, Result]:
    """Results by the name of their metric."""
    return {result.metric: result for result in results}


def asked(model: EvaluatedModel, corpus: Corpus, suite: SuiteConfig, masked: bool) -> list[list[ScoringRequest]]:
    """What a model is asked about each document."""
    documents = heldout.held_out(corpus, suite)
    return [heldout._pieces(model, ids, number, masked) for number, ids in enumerate(documents)]


def unigram(corpus: Corpus) -> torch.Tensor:
    """Log-probabilities of the tokens as counted on the validation split itself."""
    tokens = np.concatenate(corpus.documents("test"))
    tokens = tokens[tokens != corpus.tokenizer.special.bos]
    counts = torch.from_numpy(np.bincount(tokens, minlength=1024)).float()
    return (counts + 1e-6).log().log_softmax(-1)


@pytest.mark.parametrize("context", [8, 33, 4096])
def test_uniform_causal_model_in_closed_form(context: int, corpus: Corpus) -> None:
    entry = corpus.manifest["sources"]["world"]["test"]
    predicted = entry["tokens"] - entry["documents"]
    results, items = heldout.measure_clm(rigged(corpus, context=context), corpus, WHOLE)
    metrics = by_metric(results)
    assert {result.n for result in results} == {predicted}
    assert metrics["loss"].value == pytest.approx(math.log(1024), rel=1e-6)
    assert metrics["bits_per_token"].value == pytest.approx(10, rel=1e-6)
    assert metrics["bits_per_byte"].value == pytest.approx(10 * predicted / entry["bytes"], rel=1e-6)
    assert metrics["loss"].standard_error == pytest.approx(0, abs=1e-5)
    assert not any(result.higher_is_better for result in results)
    assert len(items) == entry["documents"]
    assert sum(item.details["tokens"] for item in items) == predicted


@pytest.mark.parametrize("context", [8, 33, 4096])
def test_unigram_causal_model_in_closed_form(context: int, corpus: Corpus) -> None:
    bias = unigram(corpus)
    documents = corpus.documents("test")
    costs = [-float(bias[ids[1:]].double().sum()) for ids in documents]
    sizes = [len(ids) - 1 for ids in documents]
    result = by_metric(heldout.measure_clm(rigged(corpus, bias, context=context), corpus, WHOLE)[0])["loss"]
    assert result.value == pytest.approx(sum(costs) / sum(sizes), rel=1e-6)
    ratio = sum(costs) / sum(sizes)
    residuals = [(cost - ratio * size) ** 2 for cost, size in zip(costs, sizes, strict=True)]
    spread = sum(residuals) * len(sizes) / (len(sizes) - 1)
    assert result.standard_error == pytest.approx(spread**0.5 / sum(sizes), rel=1e-4)


@pytest.mark.parametrize("context", [8, 33, 4096])
def test_every_token_but_bos_is_predicted_once(context: int, corpus: Corpus) -> None:
    documents = heldout.held_out(corpus, SMALL)
    for ids, readings in zip(documents, asked(tiny(corpus, context=context), corpus, SMALL, False), strict=True):
        assert max(len(reading.ids) for reading in readings) <= context
        assert [target for reading in readings for target in reading.targets] == ids[1:].tolist()
        for reading in readings:
            assert [reading.ids[at + 1] for at in reading.reads] == list(reading.targets)


def test_loss_of_a_document_longer_than_the_context(corpus: Corpus) -> None:
    model = tiny(corpus, context=8)
    ids = corpus.documents("test")[0][:18].tolist()
    rows = [ids[0:8], ids[7:15], ids[14:18]]
    expected = -sum(answer(model, row, at, row[at + 1]) for row in rows for at in range(len(row) - 1))
    counts, losses, _ = heldout._losses(model, [np.array(ids)], masked=False)
    assert counts.tolist() == [17]
    assert losses[0] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(("objective", "shift"), [("mlm", 0), ("mntp", 1)])
def test_masked_loss_of_one_document(objective: str, shift: int, corpus: Corpus) -> None:
    model = tiny(corpus, objective, context=4096)
    ids = corpus.documents("test")[0]
    ((reading,),) = [heldout._pieces(model, ids, 0, True)]
    places = [place for place, token in enumerate(reading.ids) if token == corpus.tokenizer.special.mask]
    row = [corpus.tokenizer.special.mask if place in places else int(ids[place]) for place in range(len(ids))]
    expected = -sum(answer(model, row, place - shift, int(ids[place])) for place in places)
    counts, losses, _ = heldout._losses(model, [ids], masked=True)
    assert counts.tolist() == [len(places)]
    assert losses[0] == pytest.approx(expected, abs=1e-4)


def test_the_same_tokens_are_masked_for_every_model(corpus: Corpus) -> None:
    models = [tiny(corpus, "mlm"), tiny(corpus, "mlm", 1, context=9), tiny(corpus, "mntp", 2, context=33)]
    targets = [
        [[target for reading in readings for target in reading.targets] for readings in asked(m, corpus, WHOLE, True)]
        for m in models
    ]
    assert targets[0] == targets[1] == targets[2]
    eligible = sum(len(ids) - 2 for ids in corpus.documents("test"))
    share = sum(map(len, targets[0])) / eligible
    assert abs(share - 0.15) < 4 * (0.15 * 0.85 / eligible) ** 0.5


def test_equal_documents_are_not_masked_alike(corpus: Corpus) -> None:
    model, ids = tiny(corpus, "mlm", context=4096), max(corpus.documents("test"), key=len)
    first, second, again = (heldout._pieces(model, ids, number, True)[0] for number in (0, 1, 0))
    assert first == again != second


@pytest.mark.parametrize("objective", ["mlm", "mntp"])
def test_a_masked_token_is_hidden_and_read_where_the_objective_says(objective: str, corpus: Corpus) -> None:
    model, mask = tiny(corpus, objective, context=16), corpus.tokenizer.special.mask
    readings = [reading for document in asked(model, corpus, SMALL, True) for reading in document]
    for reading in readings:
        predicted = [at if objective == "mlm" else at + 1 for at in reading.reads]
        assert predicted == [place for place, token in enumerate(reading.ids) if token == mask and place > 0]
    assert not {t for reading in readings for t in reading.targets} & set(corpus.tokenizer.special.ids)


@pytest.mark.parametrize("objective", ["mlm", "mntp"])
def test_masked_measures_of_rigged_models(objective: str, corpus: Corpus) -> None:
    bias = unigram(corpus)
    best = 17 + int(bias[17:].argmax())
    bias[best] = bias.max() + 1  # EOS is more frequent but is never masked
    bias = bias.log_softmax(-1)
    model = rigged(corpus, bias, objective, context=24)
    labels = [t for document in asked(model, corpus, WHOLE, True) for r in document for t in r.targets]
    results, items = heldout.measure_mlm(model, corpus, WHOLE)
    metrics = by_metric(results)
    assert metrics["loss"].n == metrics["accuracy"].n == len(labels) == sum(item.details["tokens"] for item in items)
    assert metrics["loss"].value == pytest.approx(-float(bias[labels].double().mean()), rel=1e-6)
    assert metrics["accuracy"].value == pytest.approx(labels.count(best) / len(labels), abs=1e-12)
    text = np.concatenate([ids[1:-1] for ids in corpus.documents("test")])
    assert metrics["accuracy"].reference == pytest.approx(float((text == best).mean()), abs=1e-12)
    assert metrics["accuracy"].value == pytest.approx(
        metrics["accuracy"].reference, abs=4 * metrics["accuracy"].standard_error
    )


def test_uniform_masked_model_costs_log_vocabulary(corpus: Corpus) -> None:
    metrics = by_metric(heldout.measure_mlm(rigged(corpus, None, "mlm"), corpus, SMALL)[0])
    assert metrics["loss"].value == pytest.approx(math.log(1024), rel=1e-6)


@pytest.mark.parametrize("objective", ["clm", "mlm", "mntp"])
def test_heldout_does_not_depend_on_batching(objective: str, corpus: Corpus) -> None:
    measure = heldout.measure_clm if objective == "clm" else heldout.measure_mlm
    first, second, third = (
        [result.value for result in measure(tiny(corpus, objective, batch_tokens=size), corpus, SMALL)[0]]
        for size in (16, 200, 8192)
    )
    assert first == pytest.approx(third, abs=1e-5)
    assert second == pytest.approx(third, abs=1e-5)


def test_entropy_reference_is_the_generators(corpus: Corpus) -> None:
    world = corpus_world(corpus)
    assert world is not None
    documents = corpus.documents("test")
    nats = -sum(document.log_probability for document in world.documents("test", len(documents)))
    predicted = sum(len(ids) - 1 for ids in documents)
    results, _ = heldout.measure_clm(rigged(corpus), corpus, WHOLE)
    assert by_metric(results)["bits_per_token"].reference == pytest.approx(nats / math.log(2) / predicted, rel=1e-9)
    assert by_metric(results)["loss"].reference is None


def test_no_model_beats_the_generator(corpus: Corpus) -> None:
    for model in (rigged(corpus), rigged(corpus, unigram(corpus)), tiny(corpus)):
        result = by_metric(heldout.measure_clm(model, corpus, WHOLE)[0])["bits_per_token"]
        assert result.value is not None and result.reference is not None
        assert 0 < result.reference < result.value


def test_ratio_and_its_error_by_hand() -> None:
    result = heldout.ratio("t", "m", np.array([2.0, 6.0]), np.array([1.0, 2.0]), 3, False)
    assert result.value == pytest.approx(8 / 3)
    assert result.standard_error == pytest.approx(4 / 9)  # residuals -2/3 and 2/3: sqrt(2 * 8/9) / 3


def test_ratio_error_agrees_with_the_bootstrap() -> None:
    generator = np.random.default_rng(0)
    weights = generator.integers(5, 60, 400).astype(float)
    sums = weights * generator.normal(3, 0.5, 400) + generator.normal(0, 2, 400)
    drawn = generator.integers(0, 400, (4000, 400))
    spread = (sums[drawn].sum(1) / weights[drawn].sum(1)).std()
    assert heldout.ratio("t", "m", sums, weights, 1, False).standard_error == pytest.approx(spread, rel=0.05)


def test_one_document_has_no_error_and_none_no_value() -> None:
    assert heldout.ratio("t", "m", np.array([2.0]), np.array([4.0]), 4, False).standard_error is None
    nothing = heldout.ratio("t", "m", np.array([0.0, 0.0]), np.array([0.0, 0.0]), 0, False)
    assert nothing.value is None and nothing.standard_error is None
    assert heldout.ratio_items("t", np.zeros(2), np.zeros(2), np.ones(2)) == []


def test_items_of_a_ratio_by_hand() -> None:
    items = heldout.ratio_items("t", np.array([1.0, 2.0, 0.0]), np.array([2.0, 6.0, 0.0]), np.ones(3))
    assert [item.value for item in items] == pytest.approx([8 / 3 - 2 / 3, 8 / 3 + 2 / 3, 8 / 3])
    assert [item.details["loss"] for item in items] == [2, 3, 0]


def test_documents_are_whole_and_within_the_limit(corpus: Corpus) -> None:
    everything = corpus.documents("test")
    chosen = heldout.held_out(corpus, SMALL)
    tokens = sum(map(len, chosen))
    assert tokens <= 2000 < tokens + len(everything[len(chosen)])
    assert all(np.array_equal(ids, whole) for ids, whole in zip(chosen, everything, strict=False))
    (first,) = heldout.held_out(corpus, SuiteConfig(1, 1, 1, None, 16))
    assert np.array_equal(first, everything[0])


@pytest.fixture(scope="module")
def text_corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """A little text with letters of two bytes and no known truth."""
    root = tmp_path_factory.mktemp("text")
    for split, count in (("train", 6), ("validation", 1), ("test", 3)):
        rows = [json.dumps({"id": str(n), "text": f"Zoë là {n} fois. " * (n + 1)}) for n in range(count)]
        (root / f"notes.{split}.jsonl").write_text("\n".join(rows))
    return prepare(DataConfig(kind="text", name="notes", path=str(root), vocab_size=320), root / "prepared")


def test_bits_per_byte_counts_bytes_and_the_truth_stays_unknown(text_corpus: Corpus) -> None:
    texts = [f"Zoë là {n} fois. " * (n + 1) for n in range(3)]
    predicted = sum(len(ids) - 1 for ids in text_corpus.documents("test"))
    model = rigged(text_corpus)
    metrics = by_metric(heldout.measure_clm(model, text_corpus, WHOLE)[0])
    bits = math.log2(model.model.config.vocab_size) * predicted
    assert metrics["bits_per_byte"].value == pytest.approx(bits / sum(len(t.encode()) for t in texts), rel=1e-6)
    assert metrics["bits_per_token"].reference is None


def test_error_of_bits_per_byte_is_over_bytes(text_corpus: Corpus) -> None:
    documents = text_corpus.documents("test")
    model = rigged(text_corpus)
    bits = np.array([math.log2(model.model.config.vocab_size) * (len(ids) - 1) for ids in documents])
    sizes = np.array([len(text_corpus.tokenizer.decode(ids).encode()) for ids in documents])
    residuals = bits - bits.sum() / sizes.sum() * sizes
    expected = (residuals @ residuals * 3 / 2) ** 0.5 / sizes.sum()
    result = by_metric(heldout.measure_clm(model, text_corpus, WHOLE)[0])["bits_per_byte"]
    assert result.standard_error == pytest.approx(expected, rel=1e-4)
    assert expected > 1e-3


def test_suite_rejects_numbers_below_one_and_missing_folders(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="suite.items=0 is not positive"):
        SuiteConfig(1, 0, 1, None, 1)
    with pytest.raises(ValueError, match="is not a folder"):
        SuiteConfig(1, 1, 1, str(tmp_path / "absent"), 1)
