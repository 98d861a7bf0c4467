"""Files of text: the same documents from every format, stable splits, and for every fault an error that names its place."""

import gzip
import json
import os
import random
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import zstandard
from hypothesis import example, given
from hypothesis import strategies as st

from ettin_core.data.config import DataConfig
from ettin_core.data.documents import SPLITS, Document, Piece, Skipped, Source
from ettin_core.data.importers import json_lines as json_lines_module
from ettin_core.data.importers import plain_text
from ettin_core.data.importers.registry import find_sources, read
from ettin_core.data.preparation.partitions import RemovalCounts, partition
from ettin_core.data.preparation.partitions import documents as kept_documents
from ettin_core.foundation.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
TEXTS = ["First document.", "Zweites Dokument: ü, 北京.", "Third\nwith a line\u2028break"]
WAY_OUT = ", or set data.on_bad=skip to count and leave out such documents."


def config(path: Path, **options: Any) -> DataConfig:
    """A text corpus at a path."""
    return DataConfig(kind="text", name="mine", path=str(path), **options)


def json_lines(rows: list[Any]) -> bytes:
    """Rows as JSON lines."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def compressed(suffix: str, content: bytes) -> bytes:
    """Content as a file with that suffix holds it."""
    if suffix.lower().endswith(".gz"):
        return gzip.compress(content)
    return (
        zstandard.ZstdCompressor(write_checksum=True).compress(content) if suffix.lower().endswith(".zst") else content
    )


def noise(seed: int, size: int) -> str:
    """Text that hardly compresses, the same each time."""
    return random.Random(seed).randbytes(size).hex()


def items(path: Path, **options: Any) -> list[Document | Skipped]:
    """What reading a file or folder gives."""
    sources = find_sources(config(path, **options))
    return [item for source in sources for piece in source.pieces for item in read(source.config, piece)]


def documents(path: Path, **options: Any) -> list[Document]:
    """The documents of a file or folder of which nothing is left out."""
    results = items(path, **options)
    assert all(isinstance(item, Document) for item in results)
    return [item for item in results if isinstance(item, Document)]


def everything(source: Source) -> dict[str, list[str]]:
    """The ids of every document of a source by split."""
    ids: dict[str, list[str]] = {split: [] for split in SPLITS}
    for part in partition(source):
        for split, document in kept_documents(part, source.config, RemovalCounts()):
            ids[split].append(document.id)
    return ids


def refusal(path: Path, **options: Any) -> str:
    """The message with which reading a file fails, one line; with on_bad=skip it does not fail."""
    with pytest.raises(UserError) as caught:
        items(path, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def skipped(path: Path, **options: Any) -> list[tuple[str, str]]:
    """(reason, sample) of what is left out under on_bad=skip."""
    results = items(path, on_bad="skip", **options)
    return [(item.reason, item.sample) for item in results if isinstance(item, Skipped)]


def kept(path: Path, **options: Any) -> list[str]:
    """The texts that are kept under on_bad=skip."""
    return [item.text for item in items(path, on_bad="skip", **options) if isinstance(item, Document)]


# --- formats


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz", ".jsonl.zst", ".JSONL", ".jsonl.GZ", ".Jsonl.Zst"])
def test_json_lines_give_the_same_documents_from_every_compression(suffix: str, tmp_path: Path) -> None:
    file = tmp_path / f"a{suffix}"
    rows = [{"id": f"d{number}", "text": text, "other": 1} for number, text in enumerate(TEXTS)]
    file.write_bytes(compressed(suffix, json_lines(rows)))
    assert documents(file) == [Document(f"d{number}", text) for number, text in enumerate(TEXTS)]


@pytest.mark.parametrize("suffix", [".txt", ".txt.gz", ".txt.zst", ".TXT.GZ"])
def test_text_files_give_the_same_documents_from_every_compression(suffix: str, tmp_path: Path) -> None:
    file = tmp_path / f"a{suffix}"
    file.write_bytes(compressed(suffix, "\n\n".join(TEXTS).encode()))
    assert [document.text for document in documents(file, separator="\n\n")] == TEXTS
    assert [document.id for document in documents(file, separator="\n\n")] == [f"a{suffix}#{n}" for n in (1, 2, 3)]
    assert documents(file) == [Document(f"a{suffix}", "\n\n".join(TEXTS))]


def test_other_fields_can_be_named(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(json_lines([{"key": 7, "content": "x"}]))
    assert documents(tmp_path / "a.jsonl", text_field="content", id_field="key") == [Document("7", "x")]


def test_a_document_without_an_id_is_named_by_file_and_place_of_its_line(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"\n" + json_lines([{"text": "x"}, {"text": "y", "id": None}]))
    assert [document.id for document in documents(tmp_path / "a.jsonl")] == ["a.jsonl@1", "a.jsonl@15"]


def test_default_ids_are_the_same_plain_and_compressed(tmp_path: Path) -> None:
    for suffix in (".jsonl", ".jsonl.gz", ".jsonl.zst"):
        (tmp_path / f"a{suffix}").write_bytes(compressed(suffix, json_lines([{"text": text} for text in TEXTS])))
    places = [
        [document.id.split("@")[1] for document in documents(tmp_path / f"a{suffix}")]
        for suffix in (".jsonl", ".jsonl.gz", ".jsonl.zst")
    ]
    assert places[0] == places[1] == places[2]


def test_a_large_zst_file_of_several_frames_is_read_whole(tmp_path: Path) -> None:
    rows = [{"id": str(number), "text": noise(number, 200)} for number in range(3000)]
    frames = [zstandard.ZstdCompressor().compress(json_lines(rows[begin : begin + 1000])) for begin in (0, 1000, 2000)]
    note = struct.pack("<II", 0x184D2A50, 4) + b"note"  # a skippable frame, as parallel compressors write
    (tmp_path / "a.jsonl.zst").write_bytes(note + frames[0] + frames[1] + note + frames[2])
    assert [(document.id, document.text) for document in documents(tmp_path / "a.jsonl.zst")] == [
        (row["id"], row["text"]) for row in rows
    ]


def test_a_gz_file_of_several_members_is_read_whole(tmp_path: Path) -> None:
    members = [gzip.compress(json_lines([{"text": text}])) for text in TEXTS]
    (tmp_path / "a.jsonl.gz").write_bytes(b"".join(members))
    assert [document.text for document in documents(tmp_path / "a.jsonl.gz")] == TEXTS


def test_a_byte_order_mark_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"\xef\xbb\xbf" + json_lines([{"text": "x"}]))
    (tmp_path / "b.txt").write_bytes(b"\xef\xbb\xbfy")
    assert [document.text for document in documents(tmp_path)] == ["x", "y"]


# --- ranges of a large file

LINE = st.one_of(
    st.just(b""),
    st.just(b"  \t"),
    st.text(max_size=12).map(lambda text: json.dumps({"text": text}, ensure_ascii=False).encode("utf-8", "replace")),
    st.text(max_size=3).map(lambda text: json.dumps({"text": text, "id": "same"}).encode()),
    st.binary(max_size=12).map(lambda line: line.replace(b"\n", b"")),  # mostly no JSON
)


@given(st.lists(st.tuples(LINE, st.sampled_from([b"\n", b"\r\n"])), max_size=12), st.booleans(), st.integers(1, 90))
@example([(b'{"text": "a"}', b"\n")] * 3, False, 14)  # every edge falls just behind a line's end
@example([(b'{"text": "a"}', b"\n")] * 3, True, 13)  # and on it
@example([(b'{"text": "' + b"a" * 200 + b'"}', b"\r\n"), (b'{"text": "b"}', b"\n")], True, 3)
def test_ranges_together_are_the_file(
    tmp_path_factory: pytest.TempPathFactory, lines: list[tuple[bytes, bytes]], last_ends: bool, size: int
) -> None:
    content = b"".join(line + end for line, end in lines)
    content = content if last_ends else content.removesuffix(b"\n")
    file = tmp_path_factory.mktemp("ranges") / "a.jsonl"
    file.write_bytes(content)
    chosen = config(file, on_bad="skip")
    with patch.object(json_lines_module, "_RANGE", size):
        pieces = json_lines_module.pieces(file, None)
    assert len(pieces) == max(1, -(-len(content) // size))
    assert sum(piece.size for piece in pieces) == len(content)
    results = [item for piece in pieces for item in json_lines_module.read(chosen, piece)]
    whole = list(json_lines_module.read(chosen, Piece(str(file), None, len(content))))
    assert results == whole
    starts = [0, *(place + 1 for place, byte in enumerate(content) if byte == ord("\n"))]
    lines_there = [content[start:end] for start, end in zip(starts, [*starts[1:], len(content)], strict=True)]
    named = [f"a.jsonl@{start}" for start, line in zip(starts, lines_there, strict=True) if line.strip()]
    assert [item.id for item in results if item.id != "same"] == [
        name for name, item in zip(named, results, strict=True) if item.id != "same"
    ]


def test_a_large_plain_file_is_cut_and_a_compressed_one_is_not(tmp_path: Path) -> None:
    content = json_lines([{"text": noise(number, 200)} for number in range(50)])
    for suffix in (".jsonl", ".jsonl.gz"):
        (tmp_path / f"a{suffix}").write_bytes(compressed(suffix, content))
    with patch.object(json_lines_module, "_RANGE", 1000):
        assert len(json_lines_module.pieces(tmp_path / "a.jsonl", "train")) == -(-len(content) // 1000)
        assert len(json_lines_module.pieces(tmp_path / "a.jsonl.gz", "train")) == 1


def test_a_fault_in_a_later_range_is_named_by_its_byte(tmp_path: Path) -> None:
    good = json_lines([{"text": "x" * 30}]) * 10
    (tmp_path / "a.jsonl").write_bytes(good + b"plain words\n")
    with patch.object(json_lines_module, "_RANGE", 100):
        assert f"a.jsonl, byte {len(good)}' is not JSON (" in refusal(tmp_path / "a.jsonl")


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0\r\ufeff"), max_size=9), max_size=8))
def test_separators_are_found_wherever_a_block_ends(tmp_path_factory: pytest.TempPathFactory, parts: list[str]) -> None:
    file = tmp_path_factory.mktemp("blocks") / "a.txt"
    text = "--x--".join(parts)
    file.write_text(text)
    read_block = plain_text.io.TextIOWrapper.read

    class Small(plain_text.io.TextIOWrapper):
        def read(self, size: int | None = -1, /) -> str:
            return read_block(self, 5)  # no longer than the separator, the smallest a block may be

    with patch.object(plain_text.io, "TextIOWrapper", Small):
        results = list(plain_text.read(config(file, separator="--x--"), Piece(str(file), None, len(text))))
    assert [item.text for item in results if isinstance(item, Document)] == [p.strip() for p in text.split("--x--")]


# --- sources, splits, identity


def test_file_names_state_source_and_split(tmp_path: Path) -> None:
    names = [
        "books.train-00",
        "books.train-01",
        "books.valid",
        "books.test",
        "web.en.train",
        "web.en.dev",
        "web.en.test-0",
    ]
    for name in names:
        (tmp_path / f"{name}.jsonl").write_bytes(json_lines([{"id": name, "text": "x"}]))
    books, web = find_sources(config(tmp_path))
    assert (books.name, web.name) == ("books", "web.en")
    assert everything(books) == {
        "train": ["books.train-00", "books.train-01"],
        "validation": ["books.valid"],
        "test": ["books.test"],
    }
    assert everything(web) == {"train": ["web.en.train"], "validation": ["web.en.dev"], "test": ["web.en.test-0"]}


def test_files_named_by_split_alone_are_one_source(tmp_path: Path) -> None:
    for split in SPLITS:
        rows = [{"id": split, "text": f"words of {split}"}]
        (tmp_path / f"{split}-00000-of-00001.jsonl").write_bytes(json_lines(rows))
    (source,) = find_sources(config(tmp_path))
    assert source.name == "mine"
    assert everything(source) == {split: [split] for split in SPLITS}


def test_unnamed_files_are_split_96_2_2_by_the_hash_of_the_id(tmp_path: Path) -> None:
    count = 20_000
    (tmp_path / "a.jsonl").write_bytes(json_lines([{"id": f"d{number}", "text": "x"} for number in range(count)]))
    (source,) = find_sources(config(tmp_path))
    parts = everything(source)
    assert source.name == "mine"
    assert sorted(sum(parts.values(), [])) == sorted(f"d{number}" for number in range(count))
    spread = 4 * (0.02 * 0.98 / count) ** 0.5
    assert abs(len(parts["validation"]) / count - 0.02) < spread
    assert abs(len(parts["test"]) / count - 0.02) < spread


def test_the_hash_split_does_not_depend_on_files_or_their_order(tmp_path: Path) -> None:
    rows = [{"id": f"d{number}", "text": "x"} for number in range(500)]
    for name, content in (("one/a", rows), ("two/b", rows[:100]), ("two/a", rows[100:]), ("three/z", rows[::-1])):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.jsonl").write_bytes(json_lines(content))
    splits = [
        {split: set(ids) for split, ids in everything(find_sources(config(tmp_path / folder))[0]).items()}
        for folder in ("one", "two", "three")
    ]
    assert splits[0] == splits[1] == splits[2]
    assert all(splits[0].values())


def test_the_limit_counts_documents_of_each_split(tmp_path: Path) -> None:
    for split in SPLITS:
        rows = [{"id": f"{split}{number}", "text": "x"} for number in range(9)]
        (tmp_path / f"a.{split}.jsonl").write_bytes(json_lines(rows))
    (source,) = find_sources(config(tmp_path, documents=4))
    assert {split: len(ids) for split, ids in everything(source).items()} == dict.fromkeys(SPLITS, 4)


def test_the_limit_holds_for_a_split_in_several_folders(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        for split in SPLITS:
            rows = [{"id": f"{folder} {split} {number}", "text": "x"} for number in range(3)]
            (tmp_path / folder / f"{split}.jsonl").write_bytes(json_lines(rows))
    (source,) = find_sources(config(tmp_path, documents=4))
    assert everything(source) == {
        split: [f"one {split} 0", f"one {split} 1", f"one {split} 2", f"two {split} 0"] for split in SPLITS
    }


def test_the_limit_counts_documents_of_each_split_by_hash(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(json_lines([{"id": f"d{number}", "text": "x"} for number in range(3000)]))
    (all_of_it,), (limited,) = find_sources(config(tmp_path)), find_sources(config(tmp_path, documents=7))
    assert everything(limited) == {split: ids[:7] for split, ids in everything(all_of_it).items()}


def test_identity_follows_content_and_not_the_place(tmp_path: Path) -> None:
    def identity(folder: str, text: str) -> str:
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.jsonl").write_bytes(json_lines([{"id": "1", "text": text}]))
        return find_sources(config(tmp_path / folder))[0].identity

    assert identity("one", "hello") == identity("two", "hello") != identity("three", "hellp")


def test_any_byte_of_a_large_file_changes_its_identity(tmp_path: Path) -> None:
    file = tmp_path / "large.txt"
    with file.open("wb") as stream:
        stream.truncate(2**29 + 2**20)
    before = file.stat(), find_sources(config(tmp_path))[0].identity
    with file.open("r+b") as stream:
        stream.seek(2**28 + 2**20)
        stream.write(b"x")
    os.utime(file, ns=(before[0].st_atime_ns, before[0].st_mtime_ns))
    assert file.stat().st_size == before[0].st_size and find_sources(config(tmp_path))[0].identity != before[1]


@pytest.mark.parametrize("pattern", ["wiki.*", "wiki.jsonl", "w*", "*i.jsonl"])
def test_a_pattern_chooses_files(pattern: str, tmp_path: Path) -> None:
    for name in ("wiki", "web/books"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.jsonl").write_bytes(json_lines([{"text": name}]))
    texts = [document.text for document in documents(tmp_path, files=pattern)]
    assert texts == (["web/books", "wiki"] if pattern == "w*" else ["wiki"])


def test_a_pattern_that_matches_nothing_is_refused(tmp_path: Path) -> None:
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "a.jsonl").write_bytes(json_lines([{"text": "x"}]))
    assert refusal(tmp_path, files="wiki.*") == (
        f"data.files='wiki.*' matches nothing in {tmp_path}; give a pattern for names such as web/a.jsonl."
    )


def test_real_textbooks_are_read(real_data: Path) -> None:
    file = real_data / "pretrain" / "textbooks.train-00.jsonl.zst"
    if not file.exists():
        pytest.skip("the textbooks are not in the real data folder")
    results = documents(file)
    assert len(results) == 333
    assert all(len(document.text.split()) >= 60 for document in results)
    assert len({document.id for document in results}) == 333


# --- named sources


def named(path: Path, sources: dict[str, dict[str, Any]], **options: Any) -> dict[str, list[str]]:
    """The texts of each named source."""
    matched = find_sources(config(path, sources=sources, **options))
    return {
        source.name: list(
            filter(None, (text_of(item) for piece in source.pieces for item in read(source.config, piece)))
        )
        for source in matched
    }


def text_of(item: Document | Skipped) -> str:
    """The text of a document; of what was left out, nothing."""
    return item.text if isinstance(item, Document) else ""


def test_a_named_source_gathers_its_files_whatever_their_names_say(tmp_path: Path) -> None:
    for name in ("books.train", "web.train", "news.validation"):
        (tmp_path / f"{name}.jsonl").write_bytes(json_lines([{"id": name, "text": name}]))
    (source,) = find_sources(config(tmp_path, sources={"all": {}}))
    assert source.name == "all"
    assert everything(source) == {"train": ["books.train", "web.train"], "validation": ["news.validation"], "test": []}


def test_the_limit_of_a_named_source_counts_its_files_together(tmp_path: Path) -> None:
    for name in ("books.train", "books.validation", "web.train", "web.validation"):
        rows = [{"id": f"{name} {number}", "text": "x"} for number in range(3)]
        (tmp_path / f"{name}.jsonl").write_bytes(json_lines(rows))
    (source,) = find_sources(config(tmp_path, sources={"all": {"documents": 4}}))
    assert {split: len(ids) for split, ids in everything(source).items()} == {"train": 4, "validation": 4, "test": 0}


def test_a_relative_path_of_a_source_is_taken_from_the_corpus(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "near" / "deep").mkdir(parents=True)
    for file in ("far/a", "near/deep/b", "near/c"):
        (tmp_path / f"{file}.jsonl").write_bytes(json_lines([{"text": file}]))
    sources = {"one": {"path": "deep"}, "two": {"path": str(tmp_path / "far")}, "three": {"files": "c.*"}}
    assert named(tmp_path / "near", sources) == {"one": ["near/deep/b"], "two": ["far/a"], "three": ["near/c"]}


def test_one_folder_may_be_a_raw_and_a_filtered_source(tmp_path: Path) -> None:
    rows = [{"id": str(q), "text": f"of quality {q}", "q": q} for q in (3, 85, 84.9, 100)]
    (tmp_path / "a.jsonl").write_bytes(json_lines(rows))
    sources = {"raw": {}, "good": {"at_least": {"q": 85}}}
    assert named(tmp_path, sources) == {
        "good": ["of quality 85", "of quality 100"],
        "raw": [row["text"] for row in rows],
    }
    (source,) = find_sources(config(tmp_path, sources={"good": {"at_least": {"q": 85}}}))
    left_out = [item for piece in source.pieces for item in read(source.config, piece) if isinstance(item, Skipped)]
    assert left_out == [Skipped("3", "q_below_85", "of quality 3"), Skipped("84.9", "q_below_85", "of quality 84.9")]


@pytest.mark.parametrize("row", [{"text": "x"}, {"text": "x", "q": "high"}, {"text": "x", "q": True}])
def test_quality_that_is_no_number_is_refused(row: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_bytes(json_lines([{"text": "fine", "q": 9}, row]))
    message = refusal(file, at_least={"q": 5})
    assert message.startswith(
        f"data.at_least='q' is not a number in {file}:2 ({row.get('q')!r}); name a numeric column"
    )
    assert skipped(file, at_least={"q": 5}) == [("missing_field", json.dumps(row))]


# --- faults


def test_a_missing_path_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"data\.path='.*/nowhere' does not exist; give a file or folder"):
        find_sources(config(tmp_path / "nowhere"))


def test_a_folder_without_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "picture.png").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"holds no text \(not read: suffix .png 1 \(picture.png\)\); put files there"):
        find_sources(config(tmp_path))


def test_a_name_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    try:
        Path(os.fsdecode(bytes(tmp_path) + b"/\xff.jsonl")).write_bytes(json_lines([{"text": "x"}]))
    except OSError:
        pytest.skip("this file system takes names in UTF-8 only")
    assert "has a name that is not UTF-8; rename it." in refusal(tmp_path)


def test_files_with_and_without_a_split_do_not_mix(tmp_path: Path) -> None:
    for name in ("books.train.jsonl", "stray.jsonl"):
        (tmp_path / name).write_bytes(json_lines([{"text": "x"}]))
    with pytest.raises(ValueError, match=r"data\.path='.*stray\.jsonl' states no split while other files do; name it"):
        find_sources(config(tmp_path))


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.jsonl.gz", "a.txt.zst"])
def test_an_empty_file_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"")
    assert refusal(tmp_path / name) == f"data.path={str(tmp_path / name)!r} is empty; remove the file{WAY_OUT}"
    assert skipped(tmp_path / name) == [("empty_file", "")]


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.jsonl.gz", "a.jsonl.zst", "a.txt.gz"])
def test_bytes_that_are_not_utf8_are_refused(name: str, tmp_path: Path) -> None:
    line = '{"text": "Ärger"}\n'.encode("latin-1")
    (tmp_path / name).write_bytes(compressed(name, line))
    place = str(tmp_path / name) + ("" if "txt" in name else ":1")
    message = refusal(tmp_path / name)
    assert message.startswith(f"data.path={place!r} is not UTF-8 (") and message.endswith("); re-encode it" + WAY_OUT)
    assert skipped(tmp_path / name) == [("invalid_text", "" if "txt" in name else repr(line))]


def test_a_line_that_is_not_utf8_costs_that_line_only(tmp_path: Path) -> None:
    lines = [b'{"text": "one"}', '{"text": "Ärger"}'.encode("latin-1"), b'{"text": "two"}']
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(lines))
    assert kept(tmp_path / "a.jsonl") == ["one", "two"]


def test_text_before_bytes_that_are_not_utf8_is_kept_to_the_last_separator(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"one--" * 2 + b"x" * 2**21 + "--Ärger--three".encode("latin-1"))
    assert kept(tmp_path / "a.txt", separator="--") == ["one", "one"]
    assert skipped(tmp_path / "a.txt", separator="--") == [("invalid_text", "")]


@pytest.mark.parametrize("bad", ["{", "plain words", '{"text": "x"} {"text": "y"}', '{"n": ' + "[" * 10**5])
def test_a_line_that_is_not_json_is_named(bad: str, tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text('{"text": "x"}\n\n' + bad + '\n{"text": "y"}\n')
    message = refusal(file)
    assert message.startswith(f"data.path='{file}:3' is not JSON (") and message.endswith("); mend the line" + WAY_OUT)
    assert kept(file) == ["x", "y"]
    ((reason, sample),) = skipped(file)
    assert reason == "not_json" and sample and (bad + "\n").startswith(sample)


def test_a_number_of_thousands_of_digits_is_refused_by_line(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "x", "n": ' + "1" * 5000 + "}\n")
    assert f"{tmp_path / 'a.jsonl'}:1' is not JSON (a number has too many digits); " in refusal(tmp_path / "a.jsonl")


def test_a_missing_text_field_names_the_fields_that_are_there(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_bytes(json_lines([{"text": "x"}, {"content": "x", "id": 3}]))
    assert refusal(file) == f"data.text_field='text' is missing in {file}:2; use one of content, id{WAY_OUT}"
    assert skipped(file) == [("missing_field", '{"content": "x", "id": 3}')]
    assert kept(file) == ["x"]


@pytest.mark.parametrize(("row", "kind"), [(["text"], "a list"), ("text", "a string"), (3, "a number"), (None, "null")])
def test_a_line_that_is_no_object_is_refused(row: Any, kind: str, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(json_lines([row]))
    expected = f"a.jsonl:1' is {kind} instead of an object with fields; write one object a line, "
    assert expected in refusal(tmp_path / "a.jsonl")
    assert skipped(tmp_path / "a.jsonl") == [("missing_field", json.dumps(row))]


@pytest.mark.parametrize(
    ("value", "kind"), [(None, "null"), (3, "a number"), (True, "a truth value"), (["x"], "a list"), ({}, "an object")]
)
def test_a_text_that_is_no_string_is_refused(value: Any, kind: str, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(json_lines([{"text": value}]))
    expected = f"data.text_field='text' is {kind} instead of text in {tmp_path / 'a.jsonl'}:1; "
    assert refusal(tmp_path / "a.jsonl") == f"{expected}write its text there, or leave the row out{WAY_OUT}"
    assert skipped(tmp_path / "a.jsonl") == [("missing_field", json.dumps({"text": value}))]


def test_half_a_surrogate_pair_is_refused_by_line(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text('{"text": "fine"}\n{"text": "half \\ud83d"}\n')
    assert refusal(file).startswith(f"data.path='{file}:2' holds half a character (\\ud800); mend the row{WAY_OUT[:4]}")
    assert skipped(file) == [("invalid_text", '{"text": "half \\ud83d"}')]
    assert kept(file) == ["fine"]


@pytest.mark.parametrize("tail", [bytes(4096), b'{"text": "y"' + bytes(9), '{"text": "y"}'.encode("utf-16")])
def test_nul_bytes_are_reported_as_such(tail: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'{"text": "x \\u0000"}\n' + tail)
    assert f"a.jsonl:2' holds NUL bytes; remove them, or write the file again as UTF-8{WAY_OUT}" in refusal(tmp_path)
    assert kept(tmp_path) == ["x \0"] and [reason for reason, _ in skipped(tmp_path)] == ["invalid_text"]


def test_a_text_file_with_nul_bytes_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("one, two".encode("utf-16-le"))
    assert f"a.txt' holds NUL bytes; write the file again as UTF-8{WAY_OUT}" in refusal(tmp_path)
    assert documents(tmp_path, separator="\\0") != []


def test_a_list_over_several_lines_is_reported_as_such(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('[\n  {"text": "x"}\n]\n')
    assert "a.jsonl:1' is not JSON but begins a list; write one object a line, such as" in refusal(tmp_path)


@pytest.mark.parametrize("suffix", [".jsonl.gz", ".jsonl.zst", ".txt.gz", ".txt.zst"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.9, 0.999])
def test_a_compressed_file_cut_short_is_refused(suffix: str, share: float, tmp_path: Path) -> None:
    file = tmp_path / f"a{suffix}"
    rows = [{"text": noise(number, 100)} for number in range(2000)]
    whole = compressed(suffix, json_lines(rows))
    file.write_bytes(whole[: int(len(whole) * share)])
    message = refusal(file)
    assert message.startswith(f"data.path={str(file)!r} is cut short or damaged (")
    assert message.endswith("fetch the file again" + WAY_OUT)
    assert skipped(file) == [("damaged_file", "")]
    if "jsonl" in suffix:
        texts = kept(file)
        assert texts == [row["text"] for row in rows[: len(texts)]]
        assert share < 0.1 or len(texts) > 2000 * share - 1000


@pytest.mark.parametrize("suffix", [".jsonl.gz", ".jsonl.zst", ".txt.gz", ".txt.zst"])
def test_a_file_that_only_claims_to_be_compressed_is_refused(suffix: str, tmp_path: Path) -> None:
    (tmp_path / f"a{suffix}").write_bytes(json_lines([{"text": "x"}]))
    assert "is cut short or damaged (" in refusal(tmp_path / f"a{suffix}")
    assert skipped(tmp_path / f"a{suffix}") == [("damaged_file", "")]


@pytest.mark.parametrize("suffix", [".jsonl.gz", ".jsonl.zst"])
def test_a_compressed_file_damaged_inside_is_refused(suffix: str, tmp_path: Path) -> None:
    file = tmp_path / f"a{suffix}"
    whole = bytearray(compressed(suffix, json_lines([{"text": noise(number, 100)} for number in range(100)])))
    whole[len(whole) // 2 : len(whole) // 2 + 40] = bytes(40)
    file.write_bytes(whole)
    assert str(file) in refusal(file)


def test_garbage_behind_a_compressed_file_is_refused(tmp_path: Path) -> None:
    for suffix in (".jsonl.gz", ".jsonl.zst"):
        file = tmp_path / f"a{suffix}"
        file.write_bytes(compressed(suffix, json_lines([{"text": "x"}])) + b"garbage")
        assert "is cut short or damaged (" in refusal(file)
        assert kept(file) == ["x"]


def test_a_text_file_beyond_the_limit_is_an_error_that_names_separators(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("one--" + "x" * 3000 + "--three")
    limited: dict[str, Any] = {"separator": "--", "max_document_mb": 2000 / 2**20}
    assert refusal(file, **limited).startswith(
        f"data.path={str(file)!r} holds a document of more than 0.00190735 MiB; set data.separator to cut it, or raise data.m"
    )
    assert kept(file, **limited) == ["one"]
    assert skipped(file, **limited) == [("too_large", "x" * 300)]


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz", ".jsonl.zst"])
def test_a_line_beyond_the_limit_costs_that_line_only(suffix: str, tmp_path: Path) -> None:
    file = tmp_path / f"a{suffix}"
    lines = [json.dumps({"text": text}) for text in ("one", "x" * 2**20, "y" * (1000 - len('{"text": ""}')), "three")]
    file.write_bytes(compressed(suffix, "\n".join(lines).encode()))
    limited: dict[str, Any] = {"max_document_mb": 1000 / 2**20}
    assert f"{file}:2' holds a document of more than " in refusal(file, **limited)
    assert [len(text) for text in kept(file, **limited)] == [3, 988, 5]
    assert [reason for reason, _ in skipped(file, **limited)] == ["too_large"]
    with patch.object(json_lines_module, "_RANGE", 2**19):
        assert [len(text) for text in kept(file, **limited)] == [3, 988, 5]


BOMB = """
import re, sys
from pathlib import Path
from ettin_core.data.config import DataConfig
from ettin_core.data.importers.registry import find_sources, read
from ettin_core.foundation.errors import UserError
for file in Path(sys.argv[1]).iterdir():
    try:
        config = DataConfig(kind="text", name="x", path=str(file), max_document_mb=16)
        for source in find_sources(config):
            print([next(read(config, piece)) for piece in source.pieces])
    except UserError as error:
        print(error)
