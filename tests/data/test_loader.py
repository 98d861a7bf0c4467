"""Batches: the same global rows however they are divided, no token lost, documents and positions right."""

import json
import random
from functools import partial

import numpy as np
import pytest

from ettin_core.data.batch_schedule import BatchSchedule
from ettin_core.data.config import DataConfig
from ettin_core.data.corpus import Corpus
from ettin_core.data.loader import Batch, Loader, lay_out, pack
from ettin_core.data.order import PERIOD
from ettin_core.data.packing import PACKINGS
from ettin_core.data.prefetch import feed
from ettin_core.data.preparation.prepare import prepare

BOS, EOS, PAD = 1, 2, 3
FIELDS = ("tokens", "document_ids", "position_ids", "rows", "sources")


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """A corpus of two small sources and a third that has no training text."""
    folder = tmp_path_factory.mktemp("mixed")
    for name, counts in {"books": (300, 1, 1), "empty": (0, 1, 1), "web": (100, 1, 1)}.items():
        for split, count in zip(("train", "validation", "test"), counts, strict=True):
            rows = [{"id": str(n), "text": f"{name} number {n} " * (n % 7 + 1)} for n in range(count)]
            (folder / f"{name}.{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) or "\n")
    return prepare(DataConfig(kind="text", name="mixed", path=str(folder), vocab_size=320), folder / "out", 1)


def loader(corpus: Corpus, context: int = 48, batch_rows: int = 8, **options: object) -> Loader:
    """A loader with seed 1 for a phase."""
    arguments = {"seed": 1, "phase": "pretrain"} | options
    return Loader(corpus, context, BatchSchedule(batch_rows), **arguments)  # type: ignore[arg-type]


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
    """Every row of the only source in one batch, in the order of the rows of the source."""
    rows = of.order.rows[0]
    batch = join([of.batch(step) for step in range(-(-rows // of.batches.rows))])
    in_turn = np.argsort(of.order.locate(np.arange(rows)).row)
    return Batch(**{name: values[:rows][in_turn] for name, values in batch.items()})


def equal(left: Batch, right: Batch) -> bool:
    """Whether two batches hold the same arrays."""
    return all(np.array_equal(getattr(left, name), getattr(right, name)) for name in FIELDS)


@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize("parts", [1, 2, 4, 8])
def test_parts_are_slices_of_the_same_global_batch(corpus: Corpus, parts: int, packing: str) -> None:
    of = loader(corpus, packing=packing)
    whole = of.batch(5)
    divided = join([of.batch(5, part, parts) for part in range(parts)])
    for name in FIELDS:
        assert np.array_equal(divided[name], getattr(whole, name)), name
    assert whole.rows.tolist() == list(range(40, 48))
    assert whole.tokens.shape == (8, 48) and whole.tokens.dtype == np.int64


@pytest.mark.parametrize("packing", PACKINGS)
def test_a_batch_does_not_depend_on_what_was_read_before(mixed: Corpus, packing: str) -> None:
    used, fresh = (loader(mixed, mixture={"books": 0.3, "web": 0.7}, packing=packing) for _ in range(2))
    for step in (9, 0, 3, 5000):
        used.batch(step)
    assert equal(used.batch(7), fresh.batch(7))
    assert equal(used.batch(7), used.batch(7))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("parts", [1, 2, 4])
@pytest.mark.parametrize("packing", PACKINGS)
def test_resuming_anywhere_equals_having_read_up_to_there(
    mixed: Corpus, packing: str, parts: int, workers: int
) -> None:
    """One stream of batches for each rank, begun at step 0 by one number of ranks and continued by another."""
    mixture, steps = {"books": 0.3, "web": 0.7}, 9
    stop = random.Random(f"{packing} {parts} {workers}").randrange(1, steps)
    alone = loader(mixed, mixture=mixture, packing=packing)
    whole = [alone.batch(step) for step in range(steps)]
    for begin in (0, stop):
        ranks = []
        for rank in range(parts):
            of = loader(Corpus(mixed.folder), mixture=mixture, packing=packing)
            ranks.append(feed(partial(of.batch, micro_batch=rank, micro_batches=parts), range(begin, steps), workers))
        for expected, *divided in zip(whole[begin:], *ranks, strict=True):
            assert equal(Batch(**join(divided)), expected)
            assert sum(batch.digest() for batch in divided) % 2**63 == expected.digest()


def test_the_batch_size_only_groups_the_rows(corpus: Corpus) -> None:
    small, large = loader(corpus, batch_rows=4), loader(corpus, batch_rows=12)
    assert np.array_equal(join([small.batch(step) for step in range(3)])["tokens"], large.batch(0).tokens)


@pytest.mark.parametrize("change", [{"seed": 2}, {"phase": "decay"}])
def test_seed_and_phase_change_the_rows(corpus: Corpus, change: dict[str, object]) -> None:
    assert not np.array_equal(loader(corpus).batch(0).tokens, loader(corpus, **change).batch(0).tokens)


@pytest.mark.parametrize("context", [48, 50, 1024])
@pytest.mark.parametrize("packing", PACKINGS)
def test_every_token_is_in_exactly_one_row_of_an_epoch(corpus: Corpus, packing: str, context: int) -> None:
    batch = epoch(loader(corpus, context, batch_rows=16, packing=packing))
    stream = corpus.stream("world", "train").read(0, 10**9)
    assert (batch.tokens[~batch.real] == PAD).all() and (batch.document_ids[~batch.real] == -1).all()
    tokens = batch.tokens[batch.real]
    if packing == "stream":
        assert np.array_equal(tokens, stream)
        assert (~batch.real).sum() < context
    else:
        assert np.array_equal(np.bincount(tokens), np.bincount(stream))
        ends = (tokens == EOS).sum()
        pieces = (np.diff(np.flatnonzero(stream == BOS), append=len(stream)) - 1) // context + 1
        assert ends == len(pieces) and (batch.position_ids[batch.real] == 0).sum() == pieces.sum()


@pytest.mark.parametrize("packing", PACKINGS)
def test_padding_is_at_the_ends_of_rows(corpus: Corpus, packing: str) -> None:
    real = epoch(loader(corpus, 50, packing=packing)).real
    assert real[:, 0].all() and (real[:, :-1] >= real[:, 1:]).all()


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
    for tokens, documents, positions in zip(batch.tokens, batch.document_ids, batch.position_ids, strict=True):
        expected = slow_layout(tokens.tolist())
        assert documents.tolist() == expected[0]
        assert positions.tolist() == expected[1]


@pytest.mark.parametrize("context", [20, 100])
@pytest.mark.parametrize("packing", ["best_fit", "off"])
def test_each_piece_is_a_document_of_its_own(corpus: Corpus, packing: str, context: int) -> None:
    of = loader(corpus, context, packing=packing)
    batch, several = epoch(of), 0
    for number in range(0, of.order.rows[0], 7):
        pieces = of.rows[0].read(number)
        several += any(piece[0] != BOS for piece in pieces[1:])
        documents = np.concatenate([np.full(len(piece), place) for place, piece in enumerate(pieces)])
        positions = np.concatenate([np.arange(len(piece)) for piece in pieces])
        filled = len(documents)
        assert np.array_equal(batch.tokens[number, :filled], np.concatenate(pieces))
        assert np.array_equal(batch.document_ids[number, :filled], documents)
        assert np.array_equal(batch.position_ids[number, :filled], positions)
        assert (batch.document_ids[number, filled:] == -1).all() and (batch.tokens[number, filled:] == PAD).all()
    assert (several > 0) == (packing == "best_fit"), "rows in which a later piece does not begin with BOS"


def test_layout_of_a_row_by_hand() -> None:
    tokens = np.array([[7, 8, EOS, BOS, 9, EOS, BOS, EOS, PAD, PAD], [BOS, 7, 7, 7, 7, 7, 7, 7, 7, BOS]])
    documents, positions = lay_out(tokens, BOS, np.array([8, 10]))
    assert documents.tolist() == [[0, 0, 0, 1, 1, 1, 2, 2, -1, -1], [0, 0, 0, 0, 0, 0, 0, 0, 0, 1]]
    assert positions[:, :8].tolist() == [[0, 1, 2, 0, 1, 2, 0, 1], [0, 1, 2, 3, 4, 5, 6, 7]]
    assert positions[1, 8:].tolist() == [8, 0]


def test_pieces_that_do_not_begin_a_document_are_laid_out_apart() -> None:
    tokens = np.array([[7, 8, EOS, 7, 7, BOS, 9, EOS, PAD, PAD]])
    begins = np.zeros(tokens.shape, dtype=bool)
    begins[0, [0, 3]] = True
    documents, positions = lay_out(tokens, BOS, np.array([8]), begins)
    assert documents.tolist() == [[0, 0, 0, 1, 1, 2, 2, 2, -1, -1]]
    assert positions[0, :8].tolist() == [0, 1, 2, 0, 1, 0, 1, 2]
    assert begins.sum() == 2 and tokens[0, 5] == BOS, "what is given stays as it is"


def test_a_text_that_holds_the_id_of_padding_is_text() -> None:
    documents, _ = lay_out(np.array([[BOS, PAD, 9, EOS, PAD]]), BOS, np.array([4]))
    assert documents.tolist() == [[0, 0, 0, 0, -1]]


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
    variants = [
        Batch(changed, batch.document_ids, batch.position_ids, batch.rows, batch.sources),
        Batch(batch.tokens, batch.document_ids, batch.position_ids, batch.rows + 1, batch.sources),
        Batch(swapped, batch.document_ids, batch.position_ids, batch.rows, batch.sources),
    ]
    assert len({batch.digest(), *(variant.digest() for variant in variants)}) == 4


@pytest.mark.parametrize(
    ("packing", "digest"),
    [("stream", 5490785071011193492), ("best_fit", 2718532474049078021), ("off", 4858636649212476660)],
)
def test_golden_digests(corpus: Corpus, packing: str, digest: int) -> None:
    assert loader(corpus, packing=packing).batch(0).digest() == digest


def test_mixture_shares_are_exact(mixed: Corpus) -> None:
    of = loader(mixed, context=20, batch_rows=PERIOD, mixture={"books": 0.1, "web": 0.9})
    assert of.sources == ["books", "web"]
    counts = np.bincount(of.batch(2).sources)
    assert counts.tolist() == (of.order.counts(3 * PERIOD) - of.order.counts(2 * PERIOD)).tolist()
    assert abs(counts[0] - 0.1 * PERIOD) < 10  # each source's last row is not full


@pytest.fixture(scope="module")
def with_a_note(tmp_path_factory: pytest.TempPathFactory) -> tuple[Corpus, Corpus]:
    """Corpora under one tokenizer: letters, a note of a few words and web; and the same without letters."""
    folder = tmp_path_factory.mktemp("with_a_note")
    corpora = []
    for sources in ({"letters": 200, "note": 1, "web": 150}, {"note": 1, "web": 150}):
        texts = folder / f"{len(sources)}"
        texts.mkdir()
        for name, count in sources.items():
            for split, number in (("train", count), ("validation", 1), ("test", 1)):
                rows = [{"id": f"{name} {n}", "text": f"{name} {split} {n} " * (1 + n % 5)} for n in range(number)]
                (texts / f"{name}.{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        options = {"tokenizer": str(corpora[0].folder / "tokenizer")} if corpora else {}
        config = DataConfig(kind="text", name="note", path=str(texts), vocab_size=320, **options)  # type: ignore[arg-type]
        corpora.append(prepare(config, folder / "out", workers=1))
    return corpora[0], corpora[1]


@pytest.mark.parametrize("packing", PACKINGS)
def test_a_source_shorter_than_a_row_is_read_unless_it_was_named(
    with_a_note: tuple[Corpus, Corpus], packing: str
) -> None:
    corpus = with_a_note[0]
    of = loader(corpus, context=64, packing=packing)
    rows = sum(of.order.rows)
    assert of.sources == ["letters", "note", "web"] and corpus.tokens("note", "train") < 64 and of.order.rows[1] == 1
    assert of.repeats(3 * rows) == pytest.approx(dict.fromkeys(of.sources, 3.0), abs=0.02)
    batch = Batch(**join([of.batch(step) for step in range(-(-rows // 8))]))
    assert batch.real[batch.sources == 1].sum(axis=1).tolist() == [corpus.tokens("note", "train")]
    with pytest.raises(
        ValueError, match="context of phase pretrain=64 is longer than the whole source 'note'.*mixture"
    ):
        loader(corpus, context=64, packing=packing, mixture={"letters": 1.0, "note": 1.0})


def rows_of(of: Loader, name: str) -> list[tuple[int, ...]]:
    """The rows of a source in the order in which they come among the first 800."""
    batches = [of.batch(step) for step in range(100)]
    number = of.sources.index(name)
    return [tuple(row) for batch in batches for row in batch.tokens[batch.sources == number].tolist()]


@pytest.mark.parametrize("packing", PACKINGS)
def test_leaving_a_source_out_of_mixture_or_corpus_leaves_the_order_of_the_others(
    with_a_note: tuple[Corpus, Corpus], packing: str
) -> None:
    whole, without = with_a_note
    mixtures: dict[str, tuple[Corpus, dict[str, float] | None]] = {
        "all": (whole, {"letters": 0.5, "web": 0.5}),
        "left out of the mixture": (whole, {"web": 1.0}),
        "left out of the corpus": (without, None),
    }
    orders = [rows_of(loader(of, mixture=mixture, packing=packing), "web") for of, mixture in mixtures.values()]
    shortest = min(len(rows) for rows in orders)
    assert shortest > 300 and orders[0][:shortest] == orders[1][:shortest] == orders[2][:shortest]


@pytest.mark.parametrize("packing", PACKINGS)
def test_without_a_mixture_sources_count_by_size(mixed: Corpus, packing: str) -> None:
    of = loader(mixed, context=20, batch_rows=1000, packing=packing)
    assert of.sources == ["books", "web"]  # the third has nothing to train on
    repeats = of.repeats(10**6)
    assert repeats["books"] == pytest.approx(repeats["web"], rel=2e-3)


@pytest.fixture(scope="module")
def uneven(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """A corpus of short notes and long books."""
    folder = tmp_path_factory.mktemp("uneven")
    for name, count, words in (("books", 60, 400), ("notes", 900, 3)):
        for split, number in (("train", count), ("validation", 2), ("test", 2)):
            rows = [{"id": f"{n}", "text": f"{name} {n} " * (words + n % words)} for n in range(number)]
            (folder / f"{name}.{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = DataConfig(kind="text", name="uneven", path=str(folder), vocab_size=320)
    return prepare(config, folder / "out", workers=1)


@pytest.mark.parametrize("context", [64, 512])
@pytest.mark.parametrize("mixture", [None, {"books": 0.5, "notes": 0.5}, {"books": 1.0, "notes": 3.0}])
@pytest.mark.parametrize("packing", PACKINGS)
def test_weights_are_shares_of_tokens(
    uneven: Corpus, packing: str, mixture: dict[str, float] | None, context: int
) -> None:
    of = loader(uneven, context=context, batch_rows=1000, mixture=mixture, packing=packing)
    drawn = np.zeros(2)
    for step in range(PERIOD // 1000):
        batch = of.batch(step)
        drawn += np.bincount(batch.sources, weights=batch.real.sum(axis=1), minlength=2)
    weights = mixture or {name: uneven.tokens(name, "train") for name in of.sources}
    shares = np.array([weights[name] for name in of.sources]) / sum(weights.values())
    assert drawn / drawn.sum() == pytest.approx(shares, rel=0.02)


@pytest.mark.parametrize("packing", PACKINGS)
def test_utilisation_and_repeats_are_what_was_drawn(uneven: Corpus, packing: str) -> None:
    of = loader(uneven, context=64, batch_rows=1000, packing=packing)
    batch = Batch(**join([of.batch(step) for step in range(PERIOD // 1000)]))
    location = of.order.locate(np.arange(PERIOD))
    for number, name in enumerate(of.sources):
        of_source = batch.sources == number
        assert of.repeats(PERIOD)[name] == of_source.sum() / of.order.rows[number]
        assert of.utilisation[name] == pytest.approx(batch.real[of_source].mean(), rel=0.02)
        first = of_source & (location.epoch == 0)
        assert first.sum() == of.order.rows[number], "the first block holds an epoch of each source"
        assert of.utilisation[name] == pytest.approx(batch.real[first].mean(), rel=1e-12)
    if packing != "off":
        assert min(of.utilisation.values()) > 0.9
    assert of.tokens == [uneven.tokens(name, "train") for name in of.sources]


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
    assert of.tokens == [corpus.tokens("world", "validation")]
    assert of.rows[0].count == -(-of.tokens[0] // 48)


@pytest.mark.parametrize("packing", PACKINGS)
def test_a_context_longer_than_a_source_is_refused(corpus: Corpus, packing: str) -> None:
    with pytest.raises(
        ValueError, match=r"context of phase pretrain=200000 is longer than the whole source 'world' \(117007"
    ):
        loader(corpus, context=200_000, packing=packing)


def test_an_unknown_source_is_refused(mixed: Corpus) -> None:
    with pytest.raises(ValueError, match="mixture='boks' is not a source of the corpus; it has books, empty, web"):
        loader(mixed, mixture={"boks": 1.0})


def test_a_source_of_the_mixture_without_training_text_is_refused(mixed: Corpus) -> None:
    with pytest.raises(ValueError, match=r"is longer than the whole source 'empty' \(0 tokens\)"):
        loader(mixed, mixture={"empty": 0.5, "web": 0.5})


def test_a_mixture_of_nothing_is_refused(mixed: Corpus) -> None:
    with pytest.raises(ValueError, match=r"mixture of phase pretrain=\{\} leaves nothing to read; name a source"):
        loader(mixed, mixture={})


def test_a_packing_that_there_is_not_is_refused(mixed: Corpus) -> None:
    with pytest.raises(ValueError, match="packing='tight' is not a packing"):
        loader(mixed, packing="tight")


@pytest.mark.parametrize("weight", [0.0, -0.5, float("inf"), float("nan")])
def test_a_weight_that_is_not_positive_is_refused(mixed: Corpus, weight: float) -> None:
    with pytest.raises(ValueError, match=rf"mixture\.web={weight} is not positive; leave the source out"):
        loader(mixed, mixture={"books": 1.0, "web": weight})
