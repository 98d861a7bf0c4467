"""Shards: what was added is what is read, whatever the shard's size, and a writer leaves nothing unfinished behind."""

import errno
import hashlib
import os
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ettin_core.data import shards
from ettin_core.data.shards import START, SplitWriter, TokenStream, token_dtype
from ettin_core.data.tokenizer import Tokenizer, train
from ettin_core.foundation.errors import DiskFullError

BOS, EOS = 1, 2


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    """Any tokenizer."""
    folder = tmp_path_factory.mktemp("tokenizer")
    train(["Some words."], 300, folder)
    return Tokenizer(folder)


def written(
    folder: Path, tokenizer: Tokenizer, lengths: list[int], shard_tokens: int
) -> tuple[dict[str, Any], list[np.ndarray]]:
    """The entry of documents of such lengths, and the documents with the marks at their ends."""
    documents = [np.arange(length) % 200 + 5 for length in lengths]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards, "SHARD_TOKENS", shard_tokens)
        writer = SplitWriter(folder, "s.train-00000", tokenizer)
        for number, ids in enumerate(documents):
            writer.add(ids, 3, -float(number))
        entry = writer.close()
    return entry, [np.concatenate([[BOS], ids, [EOS]]) for ids in documents]


def stream_of(folder: Path, entry: dict[str, Any], dtype: str = "<u2") -> TokenStream:
    """The stream of an entry."""
    sizes, counts = (tuple(shard[key] for shard in entry["shards"]) for key in ("tokens", "documents"))
    return TokenStream(tuple(folder / shard["file"] for shard in entry["shards"]), sizes, counts, np.dtype(dtype))


