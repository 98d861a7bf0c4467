"""Reading orders: each is a distribution, none hides behind another's name, and any member reads the same text."""

import itertools
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from ettin_core.data.corpus import Corpus
from ettin_core.data.tokenizer import SpecialTokens
from ettin_core.evaluation import likelihood
from ettin_core.evaluation.evaluated_model import EvaluatedModel
from ettin_core.evaluation.likelihood import along, any_order, conditionals, in_order, measure_any_order
from ettin_core.evaluation.protocol import Result
from ettin_core.evaluation.scoring import Segmented, left_to_right
from ettin_core.evaluation.suite_config import SuiteConfig
from ettin_core.model.config import AttentionSpec, ModelConfig
from ettin_core.model.transformer import Transformer
from ettin_core.records.readout import KNOWN
from tests.evaluation.test_estimators import rigged, tiny

SUITE = SuiteConfig(15_000, 4, 1, None, 8192)
VOCABULARY = 8


def toy(objective: str) -> EvaluatedModel:
    """A random model over eight tokens, five of them special, whose predictions are sharp and depend on all that it sees."""
    model = Transformer(ModelConfig(VOCABULARY, 32, 4, 1, 48, local_window=2), 3)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter *= 6
    special = SpecialTokens(unknown=3, bos=0, eos=1, pad=2, mask=4)
    tokenizer = SimpleNamespace(special=special, vocab_size=VOCABULARY)
    direction = "causal" if objective == "clm" else "bidirectional"
    view = AttentionSpec(direction, 160_000.0, 10_000.0)
    return EvaluatedModel(model, view, KNOWN[objective], tokenizer, 16, "cpu", 8192)


@pytest.mark.parametrize("objective", ["mlm", "mntp"])
def test_every_order_sums_to_one_over_all_texts(objective: str) -> None:
    model = toy(objective)
    texts = list(itertools.product(range(VOCABULARY), repeat=3))
    tables = [conditionals(model, ids) for ids in texts]
    assert sum(math.exp(any_order(table)) for table in tables) == pytest.approx(1, abs=1e-5)
    assert sum(math.exp(along(table, [2, 0, 1])) for table in tables) == pytest.approx(1, abs=1e-5)
    confident = likelihood.most_confident_first(model, texts)
    assert sum(map(math.exp, confident)) == pytest.approx(1, abs=1e-5)
    orders = {tuple(round(along(table, list(o)), 4) for o in itertools.permutations(range(3))) for table in tables}
    assert max(max(totals) - min(totals) for totals in orders) > 0.1  # orders do differ
    assert max(abs(a - along(t, range(3))) for a, t in zip(confident, tables, strict=True)) > 0.1


def test_any_order_is_the_mean_over_all_orders() -> None:
    model, ids = toy("mlm"), (5, 6, 7, 5)
    table = conditionals(model, ids)
    each = [math.exp(along(table, list(order))) for order in itertools.permutations(range(4))]
    assert math.exp(any_order(table)) == pytest.approx(np.mean(each), rel=1e-9)
    assert table.shape == (16, 4) and np.isnan(table[5]).tolist() == [True, False, True, False]
    with pytest.raises(ValueError, match="give texts of up to 12 tokens"):
        conditionals(model, (5,) * 13)


def test_the_surest_token_is_revealed_first(corpus: Corpus) -> None:
    model = tiny(corpus, "mlm")
    texts = [tuple(ids[1:6].tolist()) for ids in corpus.documents("test")[:3]]
    special = corpus.tokenizer.special
    for ids, value in zip(texts, likelihood.most_confident_first(model, texts), strict=True):
        hidden, total = set(range(len(ids))), 0.0
        while hidden:
            row = [special.bos, *(special.mask if p in hidden else t for p, t in enumerate(ids)), special.eos]
            tokens = torch.tensor([row])
            with torch.no_grad():
                states = model.model(tokens, torch.zeros_like(tokens), torch.arange(len(row))[None], model.view)
                scores = model.model.logits(states[0]).double().log_softmax(-1)
            place = max(sorted(hidden), key=lambda at: float(scores[at + 1].max()))
            total += float(scores[place + 1, ids[place]])
            hidden.remove(place)
        assert value == pytest.approx(total, abs=1e-3)


def by_metric(results: list[Result]) -> dict[str, Result]:
    """Results by metric."""
    return {result.metric: result for result in results}


@pytest.mark.parametrize("objective", ["clm", "mlm", "mntp"])
def test_uniform_members_have_one_likelihood(objective: str, corpus: Corpus) -> None:
    orders = ["left_to_right"] + ([] if objective == "clm" else ["most_confident_first"])
    for order in orders:
        results, items = in_order(order)(rigged(corpus, None, objective), corpus, SUITE)
        [result] = results
        tokens, size = (sum(item.details[name] for item in items) for name in ("tokens", "bytes"))
        assert result.value == pytest.approx(tokens * 10 / size, rel=1e-5) and result.n == tokens
        assert result.standard_error is not None and len(items) == 7
    if objective != "clm":
        metrics = by_metric(measure_any_order(rigged(corpus, None, objective), corpus, SUITE)[0])
        assert metrics["left_to_right_excess"].value == pytest.approx(0, abs=1e-5)


def test_left_to_right_is_the_scoring_of_each_kind(corpus: Corpus) -> None:
    for objective in ("clm", "mlm"):
        model = tiny(corpus, objective)
        results, items = in_order("left_to_right")(model, corpus, SUITE)
        beginnings = likelihood.beginnings(model, corpus, SUITE, likelihood.LENGTH, 7)
        values = left_to_right(model, [Segmented(ids, (), ()) for ids in beginnings.texts])
        assert results[0].value == pytest.approx(-sum(values) / math.log(2) / beginnings.sizes.sum(), rel=1e-6)
        assert [item.details["bytes"] for item in items] == beginnings.sizes.tolist()
        assert max(map(len, beginnings.texts)) <= likelihood.LENGTH + 2


def test_distances_of_orders_add_up(corpus: Corpus) -> None:
    model = tiny(corpus, "mlm")
    metrics = by_metric(measure_any_order(model, corpus, SUITE)[0])
    beginnings = likelihood.beginnings(model, corpus, SUITE, likelihood.SHORT, 2, likelihood.LONGEST)
    confident = -sum(likelihood.most_confident_first(model, beginnings.texts)) / math.log(2) / beginnings.sizes.sum()
    excess = metrics["most_confident_first_excess"].value
    assert excess is not None and metrics["bits_per_byte"].value is not None
    assert metrics["bits_per_byte"].value + excess == pytest.approx(confident, rel=1e-5)
