"""Every estimator against terms written out one forward pass at a time, for each way of reading a model."""

import random
import re
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

from ettin_core.data.corpus import Corpus
from ettin_core.data.world import fact_items
from ettin_core.evaluation import evaluated_model as evaluated_model_module
from ettin_core.evaluation import scoring
from ettin_core.evaluation.evaluated_model import EvaluatedModel
from ettin_core.evaluation.multiple_choice import corpus_world
from ettin_core.evaluation.requests import ScoringRequest, row_batches
from ettin_core.evaluation.scoring import Segmented, fill, left_to_right, pseudo_likelihood, segment
from ettin_core.model.config import AttentionSpec, ModelConfig
from ettin_core.model.transformer import Transformer
from ettin_core.records.readout import KNOWN

DIRECTIONS = {"clm": "causal", "mlm": "bidirectional", "mntp": "bidirectional"}
MASKED = ("mlm", "mntp")


def tiny(
    corpus: Corpus, objective: str = "clm", seed: int = 0, context: int = 64, batch_tokens: int = 8192
) -> EvaluatedModel:
    """A random model whose predictions are sharp and depend on all that it sees."""
    size = -(-corpus.tokenizer.vocab_size // 64) * 64
    model = Transformer(ModelConfig(size, 32, 4, 1, 48, local_window=2), seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter *= 8
    view = AttentionSpec(DIRECTIONS[objective], 160_000.0, 10_000.0)
    return EvaluatedModel(model, view, KNOWN[objective], corpus.tokenizer, context, "cpu", batch_tokens)


def rigged(
    corpus: Corpus, bias: torch.Tensor | None = None, objective: str = "clm", context: int = 64
) -> EvaluatedModel:
    """A model that predicts the same distribution everywhere: softmax of `bias`, or (None) uniform."""
    evaluated = tiny(corpus, objective, context=context)
    with torch.no_grad():
        evaluated.model.head.norm.weight.zero_()
        if bias is not None:
            evaluated.model.output_bias.copy_(bias)
    return evaluated


@torch.no_grad()
def answer(model: EvaluatedModel, row: Sequence[int], position: int, target: int) -> float:
    """log p(target) at one output position of one row, alone in its batch."""
    tokens = torch.tensor([list(row)])
    states = model.model(tokens, torch.zeros_like(tokens), torch.arange(len(row))[None], model.view)
    return float(model.model.logits(states[0]).double().log_softmax(-1)[position, target])


@pytest.fixture(scope="module")
def text() -> Segmented:
    """Three tokens; the first two are one word."""
    return Segmented(ids=(300, 411, 522), ends=(3, 5, 9), words=(0, 0, 1))


def test_left_to_right_of_a_causal_model(corpus: Corpus, text: Segmented) -> None:
    model, bos, (a, b, c) = tiny(corpus), corpus.tokenizer.special.bos, text.ids
    terms = [answer(model, (bos,), 0, a), answer(model, (bos, a), 1, b), answer(model, (bos, a, b), 2, c)]
    assert left_to_right(model, [text]) == pytest.approx([sum(terms)], abs=1e-5)
    assert left_to_right(model, [text], [(1, 2)]) == pytest.approx([sum(terms[1:])], abs=1e-5)


@pytest.mark.parametrize(("objective", "shift"), [("mlm", 0), ("mntp", 1)])
def test_left_to_right_of_a_masked_model(objective: str, shift: int, corpus: Corpus, text: Segmented) -> None:
    model, special, (a, b, c) = tiny(corpus, objective), corpus.tokenizer.special, text.ids
    bos, mask, eos = special.bos, special.mask, special.eos
    terms = [
        answer(model, (bos, mask, mask, mask, eos), 1 - shift, a),
        answer(model, (bos, a, mask, mask, mask, eos), 2 - shift, b),
        answer(model, (bos, a, b, mask, mask, mask, eos), 3 - shift, c),
    ]
    assert left_to_right(model, [text]) == pytest.approx([sum(terms)], abs=1e-5)
    assert left_to_right(model, [text], [(0, 2)]) == pytest.approx([terms[0] + terms[2]], abs=1e-5)


@pytest.mark.parametrize(("objective", "shift"), [("mlm", 0), ("mntp", 1)])
def test_pseudo_likelihood_hides_the_rest_of_the_word(
    objective: str, shift: int, corpus: Corpus, text: Segmented
) -> None:
    model, special, (a, b, c) = tiny(corpus, objective), corpus.tokenizer.special, text.ids
    bos, mask, eos = special.bos, special.mask, special.eos
    terms = [
        answer(model, (bos, mask, mask, c, eos), 1 - shift, a),
        answer(model, (bos, a, mask, c, eos), 2 - shift, b),
        answer(model, (bos, a, b, mask, eos), 3 - shift, c),
    ]
    assert pseudo_likelihood(model, [text]) == pytest.approx([sum(terms)], abs=1e-5)


@pytest.mark.parametrize(("objective", "shift"), [("mlm", 0), ("mntp", 1)])
def test_the_published_pseudo_likelihood_masks_one_token_alone(
    objective: str, shift: int, corpus: Corpus, text: Segmented
) -> None:
    model, special, (a, b, c) = tiny(corpus, objective), corpus.tokenizer.special, text.ids
    bos, mask, eos = special.bos, special.mask, special.eos
    terms = [
        answer(model, (bos, mask, b, c, eos), 1 - shift, a),
        answer(model, (bos, a, mask, c, eos), 2 - shift, b),
        answer(model, (bos, a, b, mask, eos), 3 - shift, c),
    ]
    assert pseudo_likelihood(model, [text], "token_pseudo_likelihood") == pytest.approx([sum(terms)], abs=1e-5)
    assert pseudo_likelihood(model, [text]) != pytest.approx([sum(terms)], abs=1e-2)


@pytest.mark.parametrize(("objective", "shift"), [("mlm", 0), ("mntp", 1)])
def test_fill_reveals_a_gap_from_left_to_right(objective: str, shift: int, corpus: Corpus, text: Segmented) -> None:
    model, special, (a, b, c) = tiny(corpus, objective), corpus.tokenizer.special, text.ids
    bos, mask, eos = special.bos, special.mask, special.eos
    gap = answer(model, (bos, mask, b, mask, eos), 1 - shift, a) + answer(model, (bos, a, b, mask, eos), 3 - shift, c)
    single = answer(model, (bos, a, mask, c, eos), 2 - shift, b)
    assert fill(model, [text], [[(0, 2)]]) == pytest.approx([gap], abs=1e-5)
    assert fill(model, [text, text], [[(1,)], [(0, 2), (1,)]]) == pytest.approx([single, gap + single], abs=1e-5)


def test_the_three_estimators_are_three_different_numbers(corpus: Corpus, text: Segmented) -> None:
    model = tiny(corpus, "mlm")
    scores = [
        left_to_right(model, [text])[0],
        pseudo_likelihood(model, [text])[0],
        fill(model, [text], [[(0, 1, 2)]])[0],
    ]
    assert min(abs(x - y) for x in scores for y in scores if x is not y) > 1e-2


def test_a_causal_model_fills_no_gaps(corpus: Corpus, text: Segmented) -> None:
    with pytest.raises(AssertionError, match="causal"):
        fill(tiny(corpus), [text], [[(0,)]])


def test_conditionals_of_a_causal_model_sum_to_the_whole(corpus: Corpus, text: Segmented) -> None:
    model = tiny(corpus)
    parts = left_to_right(model, [text] * 3, [(0,), (1,), (2,)])
    assert sum(parts) == pytest.approx(left_to_right(model, [text])[0], abs=1e-5)


def test_a_pseudo_likelihood_of_one_word_is_a_distribution_over_its_first_token(corpus: Corpus) -> None:
    model = tiny(corpus, "mlm")
    texts = [Segmented((token, 400), (1, 2), (0, 1)) for token in range(model.model.config.vocab_size)]
    total = torch.tensor(fill(model, texts, [[(0,)]] * len(texts))).logsumexp(0)
    assert float(total) == pytest.approx(0, abs=1e-5)


ESTIMATORS: dict[str, Callable[[EvaluatedModel, list[Segmented]], list[float]]] = {
    "left_to_right": left_to_right,
    "pseudo_likelihood": pseudo_likelihood,
}


@pytest.mark.parametrize(
    ("objective", "name"), [(o, n) for o in DIRECTIONS for n in ESTIMATORS if o in MASKED or n == "left_to_right"]
)
def test_scores_do_not_depend_on_batching(objective: str, name: str, corpus: Corpus) -> None:
    sentences = ["The nurse was late.", "A", "On Monday, the two old keys near the box were gone. She hid the map."]
    texts = [segment(corpus.tokenizer, sentence) for sentence in sentences]
    scores = [ESTIMATORS[name](tiny(corpus, objective, batch_tokens=size), texts) for size in (16, 200, 8192)]
    assert scores[0] == pytest.approx(scores[2], abs=1e-5)
    assert scores[1] == pytest.approx(scores[2], abs=1e-5)
    alone = [ESTIMATORS[name](tiny(corpus, objective), [text])[0] for text in texts]
    assert alone == pytest.approx(scores[2], abs=1e-5)


@pytest.mark.parametrize("budget", [1, 16, 200])
def test_batches_stay_within_their_budget(budget: int) -> None:
    rows = [(number,) * length for number, length in enumerate([3, 9, 4, 4, 30, 7, 3, 3])]
    batches = row_batches(rows, budget)
    assert [row for batch in batches for row in batch] == sorted(rows, key=len)
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(map(len, batch)) <= budget
    assert len(batches) == {1: 8, 16: 4, 200: 2}[budget]
    assert max(map(len, row_batches(rows, budget, most=2))) <= 2


def test_answers_come_back_in_the_order_of_the_questions(corpus: Corpus) -> None:
    model = tiny(corpus, batch_tokens=16)
    rows = [(1, 300, 301, 302), (1, 400), (1, 500, 501)]
    requests = [ScoringRequest(row, (0, len(row) - 2), (row[1], row[-1])) for row in rows]
    expected = [[answer(model, row, 0, row[1]), answer(model, row, len(row) - 2, row[-1])] for row in rows]
    for values, terms in zip(model.log_probabilities(requests), expected, strict=True):
        assert values == pytest.approx(terms, abs=1e-5)


def test_answers_say_whether_the_target_is_the_likeliest(corpus: Corpus) -> None:
    bias = torch.zeros(1024)
    bias[300] = 3.0
    ((_, right),) = rigged(corpus, bias).score_requests([ScoringRequest((1, 300, 301), (0, 1), (300, 301))])
    assert right.tolist() == [True, False]


def test_many_rows_are_counted_on_a_bar_where_one_is_wanted(
    corpus: Corpus, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(evaluated_model_module, "BAR_DELAY", 0.0)
    model = tiny(corpus)
    requests = [ScoringRequest((1, 300, token), (0,), (300,)) for token in (5, 6, 7, 7)]
    model.score_requests(requests)
    assert capsys.readouterr().err == ""
    model.shows_rows = True
    model.score_requests(requests)
    assert re.search(r"rows: .*/3 \[", capsys.readouterr().err)


def test_a_reading_without_questions_is_an_empty_answer(corpus: Corpus) -> None:
    assert tiny(corpus).sums([ScoringRequest((1, 300), (), ()), ScoringRequest((1,), (), ())]) == [0.0, 0.0]


def test_a_model_that_gives_no_numbers_is_an_error(corpus: Corpus, text: Segmented) -> None:
    model = tiny(corpus)
    with torch.no_grad():
        model.model.output_bias[7] = float("nan")
    with pytest.raises(ValueError, match="not finite"):
        left_to_right(model, [text])


@pytest.mark.parametrize(("objective", "position"), [("mlm", 5), ("mntp", 4), ("clm", 4)])
def test_read_position(objective: str, position: int, corpus: Corpus) -> None:
    assert tiny(corpus, objective).read_position(5) == position


WORDS = ("Zoë", "ate", "crème", "brûlée", "☃\N{PILE OF POO}", "再见。", "naïvely.")


def test_words_and_characters_of_many_bytes(corpus: Corpus) -> None:
    tokenizer = corpus.tokenizer
    text = segment(tokenizer, " ".join(WORDS))
    assert tokenizer.decode(text.ids) == " ".join(WORDS)
    assert max(text.words) == len(WORDS) - 1
    for number, word in enumerate(WORDS):
        places = text.tokens_of_words({number})
        assert tokenizer.decode(text.ids[place] for place in places).strip() == word
    assert text.ends == tuple(sorted(text.ends)) and text.ends[-1] == len(" ".join(WORDS))


@pytest.mark.parametrize("number", range(1, len(WORDS)))
def test_an_option_of_many_bytes_is_cut_at_its_edges(number: int, corpus: Corpus) -> None:
    tokenizer = corpus.tokenizer
    prefix, option = " ".join(WORDS[:number]), f" {WORDS[number]}"
    text = segment(tokenizer, f"{prefix}{option} and so on.")
    places = text.tokens_between(len(prefix), len(prefix + option))
    assert tokenizer.decode(text.ids[place] for place in places) == option


def test_an_option_can_begin_the_text(corpus: Corpus) -> None:
    text = segment(corpus.tokenizer, "The nurse was late.")
    places = text.tokens_between(0, 3)
    assert corpus.tokenizer.decode(text.ids[place] for place in places) == "The"
    assert text.tokens_between(3, text.ends[-1]) == tuple(range(len(places), len(text.ids)))


def test_the_gap_of_a_fact_holds_exactly_its_option(corpus: Corpus) -> None:
    world = corpus_world(corpus)
    assert world is not None
    for item in fact_items(world, 12):
        for option in item.choices:
            text = segment(corpus.tokenizer, item.prefix + option + item.suffix)
            places = text.tokens_between(len(item.prefix), len(item.prefix + option))
            assert corpus.tokenizer.decode(text.ids[place] for place in places) == option


def test_white_space_at_the_edges_belongs_to_a_word(corpus: Corpus) -> None:
    text = segment(corpus.tokenizer, "  The  nurse\n")
    assert set(text.words) == {0, 1}
    assert sorted(text.tokens_of_words({0}) + text.tokens_of_words({1})) == list(range(len(text.ids)))


class Watched(str):
    """A text that counts the characters of the pieces cut out of it."""

    cut = 0

    def __getitem__(self, key: Any) -> str:
        piece = super().__getitem__(key)
        Watched.cut += len(piece)
        return piece


class Listed(tuple[int, ...]):
    """Numbers that count how often they are gone through."""

    passes = 0

    def __iter__(self) -> Any:
        Listed.passes += 1
        return super().__iter__()


def test_words_are_numbered_as_white_space_divides_the_text_before_each_token(corpus: Corpus) -> None:
    draw = random.Random(3)
    words = ["The", "key", "é", "👩‍👧", "[MASK]", "."]
    blanks = [" ", "  ", "\n", "\t", "\u00a0", "\u2003", "\x1d", "\r\n", "\u200b"]
    pieces = words + blanks
    texts = ["", " ", "\n\t ", *("".join(draw.choices(pieces, k=draw.randrange(1, 40))) for _ in range(300))]
    for text in texts:
        segmented = segment(corpus.tokenizer, text)
        assert segmented.words == tuple(max(0, len(text[:end].split()) - 1) for end in segmented.ends), repr(text)


def test_a_long_text_is_gone_through_once(corpus: Corpus) -> None:
    long = Watched("The keys near the cabinets are dry. " * 200)
    text = segment(corpus.tokenizer, long)
    assert Watched.cut <= 2 * len(long)
    watched = Segmented(text.ids, text.ends, Listed(text.words))
    Listed.passes = 0
    model = tiny(corpus, "mlm")
    assert len(scoring._pseudo_likelihood(model, watched, tuple(range(len(text.ids))))) == len(text.ids)
    assert Listed.passes <= 2
