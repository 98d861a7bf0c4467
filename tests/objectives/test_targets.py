"""Objectives: what is corrupted, where predictions are read, what is scored, and on what that may depend."""

import copy
from dataclasses import fields

import numpy as np
import pytest

from ettin_core.data.batch_schedule import BatchSchedule
from ettin_core.data.corpus import Corpus
from ettin_core.data.loader import Batch, Loader, pack
from ettin_core.data.tokenizer import SpecialTokens
from ettin_core.objectives.config import ObjectiveConfig, check_well_posed
from ettin_core.objectives.kinds import OBJECTIVES
from ettin_core.objectives.targets import Masking, Vocabulary, mask_key, select
from tests.runs import targets_of

MASKED = ("mlm", "mntp")

UNK, BOS, EOS, PAD, MASK = range(5)
VOCABULARY = Vocabulary(1000, SpecialTokens(UNK, BOS, EOS, PAD, MASK))
KEY = mask_key(21, "pretrain")


def random_batch(rows: int, width: int = 256, first: int = 0) -> Batch:
    """Rows of several documents of random ordinary tokens, each row with some padding at its end."""
    generator = np.random.default_rng(first)
    texts = []
    for _ in range(rows):
        lengths = generator.integers(1, 60, size=6)
        pieces = [[BOS, *generator.integers(5, 1000, size=length), EOS] for length in lengths]
        texts.append(np.array(sum(pieces, []))[: width - 3])
    return pack(texts, np.arange(first, first + rows), BOS, PAD, width)


def part(batch: Batch, begin: int, end: int) -> Batch:
    """Some rows of a batch."""
    return Batch(*(getattr(batch, field.name)[begin:end] for field in fields(Batch)))


def within(share: float, expected: float, count: int, sigmas: float = 4) -> bool:
    """Whether an observed share fits a binomial with that expectation."""
    return abs(share - expected) < sigmas * (expected * (1 - expected) / count) ** 0.5


LARGE = random_batch(1000)
ORDINARY = LARGE.real & ~np.isin(LARGE.tokens, VOCABULARY.special.ids)


@pytest.mark.parametrize("rate", [0.05, 0.15, 0.3])
def test_the_share_of_selected_tokens_is_the_rate(rate: float) -> None:
    _, selected = select(LARGE, VOCABULARY, Masking(rate), KEY)
    assert within(selected[ORDINARY].mean(), rate, ORDINARY.sum())


def test_selected_tokens_split_into_mask_random_and_kept() -> None:
    inputs, selected = select(LARGE, VOCABULARY, Masking(0.3), KEY)
    count = selected.sum()
    masked = inputs[selected] == MASK
    kept = inputs[selected] == LARGE.tokens[selected]
    # a random id is by chance the mask token or the token that stood there
    assert within(masked.mean(), 0.8 + 0.1 / 1000, count)
    assert within(kept.mean(), 0.1 + 0.1 / 1000, count)
    random_ids = inputs[selected & (inputs != MASK) & (inputs != LARGE.tokens)]
    assert within(len(random_ids) / count, 0.1 * 998 / 1000, count)
    assert random_ids.min() >= 0 and random_ids.max() < 1000
    assert abs(random_ids.mean() - 499.5) < 4 * 1000 / (12 * len(random_ids)) ** 0.5


@pytest.mark.parametrize(("mask_share", "random_share"), [(1.0, 0.0), (0.0, 1.0), (0.0, 0.0)])
def test_other_shares_are_followed_exactly(mask_share: float, random_share: float) -> None:
    inputs, selected = select(LARGE, VOCABULARY, Masking(0.3, mask_share, random_share), KEY)
    changed = (inputs != LARGE.tokens)[selected].mean()
    assert ((inputs == MASK)[selected].mean() == 1.0) == (mask_share == 1.0)
    assert changed == mask_share if random_share == 0.0 else changed > 0.99


def test_what_is_not_selected_stays() -> None:
    inputs, selected = select(LARGE, VOCABULARY, Masking(0.3), KEY)
    assert np.array_equal(inputs[~selected], LARGE.tokens[~selected])


