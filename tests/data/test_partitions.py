"""Parts: a division of the input that follows from the input alone, and what is kept and counted of each."""

import json
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ettin_core.data.config import DataConfig, SourceConfig
from ettin_core.data.corpus import Corpus
from ettin_core.data.curation.config import CurationConfig
from ettin_core.data.documents import SPLITS, Document, Piece, Skipped, Source
from ettin_core.data.held_out import HeldOut
from ettin_core.data.importers.registry import find_sources
from ettin_core.data.preparation import partitions as module
from ettin_core.data.preparation.partitions import (
    MERGE_BYTES,
    Partition,
    RemovalCounts,
    documents,
    partition,
    write_part,
    write_signatures,
)
from ettin_core.data.preparation.prepare import prepare
from ettin_core.data.shards import TokenStream
from ettin_core.data.tokenizer import Tokenizer, policy_hash, train
from ettin_core.foundation.errors import UserError

NOTHING = HeldOut(Path("nowhere"))  # no document is held out
PIECE = st.tuples(st.sampled_from(["train", "validation", None]), st.integers(0, 2 * MERGE_BYTES))


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    """A tokenizer of letters."""
    folder = tmp_path_factory.mktemp("tokenizer")
    train(["Some words."], 300, folder)
    return Tokenizer(folder)


def text_config(path: Path, **options: Any) -> SourceConfig:
    """How a text source is read."""
    return SourceConfig(kind="text", path=str(path), **options)


