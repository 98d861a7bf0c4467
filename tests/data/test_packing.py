"""Packings: every token in exactly one row of an epoch, no document cut without need, row r found without the others."""

import errno
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ettin_core.data import packing as packing_module
from ettin_core.data import shards
from ettin_core.data.config import DataConfig
from ettin_core.data.corpus import Corpus
from ettin_core.data.packing import BLOCK, PACKINGS, BlockRows, Rows, StreamRows, count_rows, packed_rows
from ettin_core.data.preparation.prepare import prepare
from ettin_core.data.shards import START, TokenStream

Piece = tuple[int, int]
BLOCK_PACKINGS = ("best_fit", "off")
NOBODY = 65534

documents_by_shard = st.lists(st.lists(st.integers(2, 60), min_size=1, max_size=14), min_size=1, max_size=4)


def numbered(folder: Path, lengths: list[list[int]]) -> TokenStream:
    """Shards of documents of these lengths, where the token at place p of the stream is p."""
    files, place = [], 0
    for number, documents in enumerate(lengths):
        file = folder / f"{number}.bin"
        total = sum(documents)
        np.arange(place, place + total, dtype="<u4").tofile(file)
        np.cumsum([0, *documents[:-1]]).astype(START).tofile(file.with_suffix(".starts"))
        files.append(file)
        place += total
    sizes, counts = ([measure(documents) for documents in lengths] for measure in (sum, len))
    return TokenStream(tuple(files), tuple(sizes), tuple(counts), np.dtype("<u4"))


def open_rows(stream: TokenStream, packing: str, context: int) -> Rows:
    """The rows of a stream, without an index on disk."""
    if packing == "stream":
        return StreamRows(stream, context)
    return BlockRows(stream, context, packing, count_rows(stream, packing, context))


def layout(rows: Rows) -> list[list[Piece]]:
    """Where the pieces of every row begin and end, for numbered tokens."""
    result = []
    for number in range(rows.count):
        pieces = rows.read(number)
        assert all((np.diff(piece.astype(np.int64)) == 1).all() for piece in pieces), "a piece is not consecutive"
        result.append([(int(piece[0]), int(piece[-1]) + 1) for piece in pieces])
    return result