def test_special_tokens_and_padding_are_never_selected() -> None:
    inputs, selected = select(LARGE, VOCABULARY, Masking(1.0), KEY)
    assert np.array_equal(selected, ORDINARY)
    assert np.array_equal(inputs[~LARGE.real], LARGE.tokens[~LARGE.real])


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("parts", [2, 4, 8])
def test_parts_of_a_batch_get_the_same_targets(name: str, parts: int) -> None:
    batch = random_batch(16, first=70)
    whole = targets_of(name, batch, VOCABULARY, Masking(0.3), KEY)
    size = 16 // parts
    pieces = [
        targets_of(name, part(batch, begin, begin + size), VOCABULARY, Masking(0.3), KEY)
        for begin in range(0, 16, size)
    ]
    assert np.array_equal(np.concatenate([piece.inputs for piece in pieces]), whole.inputs)
    read = [piece.scored_positions + number * size * 256 for number, piece in enumerate(pieces)]
    assert np.array_equal(np.concatenate(read), whole.scored_positions)
    assert np.array_equal(np.concatenate([piece.labels for piece in pieces]), whole.labels)


@pytest.mark.parametrize("parts", [2, 4])
def test_micro_batches_of_a_real_corpus_get_the_same_masks(corpus: Corpus, parts: int) -> None:
    loader = Loader(corpus, 48, BatchSchedule(8), seed=1, phase="pretrain")
    vocabulary = Vocabulary.of(corpus.tokenizer)
    whole = targets_of("mlm", loader.batch(3), vocabulary, Masking(0.3), KEY)
    pieces = [
        targets_of("mlm", loader.batch(3, number, parts), vocabulary, Masking(0.3), KEY) for number in range(parts)
    ]
    assert np.array_equal(np.concatenate([piece.inputs for piece in pieces]), whole.inputs)
    assert np.array_equal(np.concatenate([piece.labels for piece in pieces]), whole.labels)


def test_a_row_does_not_depend_on_the_other_rows() -> None:
    batch = random_batch(4)
    changed = copy.deepcopy(batch)
    changed.tokens[[0, 2, 3]] = 77
    for before, after in zip(
        select(batch, VOCABULARY, Masking(0.3), KEY), select(changed, VOCABULARY, Masking(0.3), KEY), strict=True
    ):
        assert np.array_equal(before[1], after[1])


def test_selection_does_not_depend_on_which_ordinary_tokens_are_there() -> None:
    batch = random_batch(4)
    changed = copy.deepcopy(batch)
    ordinary = changed.real & ~np.isin(changed.tokens, VOCABULARY.special.ids)
    changed.tokens[ordinary] = 77
    before, after = (select(item, VOCABULARY, Masking(0.3), KEY)[1] for item in (batch, changed))
    assert np.array_equal(before, after)


def test_a_higher_rate_selects_more_and_keeps_what_was_selected() -> None:
    low, high = (select(LARGE, VOCABULARY, Masking(rate), KEY)[1] for rate in (0.15, 0.3))
    assert (low <= high).all() and low.sum() < high.sum()


def agreement(left: np.ndarray, right: np.ndarray, where: np.ndarray) -> float:
    """The share of tokens selected in both, among the places given."""
    return float((left & right)[where].mean())


@pytest.mark.parametrize("key", [mask_key(22, "pretrain"), mask_key(21, "decay"), KEY + 1])
def test_another_seed_or_phase_draws_independently(key: int) -> None:
    left, right = (select(LARGE, VOCABULARY, Masking(0.3), this)[1] for this in (KEY, key))
    assert within(agreement(left, right, ORDINARY), 0.09, ORDINARY.sum())


def test_another_row_draws_independently() -> None:
    batch = Batch(LARGE.tokens, LARGE.document_ids, LARGE.position_ids, LARGE.rows + 1, LARGE.sources)
    left, right = (select(item, VOCABULARY, Masking(0.3), KEY)[1] for item in (LARGE, batch))
    assert within(agreement(left, right, ORDINARY), 0.09, ORDINARY.sum())
    assert np.array_equal(left[1:] & ORDINARY[1:] & ORDINARY[:-1], right[:-1] & ORDINARY[1:] & ORDINARY[:-1])