def one_part(path: Path, rows: list[Any], **options: Any) -> tuple[Partition, SourceConfig]:
    """The only part of a file of JSON lines, as train."""
    path.mkdir(exist_ok=True)
    (path / "s.train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (source,) = find_sources(DataConfig(kind="text", path=str(path), **options))
    (part,) = partition(source)
    return part, source.config


def entry_of(folder: Path, part: Partition) -> dict[str, Any]:
    """The entry of a finished part."""
    return json.loads((folder / "parts" / f"{part.name}.json").read_text())


def silent(count: int, size: int) -> None:
    """No progress report."""


def texts(folder: Path, entry: dict[str, Any], tokenizer: Tokenizer, split: str = "train") -> list[str]:
    """The documents of a part's shards."""
    result = []
    for shard in entry["splits"][split]["shards"]:
        stream = TokenStream((folder / shard["file"],), (shard["tokens"],), (shard["documents"],), np.dtype("<u2"))
        result += [
            tokenizer.decode(stream.read(begin, end)[1:-1].tolist())
            for begin, end in pairwise(stream.starts(0).tolist())
        ]
    return result


# --- the division


@given(st.lists(PIECE, max_size=12), st.booleans())
def test_parts_hold_every_piece_once_and_in_order(sizes: list[tuple[str | None, int]], limited: bool) -> None:
    pieces = tuple(Piece(f"f{number}", split, size) for number, (split, size) in enumerate(sizes))
    config = SourceConfig(kind="text", path="p", documents=5 if limited else None)
    parts = partition(Source("s", config, "", pieces))
    ordered = [piece for part in parts for piece in part.pieces]
    assert [part.name for part in parts] == [f"s.{number:05d}" for number in range(len(parts))]
    assert all({piece.split for piece in part.pieces} == {part.split} for part in parts)
    if limited:
        assert sorted(ordered, key=pieces.index) == list(pieces)
        assert len({part.split for part in parts}) == len(parts)  # a limit is counted within a part
    else:
        assert ordered == list(pieces)
        assert all(part.size <= MERGE_BYTES for part in parts if len(part.pieces) > 1)
        for earlier, later in pairwise(parts):
            assert earlier.split != later.split or earlier.size + later.pieces[0].size > MERGE_BYTES


def test_the_documents_of_world_are_no_limit() -> None:
    (source,) = find_sources(DataConfig(kind="world", name="w", documents=25_000))
    ranges = [(part.split, part.pieces[0].begin, part.pieces[-1].end) for part in partition(source)]
    assert ranges == [
        ("train", 0, 10_000),
        ("train", 10_000, 20_000),
        ("train", 20_000, 25_000),
        ("validation", 0, 500),
        ("test", 0, 500),
    ]


# --- what is kept


def test_empty_documents_are_counted_and_left_out(tmp_path: Path) -> None:
    rows = [{"id": "a", "text": ""}, {"text": "one"}, {"id": "b", "text": " \n\t"}, {"text": "two"}]
    part, config = one_part(tmp_path, rows)
    counts = RemovalCounts()
    assert [(split, document.text) for split, document in documents(part, config, counts)] == [
        ("train", "one"),
        ("train", "two"),
    ]
    assert counts.plain == {
        "skipped": {"empty": 2},
        "samples": {"empty": [{"id": "a", "text": ""}, {"id": "b", "text": ""}]},
        "lines_removed": {},
    }


def test_a_tally_keeps_the_first_samples_of_each_reason_over_parts() -> None:
    first, second, whole = RemovalCounts(), RemovalCounts(), RemovalCounts()
    for number in range(5):
        (first if number < 2 else second).skip(Skipped(str(number), "empty", "x" * 1000))
    second.skip(Skipped("5", "not_json"))
    second.lines_removed["c4.short"] += 3
    for counts in (first, second):
        whole.add(json.loads(json.dumps(counts.plain)))
    assert whole.skipped == {"empty": 5, "not_json": 1}
    assert whole.samples == {
        "empty": [{"id": str(number), "text": "x" * 300} for number in range(3)],
        "not_json": [{"id": "5", "text": ""}],
    }
    assert whole.lines_removed == {"c4.short": 3}
    assert first.samples["empty"] == [{"id": str(number), "text": "x" * 300} for number in range(2)]


def test_half_a_character_beside_the_text_stops_nothing(tmp_path: Path) -> None:
    rows = [
        {"id": f"\ud800{number}", "text": text, "q": q}
        for number, (text, q) in enumerate([("kept", 9), ("", 9), ("half \udc00 one", 1)])
    ]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (source,) = find_sources(DataConfig(kind="text", path=str(tmp_path), at_least={"q": 5}))
    (part,) = partition(source)
    counts = RemovalCounts()
    assert [document.text for _, document in documents(part, source.config, counts)] == ["kept"]
    assert counts.samples == {
        "empty": [{"id": "?1", "text": ""}],
        "q_below_5": [{"id": "?2", "text": "half ? one"}],
    }


def test_a_limit_ends_the_reading(tmp_path: Path) -> None:
    part, config = one_part(tmp_path, [{"text": "one"}, {"text": "two"}], documents=2)
    (tmp_path / "s.train.jsonl").open("a").write("no JSON\n")
    assert [document.text for _, document in documents(part, config, RemovalCounts())] == ["one", "two"]


# --- writing


def test_a_part_is_written_and_its_entry_says_what(tmp_path: Path, tokenizer: Tokenizer) -> None:
    rows = [{"id": str(number), "text": f"number {number}"} for number in range(3000)] + [{"text": ""}]
    part, config = one_part(tmp_path / "in", rows)
    ticks: list[tuple[int, int]] = []
    write_part(part, config, tokenizer, tmp_path, lambda count, size: ticks.append((count, size)), NOTHING)
    entry = entry_of(tmp_path, part)
    assert entry["policy"] == policy_hash(tokenizer)
    assert entry["skipped"] == {"empty": 1}
    assert texts(tmp_path, entry, tokenizer) == [row["text"] for row in rows[:-1]]
    assert [entry["splits"][split]["documents"] for split in SPLITS] == [3000, 0, 0]
    assert [count for count, _ in ticks] == [1024, 1024, 952]
    assert sum(size for _, size in ticks) == entry["splits"]["train"]["bytes"] == sum(len(r["text"]) for r in rows)


def test_a_batch_holds_about_a_megabyte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tokenizer: Tokenizer) -> None:
    monkeypatch.setattr(module, "BATCH_CHARACTERS", 100)
    part, config = one_part(tmp_path / "in", [{"text": "x" * size} for size in (60, 60, 500, 1, 1)])
    ticks: list[int] = []
    write_part(part, config, tokenizer, tmp_path, lambda count, size: ticks.append(count), NOTHING)
    assert ticks == [2, 1, 2]


def test_duplicates_are_left_out_by_their_number(tmp_path: Path, tokenizer: Tokenizer) -> None:
    part, config = one_part(tmp_path / "in", [{"text": text} for text in ("a", "", "b", "a", "c")])
    write_part(
        part, config, tokenizer, tmp_path, silent, NOTHING, {2: "exact_duplicate"}
    )  # the empty one has no number
    entry = entry_of(tmp_path, part)
    assert texts(tmp_path, entry, tokenizer) == ["a", "b", "c"]
    assert entry["skipped"] == {"empty": 1, "exact_duplicate": 1}
    assert entry["samples"]["exact_duplicate"][0]["text"] == "a"


