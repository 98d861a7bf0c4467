"""Batches: the same global rows however they are divided, no token lost, documents and positions right."""

import json

import numpy as np
import pytest

from ettin_core.data.config import DataConfig
from ettin_core.data.corpus import Corpus
from ettin_core.data.loader import Batch, Loader, lay_out, pack
from ettin_core.data.prepare import prepare

BOS, EOS, PAD = 1, 2, 3
FIELDS = ("tokens", "documents", "positions", "rows", "sources")


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """A corpus of two small sources and a third that has no training text."""
    folder = tmp_path_factory.mktemp("mixed")
    for name, counts in {"books": (300, 1, 1), "empty": (0, 1, 1), "web": (100, 1, 1)}.items():
        for split, count in zip(("train", "validation", "test"), counts, strict=True):
            rows = [{"id": str(n), "text": f"{name} number {n} " * (n % 7 + 1)} for n in range(count)]
            (folder / f"{name}.{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) or "\n")
    return prepare(DataConfig(kind="text", name="mixed", path=str(folder), vocab_size=320), folder / "out")


def loader(corpus: Corpus, context: int = 48, batch_rows: int = 8, **options: object) -> Loader:
    """A loader with seed 1 for a phase."""
    arguments = {"seed": 1, "phase": "pretrain"} | options
    return Loader(corpus, context, batch_rows, **arguments)  # type: ignore[arg-type]


def join(parts: list[Batch]) -> dict[str, np.ndarray]:
    """The arrays of several batches, one after the other."""
    return {name: np.concatenate([getattr(part, name) for part in parts]) for name in FIELDS}


def slow_layout(row: list[int]) -> tuple[list[int], list[int]]:
    """Documents and positions of one row, token by token."""
    documents, positions = [], []
    document, position = 0, 0
    for place, token in enumerate(row):
        if token == BOS and place > 0:
            document, position = document + 1, 0
        documents.append(document if token != PAD else -1)
        positions.append(position)
        position += 1
    return documents, positions


def epoch(of: Loader) -> Batch:
    """Every row of the only source in one batch."""
    return Batch(**join([of.batch(step) for step in range(-(-of.order.rows[0] // of.batch_rows))]))


@pytest.mark.parametrize("parts", [1, 2, 4, 8])
def test_parts_are_slices_of_the_same_global_batch(corpus: Corpus, parts: int) -> None:
    of = loader(corpus)
    whole = of.batch(5)
    divided = join([of.batch(5, part, parts) for part in range(parts)])
    for name in FIELDS:
        assert np.array_equal(divided[name], getattr(whole, name)), name
    assert whole.rows.tolist() == list(range(40, 48))
    assert whole.tokens.shape == (8, 48) and whole.tokens.dtype == np.int64


def test_a_batch_does_not_depend_on_what_was_read_before(corpus: Corpus) -> None:
    used, fresh = loader(corpus), loader(corpus)
    for step in (9, 0, 3):
        used.batch(step)
    for name in FIELDS:
        assert np.array_equal(getattr(used.batch(7), name), getattr(fresh.batch(7), name))


def test_the_batch_size_only_groups_the_rows(corpus: Corpus) -> None:
    small, large = loader(corpus, batch_rows=4), loader(corpus, batch_rows=12)
    assert np.array_equal(join([small.batch(step) for step in range(3)])["tokens"], large.batch(0).tokens)


@pytest.mark.parametrize("change", [{"seed": 2}, {"phase": "decay"}])
def test_seed_and_phase_change_the_rows(corpus: Corpus, change: dict[str, object]) -> None:
    assert not np.array_equal(loader(corpus).batch(0).tokens, loader(corpus, **change).batch(0).tokens)


@pytest.mark.parametrize("context", [48, 50, 1024])
def test_every_token_of_the_stream_is_in_exactly_one_row(corpus: Corpus, context: int) -> None:
    of = loader(corpus, context, batch_rows=1)
    rows = of.order.rows[0]
    location = of.order.locate(np.arange(rows))
    tokens = np.concatenate([of.batch(step).tokens for step in range(rows)])[np.argsort(location.row)].ravel()
    stream = corpus.stream("world", "train").read(0, 10**9)
    assert np.array_equal(tokens[: len(stream)], stream)
    assert (tokens[len(stream) :] == corpus.tokenizer.special.pad).all() and len(tokens) - len(stream) < context


def test_padding_is_in_the_last_row_only(corpus: Corpus) -> None:
    of = loader(corpus, context=50, batch_rows=1)
    padded = [step for step in range(of.order.rows[0]) if not of.batch(step).real.all()]
    assert len(padded) == 1
    row = of.order.locate(np.array(padded)).row[0]
    assert row == of.order.rows[0] - 1
    real = of.batch(padded[0]).real[0]
    assert real.sum() == len(corpus.stream("world", "train")) % 50 and np.array_equal(real, np.sort(real)[::-1])


@pytest.mark.parametrize("context", [48, 333])
def test_documents_and_positions_equal_a_slow_loop(corpus: Corpus, context: int) -> None:
    special = corpus.tokenizer.special
    assert (special.bos, special.eos, special.pad) == (BOS, EOS, PAD)
    batch = epoch(loader(corpus, context))
    for tokens, documents, positions in zip(batch.tokens, batch.documents, batch.positions, strict=True):
        expected = slow_layout(tokens.tolist())
        assert documents.tolist() == expected[0]
        assert positions.tolist() == expected[1]


def test_layout_of_a_row_by_hand() -> None:
    tokens = np.array([[7, 8, EOS, BOS, 9, EOS, BOS, EOS, PAD, PAD], [BOS, 7, 7, 7, 7, 7, 7, 7, 7, BOS]])
    documents, positions = lay_out(tokens, BOS, PAD)
    assert documents.tolist() == [[0, 0, 0, 1, 1, 1, 2, 2, -1, -1], [0, 0, 0, 0, 0, 0, 0, 0, 0, 1]]
    assert positions[:, :8].tolist() == [[0, 1, 2, 0, 1, 2, 0, 1], [0, 1, 2, 3, 4, 5, 6, 7]]
    assert positions[1, 8:].tolist() == [8, 0]


def test_pack_pads_to_the_longest_or_to_the_context() -> None:
    texts = [np.array([BOS, 9, EOS]), np.array([BOS, EOS])]
    batch = pack(texts, np.array([4, 9]), BOS, PAD)
    assert batch.tokens.tolist() == [[BOS, 9, EOS], [BOS, EOS, PAD]]
    assert batch.real.tolist() == [[True, True, True], [True, True, False]]
    assert batch.rows.tolist() == [4, 9] and batch.sources.tolist() == [0, 0]
    assert pack(texts, np.array([4, 9]), BOS, PAD, context=5).tokens.shape == (2, 5)


def test_the_digest_adds_up_over_parts(corpus: Corpus) -> None:
    of = loader(corpus)
    whole = of.batch(3).digest()
    for parts in (2, 4, 8):
        assert sum(of.batch(3, part, parts).digest() for part in range(parts)) % 2**63 == whole
    assert 0 <= whole < 2**63


def test_the_digest_sees_one_token_a_row_number_and_two_swapped_rows(corpus: Corpus) -> None:
    batch = loader(corpus).batch(3)
    changed = batch.tokens.copy()
    changed[5, 7] += 1
    swapped = batch.tokens[[1, 0, *range(2, 8)]]
    others = [
        Batch(changed, batch.documents, batch.positions, batch.rows, batch.sources),
        Batch(batch.tokens, batch.documents, batch.positions, batch.rows + 1, batch.sources),
        Batch(swapped, batch.documents, batch.positions, batch.rows, batch.sources),
    ]
    assert len({batch.digest(), *(other.digest() for other in others)}) == 4


def test_golden_digest(corpus: Corpus) -> None:
    assert loader(corpus).batch(0).digest() == 2480257885452012682


def test_mixture_shares_are_exact(mixed: Corpus) -> None:
    of = loader(mixed, context=20, batch_rows=1000, mixture={"books": 0.1, "web": 0.9})
    assert of.sources == ["books", "web"]
    assert np.bincount(of.batch(2).sources).tolist() == [100, 900]


def test_without_a_mixture_sources_count_by_size(mixed: Corpus) -> None:
    of = loader(mixed, context=20, batch_rows=1000)
    assert of.sources == ["books", "web"]  # the third has nothing to train on
    books, web = (mixed.tokens(name, "train") for name in of.sources)
    assert abs(np.bincount(of.batch(0).sources)[0] - 1000 * books / (books + web)) <= 1


def test_rows_come_from_the_source_they_name(mixed: Corpus) -> None:
    of = loader(mixed, context=20, batch_rows=50)
    streams = [mixed.stream(name, "train").read(0, 10**9) for name in of.sources]
    batch, location = of.batch(1), of.order.locate(np.arange(50, 100))
    assert np.array_equal(batch.sources, location.source)
    for tokens, source, row in zip(batch.tokens, location.source, location.row, strict=True):
        piece = streams[source][row * 20 : (row + 1) * 20]
        assert np.array_equal(tokens[: len(piece)], piece)


def test_another_split_can_be_read(corpus: Corpus) -> None:
    of = loader(corpus, split="validation")
    assert len(of.streams[0]) == corpus.tokens("world", "validation")


def test_a_context_longer_than_a_source_is_refused(corpus: Corpus) -> None:
    with pytest.raises(
        ValueError, match=r"context of phase pretrain=200000 is longer than the whole source 'world' \(117007"
    ):
        loader(corpus, context=200_000)


def test_an_unknown_source_is_refused(mixed: Corpus) -> None:
    with pytest.raises(ValueError, match="mixture='boks' is not a source of the corpus; it has books, empty, web"):
        loader(mixed, mixture={"boks": 1.0})


def test_a_source_of_the_mixture_without_training_text_is_refused(mixed: Corpus) -> None:
    with pytest.raises(ValueError, match=r"is longer than the whole source 'empty' \(0 tokens\)"):
        loader(mixed, mixture={"empty": 0.5, "web": 0.5})


@pytest.mark.parametrize("weight", [0.0, -0.5])
def test_a_weight_that_is_not_positive_is_refused(mixed: Corpus, weight: float) -> None:
    with pytest.raises(ValueError, match=rf"mixture\.web={weight} is not positive; leave the source out"):
        loader(mixed, mixture={"books": 1.0, "web": weight})