@contextmanager
def layouts(lengths: list[list[int]], block: int = BLOCK) -> Iterator[Callable[[str, int], list[list[Piece]]]]:
    """A function that lays out documents of these lengths, in blocks of so many."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(packing_module, "BLOCK", block)
        stream = numbered(Path(folder), lengths)
        yield lambda packing, context: layout(open_rows(stream, packing, context))


def bounds(lengths: list[list[int]]) -> list[Piece]:
    """Where every document begins and ends in the stream."""
    ends = np.cumsum([length for shard in lengths for length in shard]).tolist()
    return list(zip([0, *ends[:-1]], ends, strict=True))


def divide(document: Piece, context: int) -> list[Piece]:
    """The pieces of a document."""
    begin, end = document
    return [(place, min(place + context, end)) for place in range(begin, end, context)]


def slow_best_fit(documents: list[Piece], context: int) -> list[list[Piece]]:
    """Best-fit decreasing by looking at every row for every piece."""
    rows: list[list[Piece]] = []
    pieces = [piece for document in documents for piece in divide(document, context)]
    for begin, end in sorted(pieces, key=lambda piece: (piece[0] - piece[1], piece[0])):
        room_left = [context - sum(last - first for first, last in row) for row in rows]
        fitting = [(left, number) for number, left in enumerate(room_left) if left >= end - begin]
        if fitting:
            rows[min(fitting)[1]].append((begin, end))
        else:
            rows.append([(begin, end)])
    return [sorted(row) for row in rows]


@settings(max_examples=80, deadline=None)
@given(documents_by_shard, st.integers(1, 80), st.sampled_from(PACKINGS), st.sampled_from([1, 3, BLOCK]))
def test_every_token_is_in_exactly_one_row(lengths: list[list[int]], context: int, packing: str, block: int) -> None:
    with layouts(lengths, block) as laid_out:
        rows = laid_out(packing, context)
    assert all(0 < sum(end - begin for begin, end in row) <= context for row in rows)
    assert all(row == sorted(row) for row in rows)
    pieces = sorted(piece for row in rows for piece in row)
    assert [begin for begin, _ in pieces] == [0, *(end for _, end in pieces[:-1])]
    assert pieces[-1][1] == sum(map(sum, lengths))


@settings(max_examples=80, deadline=None)
@given(documents_by_shard, st.integers(1, 80), st.sampled_from(BLOCK_PACKINGS), st.sampled_from([1, 3, BLOCK]))
def test_documents_are_cut_at_the_context_and_nowhere_else(
    lengths: list[list[int]], context: int, packing: str, block: int
) -> None:
    with layouts(lengths, block) as laid_out:
        rows = laid_out(packing, context)
    expected = [piece for document in bounds(lengths) for piece in divide(document, context)]
    assert sorted(piece for row in rows for piece in row) == expected
    assert packing == "best_fit" or all(len(row) == 1 for row in rows)


@settings(max_examples=80, deadline=None)
@given(documents_by_shard, st.integers(1, 80), st.sampled_from([1, 3, BLOCK]))
def test_best_fit_is_best_fit_decreasing_block_by_block(lengths: list[list[int]], context: int, block: int) -> None:
    documents = iter(bounds(lengths))
    expected = []
    for shard in lengths:
        of_shard = [next(documents) for _ in shard]
        for first in range(0, len(of_shard), block):
            expected += slow_best_fit(of_shard[first : first + block], context)
    with layouts(lengths, block) as laid_out:
        assert laid_out("best_fit", context) == expected


@settings(max_examples=30, deadline=None)
@given(documents_by_shard, st.integers(1, 80))
def test_stream_rows_are_found_by_multiplication(lengths: list[list[int]], context: int) -> None:
    with layouts(lengths) as laid_out:
        rows = laid_out("stream", context)
    total = sum(map(sum, lengths))
    assert rows == [[(begin, min(begin + context, total))] for begin in range(0, total, context)]


@settings(max_examples=30, deadline=None)
@given(documents_by_shard, st.integers(1, 80), st.sampled_from(BLOCK_PACKINGS), st.sampled_from([1, 3, BLOCK]))
def test_the_index_counts_the_rows_of_each_block(
    lengths: list[list[int]], context: int, packing: str, block: int
) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(packing_module, "BLOCK", block)
        edges = count_rows(numbered(Path(folder), lengths), packing, context)
    documents, counts = iter(bounds(lengths)), []
    for shard in lengths:
        of_shard = [next(documents) for _ in shard]
        for first in range(0, len(of_shard), block):
            chosen = of_shard[first : first + block]
            pieces = [piece for document in chosen for piece in divide(document, context)]
            counts.append(len(pieces) if packing == "off" else len(slow_best_fit(chosen, context)))
    assert np.diff(edges).tolist() == counts and edges[0] == 0 and edges.dtype == np.int64


@pytest.fixture(scope="module")
def sharded(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """A corpus whose training documents fill many shards, some of them with more than a block of documents."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards, "SHARD_TOKENS", 60_000)
        config = DataConfig(kind="world", name="sharded", documents=2500, vocab_size=320)
        corpus = prepare(config, tmp_path_factory.mktemp("sharded"), workers=1)
    counts = corpus.stream("sharded", "train").counts
    assert len(counts) > 5 and max(counts) > BLOCK
    return corpus


@pytest.mark.parametrize("context", [16, 100, 1000])
@pytest.mark.parametrize("packing", PACKINGS)
def test_a_corpus_of_many_shards_and_blocks_is_read_whole(sharded: Corpus, packing: str, context: int) -> None:
    rows = packed_rows(sharded, "sharded", "train", packing, context)
    stream = sharded.stream("sharded", "train")
    pieces = [piece for number in range(rows.count) for piece in rows.read(number)]
    if packing == "stream":
        assert np.array_equal(np.concatenate(pieces), stream.read(0, len(stream)))
        return
    whole = [stream.read(*edge) for edge in document_bounds(stream)]
    expected = [ids[begin : begin + context] for ids in whole for begin in range(0, len(ids), context)]
    assert sorted(piece.tobytes() for piece in pieces) == sorted(piece.tobytes() for piece in expected)