def test_signatures_are_of_the_documents_that_are_numbered(tmp_path: Path) -> None:
    curation = CurationConfig(exact_duplicates=True)
    part, config = one_part(tmp_path / "in", [{"text": t} for t in ("a b", "", "c", "A  b")], curation=curation)
    write_signatures(part, config, tmp_path / "h.npy", tmp_path / "s.npy", silent)
    table = np.load(tmp_path / "s.npy")
    assert (table.dtype, table.shape, np.load(tmp_path / "h.npy").shape) == (np.dtype("uint64"), (3, 2), (0, 2))
    assert table[:, 0].tolist() == [0, 1, 2] and table[0, 1] == table[2, 1] != table[1, 1]
    none, config = one_part(tmp_path / "in", [{"text": ""}], curation=curation)
    write_signatures(none, config, tmp_path / "h.npy", tmp_path / "s.npy", silent)
    assert np.load(tmp_path / "s.npy").shape == (0, 2)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["h.npy", "in", "s.npy"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_part_that_is_interrupted_has_no_entry(
    error: type[BaseException], tmp_path: Path, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BATCH_DOCUMENTS", 10)
    part, config = one_part(tmp_path / "in", [{"text": "x"}] * 100)

    def stop(count: int, size: int) -> None:
        raise error

    with pytest.raises(error):
        write_part(part, config, tokenizer, tmp_path, stop, NOTHING)
    assert [file.name for file in tmp_path.iterdir()] == ["in"]


# --- token columns


def token_rows(folder: Path, tokenizer: Tokenizer, rows: list[Any], **options: Any) -> Corpus:
    """A corpus of a column of ids."""
    (folder / "in").mkdir(parents=True)
    for split, given_rows in (("train", rows), ("validation", [{"tokens": [9]}])):
        lines = "".join(json.dumps(row) + "\n" for row in given_rows)
        (folder / "in" / f"s.{split}.jsonl").write_text(lines)
    given = {"token_field": "tokens", "tokenizer": str(tokenizer.folder)} | options
    config = DataConfig(kind="text", name="ids", path=str(folder / "in"), **given)
    return prepare(config, folder, 1)


def test_ids_are_taken_with_or_without_marks_at_their_ends(tmp_path: Path, tokenizer: Tokenizer) -> None:
    bos, eos = tokenizer.special.bos, tokenizer.special.eos
    ids = tokenizer.encode(["Some words."])[0]
    rows: Iterable[list[int]] = ([*ids], [bos, *ids], [*ids, eos], [bos, *ids, eos], [])
    corpus = token_rows(tmp_path, tokenizer, [{"tokens": row} for row in rows])
    stored = [document.tolist() for document in corpus.documents("train")]
    assert stored == [[bos, *ids, eos]] * 4
    assert corpus.manifest["sources"]["s"]["train"]["bytes"] == 4 * len("Some words.")
    assert corpus.manifest["reading"]["s"]["skipped"] == {"empty": 1}


@pytest.mark.parametrize("value", [[1.5], [[1, 2]], [[1], [1, 2]], "words", 7, [2**70], ["1"], {"a": 1}])
def test_what_is_no_list_of_ids_is_refused(value: Any, tmp_path: Path, tokenizer: Tokenizer) -> None:
    with pytest.raises(UserError) as caught:
        token_rows(tmp_path / "one", tokenizer, [{"id": "odd", "tokens": value}])
    place = tmp_path / "one" / "in" / "s.train.jsonl"
    assert str(caught.value).startswith(f"data.token_field='tokens' is not a list of ids in {place}:1 (")
    assert "; name a column of ids, or set data.on_bad=skip" in str(caught.value)
    corpus = token_rows(tmp_path / "two", tokenizer, [{"tokens": [8]}, {"id": "odd", "tokens": value}], on_bad="skip")
    assert corpus.manifest["reading"]["s"]["skipped"] == {"invalid_tokens": 1}


@pytest.mark.parametrize("value", [[7, 300], [-1, 7], [7, 3, 7], [7, 4]])
def test_what_are_no_ids_of_the_tokenizer_is_refused(value: list[int], tmp_path: Path, tokenizer: Tokenizer) -> None:
    with pytest.raises(UserError) as caught:
        token_rows(tmp_path / "one", tokenizer, [{"id": "odd", "tokens": value}])
    assert str(caught.value).startswith("data.token_field='tokens' holds ")
    assert "in document 'odd'; give the tokenizer the ids were made with as data.tokenizer, or set" in str(caught.value)
    corpus = token_rows(tmp_path / "two", tokenizer, [{"tokens": [8]}, {"id": "odd", "tokens": value}], on_bad="skip")
    assert corpus.manifest["reading"]["s"]["skipped"] == {"bad_ids": 1}
    assert corpus.manifest["reading"]["s"]["samples"] == {"bad_ids": [{"id": "odd", "text": str(value)}]}


def test_ids_without_a_tokenizer_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.train.jsonl").write_text('{"tokens": [1]}\n')
    config = DataConfig(kind="text", path=str(tmp_path), token_field="tokens")
    with pytest.raises(UserError, match="data.tokenizer=None is missing for a column of token ids; give the tokenizer"):
        prepare(config, tmp_path / "out", 1)


def test_a_document_stays_what_it_is(tmp_path: Path) -> None:
    part, config = one_part(tmp_path, [{"id": "a", "text": " spaces stay "}])
    assert list(documents(part, config, RemovalCounts())) == [("train", Document("a", " spaces stay "))]