# ru_maxrss would be that of the test process, from which this one was forked, where that is more
print(int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) // 1024)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="counts memory as Linux does")
def test_a_bomb_is_refused_in_little_memory(tmp_path: Path) -> None:
    size = 2**30
    for name in ("a.jsonl.zst", "a.txt.zst"):
        packer = zstandard.ZstdCompressor().compressobj(size=size)
        blocks = [packer.compress(b"x" * 2**24) for _ in range(size // 2**24)]
        (tmp_path / name).write_bytes(b"".join([*blocks, packer.flush()]))
    packed = gzip.compress(b"x" * 2**24)
    for name in ("a.jsonl.gz", "a.txt.gz"):
        (tmp_path / name).write_bytes(packed * (size // 2**24))
    done = subprocess.run([sys.executable, "-c", BOMB, str(tmp_path)], cwd=ROOT, capture_output=True, text=True)
    *lines, memory = done.stdout.splitlines()
    assert done.returncode == 0, done.stderr
    assert len(lines) == 4 and all("holds a document of more than 16 MiB; " in line for line in lines), done.stdout
    assert int(memory) < 1024


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"kind": "html", "name": "x"}, "data.kind='html' is not a kind of corpus; use one of world, text"),
        ({"kind": "text", "name": "x"}, "data.path=None is missing"),
        ({"kind": "world", "name": "x"}, "data.documents=None is missing"),
        ({"kind": "text", "name": "x", "path": "p", "documents": -1}, "data.documents=-1 is not positive"),
        ({"kind": "text", "name": "x", "path": "p", "max_document_mb": 0}, "data.max_document_mb=0 is not a positive"),
        ({"kind": "text", "name": "x", "path": "p", "documents": 0}, "data.documents=0 is not positive"),
        ({"kind": "text", "name": "x", "path": "p", "vocab_size": 256}, "data.vocab_size=256 is too small"),
        (
            {"kind": "text", "name": "x", "path": "p", "on_bad": "ignore"},
            "data.on_bad='ignore' is not a valid choice; use one",
        ),
        (
            {"kind": "text", "name": "x", "path": "p", "sources": {"a": {"pth": "q"}}},
            "data.sources.a.pth='q' is an unknown key; did you mean 'data.sources.a.path'?",
        ),
        (
            {"kind": "text", "name": "x", "path": "p", "sources": {"a": {"documents": "many"}}},
            "data.sources.a.documents='many'",
        ),
        ({"kind": "text", "name": "x", "sources": {"a": {"path": "p"}, "b": {}}}, "data.path=None is missing for sou"),
        (
            {"kind": "text", "name": "x", "path": "p", "mixtures": {"decay": {"a": 0}}},
            "data.mixtures.decay.a=0 is not positive; leave the source out instead.",
        ),
        ({"kind": "text", "name": "x", "path": "p", "mixtures": {"decay": {"a": -1.5}}}, "data.mixtures.decay.a=-1.5"),
        (
            {"kind": "text", "name": "x", "path": "p", "mixtures": {"decay": {"a": float("nan")}}},
            "data.mixtures.decay.a=nan is not positive",
        ),
        (
            {"kind": "text", "name": "x", "path": "p", "sources": {"a": {}}, "mixtures": {"decay": {"b": 1}}},
            "data.mixtures.decay='b' is not a source of the corpus; it has a.",
        ),
    ],
)
def test_a_corpus_that_makes_no_sense_is_refused(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(UserError) as caught:
        DataConfig(**options)
    assert str(caught.value).startswith(problem)


def test_a_mixture_of_a_source_that_no_file_names_is_refused(tmp_path: Path) -> None:
    (tmp_path / "books.train.jsonl").write_bytes(json_lines([{"text": "x"}]))
    assert find_sources(config(tmp_path, mixtures={"pretrain": {"books": 2.0}}))
    with pytest.raises(UserError) as caught:
        find_sources(config(tmp_path, mixtures={"pretrain": {"web": 2.0}}))
    assert str(caught.value) == "data.mixtures.pretrain='web' is not a source of the corpus; it has books."


@pytest.mark.parametrize("name", ["a/b", "a b", "", "a\nb", "a:b"])
def test_a_source_name_unfit_for_a_file_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(json_lines([{"text": "x"}]))
    with pytest.raises(UserError) as caught:
        find_sources(config(tmp_path, sources={name: {}}))
    assert str(caught.value).startswith(f"data.sources={name!r} ") and "; use letters" in str(caught.value)


# --- the world


def test_the_world_knows_the_probability_of_its_documents() -> None:
    (source,) = find_sources(DataConfig(kind="world", name="w", documents=10))
    assert [source.name, [piece.split for piece in source.pieces]] == ["w", list(SPLITS)]
    results = [document for piece in source.pieces for document in read(source.config, piece)]
    assert all(isinstance(d, Document) and d.log_probability is not None and d.log_probability < 0 for d in results)
    counts = {split: len(ids) for split, ids in everything(source).items()}
    assert counts == {"train": 10, "validation": 64, "test": 64}


def test_any_range_of_the_world_can_be_written_alone() -> None:
    (source,) = find_sources(DataConfig(kind="world", name="w", documents=30))
    whole = list(read(source.config, source.pieces[0]))
    pieces = [Piece("world", "train", 0, begin, begin + 10) for begin in (20, 0, 10)]
    ranges = [list(read(source.config, piece)) for piece in pieces]
    assert ranges == [whole[20:], whole[:10], whole[10:20]]