@given(st.lists(st.integers(0, 40), max_size=12), st.integers(1, 60), st.data())
def test_a_stream_is_the_documents_in_a_row(
    tmp_path_factory: pytest.TempPathFactory, tokenizer: Tokenizer, lengths: list[int], size: int, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("shards")
    entry, documents = written(folder, tokenizer, lengths, size)
    stream = stream_of(folder, entry)
    whole = np.concatenate([*documents, np.empty(0, dtype=np.int64)])
    assert len(stream) == len(whole) == entry["tokens"]
    begin = data.draw(st.integers(0, len(whole) + 3))
    end = data.draw(st.integers(begin, len(whole) + 3))
    result = stream.read(begin, end)
    assert result.dtype == np.dtype("<u2") and result.tolist() == whole[begin:end].tolist()
    assert stream.read(0, 10**9).tolist() == whole.tolist()
    assert [shard["tokens"] >= size for shard in entry["shards"][:-1]] == [True] * (len(entry["shards"]) - 1)


@given(st.lists(st.integers(0, 20), min_size=1, max_size=12), st.integers(1, 60), st.data())
def test_starts_say_where_documents_begin_and_where_the_last_ends(
    tmp_path_factory: pytest.TempPathFactory, tokenizer: Tokenizer, lengths: list[int], size: int, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("shards")
    entry, documents = written(folder, tokenizer, lengths, size)
    stream = stream_of(folder, entry)
    result = []
    for shard, base in enumerate(stream.edges[:-1].tolist()):
        starts = stream.starts(shard)
        assert starts.dtype == np.int64 and starts[0] == 0 and starts[-1] == stream.sizes[shard]
        result += [stream.read(base + begin, base + end).tolist() for begin, end in pairwise(starts.tolist())]
        first = data.draw(st.integers(0, stream.counts[shard]))
        end = data.draw(st.integers(first, stream.counts[shard]))
        assert stream.starts(shard, first, end).tolist() == starts[first : end + 1].tolist()
    assert result == [ids.tolist() for ids in documents]


def test_an_entry_counts_what_was_added(tmp_path: Path, tokenizer: Tokenizer) -> None:
    entry, documents = written(tmp_path, tokenizer, [0, 1, 2, 5, 6, 14, 62], 30)
    assert (entry["documents"], entry["tokens"], entry["bytes"]) == (7, sum(map(len, documents)), 21)
    assert entry["lengths"] == [0, 2, 2, 1, 1, 0, 1]  # of 2-3, 4-7, 8-15, 16-31, 64-127 tokens
    assert entry["log_probability"] == -21.0
    assert sum(shard["documents"] for shard in entry["shards"]) == 7 and len(entry["shards"]) > 1
    for number, shard in enumerate(entry["shards"]):
        assert shard["file"] == f"s.train-00000-{number:03d}.bin"
        starts = (tmp_path / shard["file"]).with_suffix(".starts").read_bytes()
        assert hashlib.sha256((tmp_path / shard["file"]).read_bytes()).hexdigest() == shard["sha256"]
        assert hashlib.sha256(starts).hexdigest() == shard["starts_sha256"]
        assert len(starts) == shard["documents"] * START.itemsize
    assert len(list(tmp_path.iterdir())) == 2 * len(entry["shards"])
    whole = b"".join((tmp_path / shard["file"]).read_bytes() for shard in entry["shards"])
    assert np.frombuffer(whole, "<u2").tolist() == np.concatenate(documents).tolist()


def test_a_split_without_documents_has_no_file(tmp_path: Path, tokenizer: Tokenizer) -> None:
    entry, _ = written(tmp_path, tokenizer, [], 30)
    assert entry == {
        "documents": 0,
        "tokens": 0,
        "bytes": 0,
        "lengths": [],
        "log_probability": None,
        "shards": [],
    }
    assert list(tmp_path.iterdir()) == [] and len(stream_of(tmp_path, entry)) == 0
    assert stream_of(tmp_path, entry).read(0, 5).tolist() == []


def test_one_unknown_probability_makes_the_sum_unknown(tmp_path: Path, tokenizer: Tokenizer) -> None:
    writer = SplitWriter(tmp_path, "s.train-00000", tokenizer)
    for known in (-1.0, None, -2.0):
        writer.add(np.array([7]), 1, known)
    assert writer.close()["log_probability"] is None


def test_ids_are_stored_in_two_bytes_or_four(tmp_path: Path, tokenizer: Tokenizer) -> None:
    assert [token_dtype(size).str for size in (300, 2**16, 2**16 + 1)] == ["<u2", "<u2", "<u4"]
    large = Tokenizer(tokenizer.folder)
    large.vocab_size = 2**16 + 1
    writer = SplitWriter(tmp_path, "s.train-00000", large)
    writer.add(np.array([2**16]), 1, None)
    entry = writer.close()
    assert stream_of(tmp_path, entry, "<u4").read(0, 3).tolist() == [BOS, 2**16, EOS]


def test_what_is_abandoned_leaves_finished_shards_only(
    tmp_path: Path, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "SHARD_TOKENS", 10)
    writer = SplitWriter(tmp_path, "s.train-00000", tokenizer)
    for length in (8, 3):
        writer.add(np.arange(length), 1, None)
    assert len(list(tmp_path.glob(".*.tmp"))) == 1
    writer.abandon()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["s.train-00000-000.bin", "s.train-00000-000.starts"]
    writer.abandon()  # twice is once


def test_a_disk_that_is_full_at_the_very_end_still_leaves_nothing(
    tmp_path: Path, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = SplitWriter(tmp_path, "s.train-00000", tokenizer)
    writer.add(np.arange(8), 1, None)

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shards.os, "fsync", full)
    with pytest.raises(DiskFullError, match="nothing saved before is lost"):
        writer.close()
    writer.abandon()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts open files under /proc")
def test_a_stream_of_many_shards_keeps_few_files_open(tmp_path: Path, tokenizer: Tokenizer) -> None:
    entry, documents = written(tmp_path, tokenizer, [5] * (shards.OPEN_MAPS + 20), 1)
    stream = stream_of(tmp_path, entry)
    shards._mapped.cache_clear()
    before = len(os.listdir("/proc/self/fd"))
    edges = list(accumulate(map(len, documents), initial=0))
    for begin, end in pairwise(edges):
        assert len(stream.read(begin, end)) == 7
    held = len(os.listdir("/proc/self/fd")) - before
    shards._mapped.cache_clear()
    assert shards.OPEN_MAPS / 2 < held <= shards.OPEN_MAPS <= 512  # many systems allow a process 1024 in all
    misses = shards._mapped.cache_info().misses
    for _ in range(3):
        stream.read(0, 7)
    assert shards._mapped.cache_info().misses == misses + 1