def document_bounds(stream: TokenStream) -> list[Piece]:
    """Where every document of a stream begins and ends."""
    places = [stream.starts(number) + stream.edges[number] for number in range(len(stream.files))]
    return [piece for shard in places for piece in zip(shard[:-1].tolist(), shard[1:].tolist(), strict=True)]


@pytest.mark.parametrize("packing", PACKINGS)
def test_a_row_does_not_depend_on_what_was_read_before(
    sharded: Corpus, packing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packing_module, "_KEPT_BLOCKS", 2)  # blocks are forgotten and laid out again
    first, second = (packed_rows(sharded, "sharded", "train", packing, 100) for _ in range(2))
    in_turn = [[piece.tobytes() for piece in first.read(number)] for number in range(first.count)]
    for number in np.random.default_rng(0).permutation(first.count).tolist():
        assert [piece.tobytes() for piece in second.read(number)] == in_turn[number]


def utilisation(lengths: list[list[int]], packing: str, context: int) -> float:
    """The share of row positions that hold a token."""
    with tempfile.TemporaryDirectory() as folder:
        rows = open_rows(numbered(Path(folder), lengths), packing, context)
        return sum(map(sum, lengths)) / (rows.count * context)


@settings(max_examples=40, deadline=None)
@given(documents_by_shard, st.integers(1, 80))
def test_best_fit_never_needs_more_rows_than_off(lengths: list[list[int]], context: int) -> None:
    assert utilisation(lengths, "best_fit", context) >= utilisation(lengths, "off", context)


@pytest.mark.parametrize("context", [128, 1024, 8192])
def test_best_fit_fills_rows_of_real_documents(context: int) -> None:
    lengths = np.random.default_rng(3).lognormal(6.3, 1.1, 4000).clip(10, 60_000).astype(int).tolist()
    filled = utilisation([lengths], "best_fit", context)
    assert 0.95 < filled <= 1
    assert filled > utilisation([lengths], "off", context) + (0.05 if context == 128 else 0.2)


def test_an_endless_document_costs_no_more_than_its_rows() -> None:
    with layouts([[3, 3_000_000, 5]]) as laid_out:
        rows = laid_out("best_fit", 1000)
    assert len(rows) == 3001 and rows[-1] == [(0, 3), (3_000_003, 3_000_008)]


def test_an_unknown_packing_is_refused(corpus: Corpus) -> None:
    with pytest.raises(ValueError, match=r"packing='tight' is not a packing; use one of stream, best_fit, off"):
        packed_rows(corpus, "world", "train", "tight", 48)


