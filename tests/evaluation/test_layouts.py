"""Rows that share their beginning answer as they would alone, and are found where the layout says they are."""

import random
from collections.abc import Sequence

import numpy as np
import pytest

from ettin_core.data.corpus import Corpus
from ettin_core.evaluation.evaluated_model import EvaluatedModel
from ettin_core.evaluation.layouts import LONGEST, Layout, Row, alone, sharing
from ettin_core.evaluation.requests import ScoringRequest
from ettin_core.evaluation.scoring import left_to_right, score, segment, split_pair
from ettin_core.model.config import ModelConfig
from ettin_core.records.readout import readout_named
from tests.evaluation.test_estimators import tiny

BOS = 1
CONFIG = ModelConfig(1024, 32, 4, 1, 48, local_window=2)
CONTEXT = "On Monday, the two old keys near the box were"


def grown(seed: int, count: int) -> list[Row]:
    """Different rows, many of which go on from a part of another."""
    draw = random.Random(seed)
    rows: list[Row] = [(BOS,)]
    while len(rows) < count:
        stem = draw.choice(rows)
        row = (*stem[: draw.randint(1, len(stem))], *(draw.randrange(5, 9) for _ in range(draw.randrange(12))))
        rows += [row] if row not in rows else []
    return rows


@pytest.mark.parametrize("seed", range(5))
def test_every_row_is_found_in_one_layout(seed: int) -> None:
    rows = grown(seed, 60)
    layouts = sharing(rows, CONFIG, BOS)
    assert sorted(row for layout in layouts for row in layout.rows) == sorted(rows)
    assert sum(map(len, layouts)) < 0.8 * sum(map(len, rows))
    for layout in layouts:
        ids, positions, branches = (np.array(part) for part in (layout.ids, layout.positions, layout.branches))
        assert len(ids) == len(positions) == len(branches) == len(layout)
        for number, row in enumerate(layout.rows):
            places = layout.places(number, range(len(row)))
            assert tuple(ids[places]) == row and tuple(positions[places]) == tuple(range(len(row)))
            assert set(branches[places]) <= {0, number + 1}


def test_what_gains_nothing_is_laid_out_alone() -> None:
    unlike = [(BOS, *range(first, first + 20)) for first in range(5, 500, 30)]
    assert all(len(layout.rows) == 1 for layout in sharing(unlike, CONFIG, BOS))
    long = [(BOS, *[7] * 200, *[option] * 900) for option in (8, 9)]  # all pairs cost more than a few tokens twice
    assert all(len(layout.rows) == 1 for layout in sharing(long, CONFIG, BOS))
    documents = [(BOS, *[7] * 20, BOS, option) for option in (8, 9)]
    assert all(len(layout.rows) == 1 for layout in sharing(documents, CONFIG, BOS))


def test_many_rows_of_one_beginning_are_no_endless_row() -> None:
    layouts = sharing([(BOS, *[7] * 90, *divmod(option, 100)) for option in range(2000)], CONFIG, BOS)
    assert max(map(len, layouts)) <= LONGEST and sum(map(len, layouts)) < 2000 * 8


def both_ways(model: EvaluatedModel, requests: Sequence[ScoringRequest]) -> tuple[list, list]:
    """The answers with shared beginnings, and without."""
    assert model.shares_beginnings
    shared = model.score_requests(requests)
    model.shares_beginnings = False
    return shared, model.score_requests(requests)


@pytest.mark.parametrize("batch_tokens", [64, 8192])
def test_shared_beginnings_change_no_answer(corpus: Corpus, batch_tokens: int) -> None:
    model = tiny(corpus, batch_tokens=batch_tokens)
    rows = grown(7, 80)
    requests = [ScoringRequest(row, (len(row) - 1, 0), (300, row[-1])) for row in rows]
    requests += [ScoringRequest(row, tuple(range(len(row))), row) for row in rows[::3]]
    assert any(len(layout.rows) > 2 for layout in model._lay_out(rows))
    for (values, hits), (expected, expected_hits) in zip(*both_ways(model, requests), strict=True):
        assert values == pytest.approx(expected, abs=1e-5) and (hits == expected_hits).all()


QUESTIONS = {
    "options": (CONTEXT, [" dry.", " gone.", " near the cabinets.", " gone. She hid the map."]),
    "empty context": ("", ["The keys are dry.", "The keys is dry."]),
    "longer than the window": (" ".join([CONTEXT] * 12), [" dry.", " gone.", " near the cabinets."]),
    "options longer than the window": (CONTEXT, [" gone" * 80, " gone" * 80 + " dry"]),
    "one option": (CONTEXT, [" gone."]),
    "one token": (CONTEXT, ["a", "b", "c"]),
    "fused": (CONTEXT[:-2], ["re gone.", "re dry."]),
    "equal options": (CONTEXT, [" gone.", " gone."]),
}


@pytest.mark.parametrize("ahead", [1, 2])
@pytest.mark.parametrize("case", QUESTIONS)
def test_options_score_as_each_alone(corpus: Corpus, case: str, ahead: int) -> None:
    context, options = QUESTIONS[case]
    model = tiny(corpus)
    model.readout = readout_named("clm" if ahead == 1 else "ahead2")
    pairs = [split_pair(corpus.tokenizer, context, option) for option in options]
    texts, positions = [pair.text for pair in pairs], [pair.positions for pair in pairs]
    shared = score(model, texts, positions)
    model.shares_beginnings = False
    for ours, text, scored in zip(shared, texts, positions, strict=True):
        (expected,) = score(model, [text], [scored])
        assert ours.log_probability == pytest.approx(expected.log_probability, abs=1e-5 * max(1, expected.tokens))
        assert (ours.tokens, ours.greedy) == (expected.tokens, expected.greedy)


def test_a_minimal_pair_computes_fewer_tokens(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    model, computed = tiny(corpus), []
    states_of = EvaluatedModel._states_of
    monkeypatch.setattr(
        EvaluatedModel, "_states_of", lambda *given: (computed.append(sum(map(len, given[1]))), states_of(*given))[1]
    )
    texts = [segment(corpus.tokenizer, f"{CONTEXT} {end}") for end in ("gone.", "dry now.")]
    shared = left_to_right(model, texts)
    model.shares_beginnings = False
    assert left_to_right(model, texts) == pytest.approx(shared, abs=1e-5)
    assert computed[0] < 0.7 * computed[1]


def test_only_causal_models_of_ours_share(corpus: Corpus) -> None:
    rows = [(BOS, *[7] * 20, option) for option in (8, 9)]
    assert tiny(corpus, "mlm")._lay_out(rows) == tiny(corpus, "mntp")._lay_out(rows) == alone(rows)
    assert tiny(corpus)._lay_out(rows) == [Layout(tuple(rows), 21)]