def test_places_within_a_row_are_independent() -> None:
    _, selected = select(LARGE, VOCABULARY, Masking(0.3), KEY)
    neighbours = ORDINARY[:, :-1] & ORDINARY[:, 1:]
    assert within((selected[:, :-1] & selected[:, 1:])[neighbours].mean(), 0.09, neighbours.sum())


def test_golden_masks() -> None:
    batch = pack([np.array([BOS, *range(5, 25), EOS])], np.array([123456789012]), BOS, PAD)
    targets = targets_of("mlm", batch, VOCABULARY, Masking(0.3), KEY)
    assert (targets.scored_positions.tolist(), targets.labels.tolist()) == ([1, 8, 9, 14, 15], [5, 12, 13, 18, 19])
    assert targets.inputs[0, targets.scored_positions].tolist() == [MASK, MASK, MASK, MASK, 620]


def test_mlm_reads_where_the_token_stood() -> None:
    batch = random_batch(50)
    inputs, selected = select(batch, VOCABULARY, Masking(0.3), KEY)
    targets = targets_of("mlm", batch, VOCABULARY, Masking(0.3), KEY)
    assert np.array_equal(targets.inputs, inputs)
    assert np.array_equal(targets.scored_positions, np.flatnonzero(selected))
    assert np.array_equal(targets.labels, batch.tokens.ravel()[targets.scored_positions])
    assert not np.isin(targets.labels, VOCABULARY.special.ids).any()


def test_clm_by_hand() -> None:
    batch = pack([np.array([7, EOS, BOS, 8, 9, EOS]), np.array([BOS, 6])], np.array([0, 1]), BOS, PAD)
    targets = targets_of("clm", batch, VOCABULARY, Masking(0.3), KEY)
    assert targets.scored_positions.tolist() == [0, 2, 3, 4, 6]
    assert targets.labels.tolist() == [EOS, 8, 9, EOS, 6]


def test_clm_predicts_the_next_token_of_the_same_document_everywhere() -> None:
    batch = random_batch(50)
    expected = [
        (row * 256 + place, batch.tokens[row, place + 1])
        for row in range(50)
        for place in range(255)
        if batch.document_ids[row, place] == batch.document_ids[row, place + 1] != -1
    ]
    targets = targets_of("clm", batch, VOCABULARY, Masking(0.3), KEY)
    assert list(zip(targets.scored_positions.tolist(), targets.labels.tolist(), strict=True)) == expected


def test_clm_has_eos_as_a_label_and_never_bos_or_padding() -> None:
    targets = targets_of("clm", LARGE, VOCABULARY, Masking(0.3), KEY)
    assert (targets.labels == EOS).sum() == (LARGE.tokens == EOS).sum()
    assert not np.isin(targets.labels, (BOS, PAD)).any()
    assert not np.isin(LARGE.tokens.ravel()[targets.scored_positions], (EOS, PAD)).any()
    pieces = sum(len(set(row[row >= 0].tolist())) for row in LARGE.document_ids)
    assert len(targets.scored_positions) == LARGE.real.sum() - pieces


def test_clm_sees_the_tokens_as_they_are() -> None:
    assert np.array_equal(targets_of("clm", LARGE, VOCABULARY, Masking(0.3), KEY).inputs, LARGE.tokens)