class Counted:
    """count_rows, and how often it was called."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls = 0
        self._lock = threading.Lock()
        monkeypatch.setattr(packing_module, "count_rows", self)

    def __call__(self, stream: TokenStream, packing: str, context: int) -> np.ndarray:
        with self._lock:
            self.calls += 1
        return count_rows(stream, packing, context)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counted:
    """Counts how often an index is made."""
    return Counted(monkeypatch)


@pytest.fixture
def copy(corpus: Corpus, tmp_path: Path) -> Corpus:
    """The small corpus in a folder of its own, without indexes."""
    return copied(corpus, tmp_path / "copy")


def copied(corpus: Corpus, folder: Path) -> Corpus:
    """A corpus in another folder, without indexes."""
    shutil.copytree(corpus.folder, folder, ignore=shutil.ignore_patterns("rows"))
    return Corpus(folder)


@pytest.mark.parametrize("packing", BLOCK_PACKINGS)
def test_the_index_is_made_once_and_again_when_it_is_gone(copy: Corpus, packing: str, counted: Counted) -> None:
    counts = []
    for _ in range(3):
        counts.append(packed_rows(copy, "world", "train", packing, 48).count)
    assert counted.calls == 1
    shutil.rmtree(copy.folder / "rows")
    counts.append(packed_rows(copy, "world", "train", packing, 48).count)
    assert counted.calls == 2 and len(set(counts)) == 1
    copy.verify()


@pytest.mark.parametrize("name", ["edges.npy", "edges.sha256"])
def test_a_damaged_index_is_made_again(copy: Corpus, name: str, counted: Counted) -> None:
    before = np.array(packed_rows(copy, "world", "train", "best_fit", 48).edges)  # type: ignore[union-attr]
    (file,) = (copy.folder / "rows").rglob(name)
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    after = [packed_rows(copy, "world", "train", "best_fit", 48) for _ in range(2)]
    assert counted.calls == 2
    assert all(np.array_equal(rows.edges, before) for rows in after)  # type: ignore[union-attr]


def test_splits_contexts_packings_and_block_sizes_have_indexes_of_their_own(
    copy: Corpus, counted: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    def count(split: str = "train", packing: str = "best_fit", context: int = 48) -> int:
        return packed_rows(copy, "world", split, packing, context).count

    assert len({count(), count("validation"), count(packing="off"), count(context=49)}) == 4
    monkeypatch.setattr(packing_module, "BLOCK", 3)
    assert packed_rows(copy, "world", "train", "best_fit", 48).edges[-1] >= count()  # type: ignore[union-attr]
    assert counted.calls == 5


def test_the_index_is_small(copy: Corpus) -> None:
    packed_rows(copy, "world", "train", "best_fit", 48)
    size = sum(file.stat().st_size for file in (copy.folder / "rows").rglob("*.npy"))
    assert size <= 128 + 8 * (-(-copy.stream("world", "train").counts[0] // BLOCK) + 1)


def test_processes_that_start_at_once_make_the_index_once(copy: Corpus, counted: Counted) -> None:
    with ThreadPoolExecutor(8) as pool:
        counts = list(pool.map(lambda _: packed_rows(copy, "world", "train", "best_fit", 48).count, range(8)))
    assert counted.calls == 1 and len(set(counts)) == 1


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Nothing under the folder can be written. To root permissions mean nothing, so it becomes nobody meanwhile."""
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    if os.geteuid() == 0:
        os.seteuid(NOBODY)
    try:
        if os.access(folder, os.W_OK, effective_ids=True):
            pytest.skip("permissions mean nothing to this user")
        yield
    finally:
        if os.getuid() == 0:
            os.seteuid(0)
        for path in (folder, *folder.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="needs users")
def test_a_corpus_that_cannot_be_written_is_read(corpus: Corpus, counted: Counted) -> None:
    # pytest's own folders are closed to other users
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        bare = copied(corpus, Path(folder) / "bare")
        expected = packed_rows(corpus, "world", "train", "best_fit", 52).count
        calls = counted.calls
        with read_only(bare.folder):
            rows = packed_rows(bare, "world", "train", "best_fit", 52)
            assert rows.count == expected and len(rows.read(expected - 1)) > 0
            assert not (bare.folder / "rows").exists() and counted.calls == calls + 1
        packed_rows(bare, "world", "train", "best_fit", 52)
        with read_only(bare.folder):
            packed_rows(bare, "world", "train", "best_fit", 52)
        assert counted.calls == calls + 2, "an index that is there is not made again"


def test_a_read_only_file_system_is_read_and_other_errors_are_not_hidden(
    copy: Corpus, counted: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(number: int) -> None:
        def locked(folder: Path, wait: bool = False) -> None:
            raise OSError(number, os.strerror(number), str(folder))

        monkeypatch.setattr(packing_module, "locked", locked)

    refuse(errno.EROFS)
    assert packed_rows(copy, "world", "train", "best_fit", 48).count > 0 and counted.calls == 1
    refuse(errno.EIO)
    with pytest.raises(OSError, match="Input/output error"):
        packed_rows(copy, "world", "train", "best_fit", 48)