def test_mntp_reads_one_position_earlier_in_the_same_document() -> None:
    batch = random_batch(50)
    inputs, selected = select(batch, VOCABULARY, Masking(0.3), KEY)
    targets = targets_of("mntp", batch, VOCABULARY, Masking(0.3), KEY)
    assert np.array_equal(targets.inputs, inputs)
    labelled = targets.scored_positions + 1
    assert selected.ravel()[labelled].all()
    assert np.array_equal(targets.labels, batch.tokens.ravel()[labelled])
    assert np.array_equal(batch.document_ids.ravel()[targets.scored_positions], batch.document_ids.ravel()[labelled])
    assert np.array_equal(targets.scored_positions // 256, labelled // 256)
    left_out = set(np.flatnonzero(selected)) - set(labelled.tolist())
    assert all(batch.position_ids.ravel()[place] == 0 for place in left_out)


def test_mntp_never_reads_across_documents_or_rows() -> None:
    # Rows begin within a document and each document is one ordinary token: there is nothing to read earlier.
    batch = Batch(
        np.array([[7, 8, 9], [7, 8, 9]]),
        np.array([[0, 1, 1], [0, 0, 1]]),
        np.array([[0, 0, 1], [0, 1, 0]]),
        np.arange(2),
        np.zeros(2, dtype=np.int64),
    )
    targets = targets_of("mntp", batch, VOCABULARY, Masking(1.0), KEY)
    assert (targets.scored_positions.tolist(), targets.labels.tolist()) == ([1, 3], [9, 8])


@pytest.mark.parametrize("name", OBJECTIVES)
def test_no_objective_reads_across_the_pieces_of_a_row(name: str, corpus: Corpus) -> None:
    """In rows of several pieces, some of which begin within their document."""
    special = corpus.tokenizer.special
    of = Loader(corpus, 100, BatchSchedule(64), seed=1, phase="pretrain", packing="best_fit")
    batch = of.batch(0)
    targets = targets_of(name, batch, Vocabulary(1024, special), Masking(0.9), KEY)
    scored = targets.scored_positions + (name != "mlm")
    assert np.array_equal(targets.labels, batch.tokens.ravel()[scored])
    pieces = batch.document_ids + np.arange(64)[:, None] * 100
    pieces[~batch.real] = -1
    assert (pieces.ravel()[scored] == pieces.ravel()[targets.scored_positions]).all() and (
        pieces.ravel()[scored] >= 0
    ).all()
    inner = (batch.position_ids == 0) & (batch.tokens != special.bos) & batch.real
    inner[:, 0] = False
    assert inner.any()
    assert inner.ravel()[scored].any() == (name == "mlm"), "the first token of a piece has nothing before it"


def test_mlm_and_mntp_corrupt_alike() -> None:
    left, right = (targets_of(name, LARGE, VOCABULARY, Masking(0.3), KEY) for name in MASKED)
    assert np.array_equal(left.inputs, right.inputs)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_an_objective_leaves_the_batch_unchanged(name: str) -> None:
    batch = random_batch(10)
    before = copy.deepcopy(batch)
    targets_of(name, batch, VOCABULARY, Masking(0.3), KEY)
    for field in fields(Batch):
        assert np.array_equal(getattr(batch, field.name), getattr(before, field.name))


def test_a_clear_view_of_the_answer_is_refused() -> None:
    with pytest.raises(ValueError, match="objective.name='clm' leaks under direction='bidirectional'"):
        check_well_posed("bidirectional", "clm")


@pytest.mark.parametrize(
    ("direction", "objective"),
    [("causal", "clm"), ("causal", "mlm"), ("causal", "mntp"), ("bidirectional", "mlm"), ("bidirectional", "mntp")],
)
def test_every_other_combination_is_allowed(direction: str, objective: str) -> None:
    assert check_well_posed(direction, objective) is None  # type: ignore[func-returns-value]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (
            {"name": "mlmm"},
            "objective.name='mlmm' is not an objective; did you mean 'mlm'? There are clm, mlm, mntp, mixture, alternation",
        ),
        ({"name": "mlm", "mask_share": 0.95}, "objective.mask_share=0.95 does not leave a share for the rest"),
        ({"name": "mlm", "random_share": -0.1}, "objective.random_share=-0.1 is not between 0 and 1"),
    ],
)
def test_an_objective_that_makes_no_sense_is_refused(arguments: dict, problem: str) -> None:
    with pytest.raises(ValueError) as caught:
        ObjectiveConfig(**arguments)
    assert str(caught.value).startswith(problem)
