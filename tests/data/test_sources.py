"""Sources: the same documents from every file format, stable splits, and an error that names the place of every fault."""

import gzip
import json
import random
from pathlib import Path
from typing import Any

import pytest
import zstandard

from ettin_core.data.config import DataConfig
from ettin_core.data.sources import SPLITS, Document, Source, open_sources, read_documents

TEXTS = ["First document.", "Zweites Dokument: ü, 北京.", "Third\nwith a line\u2028break"]


def config(path: Path, **options: Any) -> DataConfig:
    """A text corpus at a path."""
    return DataConfig(kind="text", name="mine", path=str(path), **options)


def json_lines(rows: list[Any]) -> bytes:
    """Rows as JSON lines."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def compressed(suffix: str, content: bytes) -> bytes:
    """Content as a file with that suffix holds it."""
    if suffix.endswith(".gz"):
        return gzip.compress(content)
    return zstandard.ZstdCompressor(write_checksum=True).compress(content) if suffix.endswith(".zst") else content


def noise(seed: int, size: int) -> str:
    """Text that hardly compresses, the same each time."""
    return random.Random(seed).randbytes(size).hex()


def documents(path: Path, **options: Any) -> list[Document]:
    """The documents of one file."""
    return list(read_documents(path, config(path, **options)))


def everything(source: Source) -> dict[str, list[str]]:
    """The ids of every document of a source by split."""
    return {split: [document.id for document in source.documents(split)] for split in SPLITS}


def refusal(path: Path, **options: Any) -> str:
    """The message with which reading a file fails."""
    with pytest.raises(ValueError) as caught:
        documents(path, **options)
    return str(caught.value)


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz", ".jsonl.zst"])
def test_json_lines_give_the_same_documents_from_every_compression(suffix: str, tmp_path: Path) -> None:
    file = tmp_path / f"a{suffix}"
    rows = [{"id": f"d{number}", "text": text, "other": 1} for number, text in enumerate(TEXTS)]
    file.write_bytes(compressed(suffix, json_lines(rows)))
    assert documents(file) == [Document(f"d{number}", text) for number, text in enumerate(TEXTS)]


@pytest.mark.parametrize("suffix", [".txt", ".txt.gz", ".txt.zst"])
def test_text_files_give_the_same_documents_from_every_compression(suffix: str, tmp_path: Path) -> None:
    file = tmp_path / f"a{suffix}"
    file.write_bytes(compressed(suffix, "\n\n".join(TEXTS).encode()))
    assert [document.text for document in documents(file, separator="\n\n")] == TEXTS
    assert [document.text for document in documents(file)] == ["\n\n".join(TEXTS)]


def test_other_fields_can_be_named(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(json_lines([{"key": 7, "content": "x"}]))
    assert documents(tmp_path / "a.jsonl", text_field="content", id_field="key") == [Document("7", "x")]


def test_a_document_without_an_id_is_named_by_file_and_line(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"\n" + json_lines([{"text": "x"}, {"text": "y", "id": None}]))
    assert [document.id for document in documents(tmp_path / "a.jsonl")] == ["a.jsonl#2", "a.jsonl#3"]


def test_a_large_zst_file_of_several_frames_is_read_whole(tmp_path: Path) -> None:
    rows = [{"id": str(number), "text": noise(number, 200)} for number in range(3000)]
    frames = [zstandard.ZstdCompressor().compress(json_lines(rows[begin : begin + 1000])) for begin in (0, 1000, 2000)]
    (tmp_path / "a.jsonl.zst").write_bytes(b"".join(frames))
    assert [(document.id, document.text) for document in documents(tmp_path / "a.jsonl.zst")] == [
        (row["id"], row["text"]) for row in rows
    ]


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
    books, web = open_sources(config(tmp_path))
    assert (books.name, web.name) == ("books", "web.en")
    assert everything(books) == {
        "train": ["books.train-00", "books.train-01"],
        "validation": ["books.valid"],
        "test": ["books.test"],
    }
    assert everything(web) == {"train": ["web.en.train"], "validation": ["web.en.dev"], "test": ["web.en.test-0"]}


def test_unnamed_files_are_split_96_2_2_by_the_hash_of_the_id(tmp_path: Path) -> None:
    count = 20_000
    (tmp_path / "a.jsonl").write_bytes(json_lines([{"id": f"d{number}", "text": "x"} for number in range(count)]))
    (source,) = open_sources(config(tmp_path))
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
        {split: set(ids) for split, ids in everything(open_sources(config(tmp_path / folder))[0]).items()}
        for folder in ("one", "two", "three")
    ]
    assert splits[0] == splits[1] == splits[2]
    assert all(splits[0].values())


def test_reading_twice_gives_the_same_documents(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(json_lines([{"id": str(number), "text": "x"} for number in range(300)]))
    (source,) = open_sources(config(tmp_path))
    assert everything(source) == everything(source)


def test_the_limit_counts_documents_of_each_split(tmp_path: Path) -> None:
    for split in SPLITS:
        rows = [{"id": f"{split}{number}", "text": "x"} for number in range(9)]
        (tmp_path / f"a.{split}.jsonl").write_bytes(json_lines(rows))
    (source,) = open_sources(config(tmp_path, documents=4))
    assert {split: len(ids) for split, ids in everything(source).items()} == dict.fromkeys(SPLITS, 4)


def test_identity_follows_content_and_not_the_place(tmp_path: Path) -> None:
    def identity(folder: str, text: str) -> str:
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.jsonl").write_bytes(json_lines([{"id": "1", "text": text}]))
        return open_sources(config(tmp_path / folder))[0].identity

    assert identity("one", "hello") == identity("two", "hello") != identity("three", "hellp")


def test_the_world_knows_the_probability_of_its_documents() -> None:
    (source,) = open_sources(DataConfig(kind="world", name="w", documents=10))
    found = list(source.documents("train"))
    assert len(found) == 10
    assert all(document.log_probability is not None and document.log_probability < 0 for document in found)
    assert len(list(source.documents("validation"))) == len(list(source.documents("test"))) == 64


def test_real_textbooks_are_read(real_data: Path) -> None:
    file = real_data / "pretrain" / "textbooks.train-00.jsonl.zst"
    if not file.exists():
        pytest.skip("the textbooks are not in the real data folder")
    found = documents(file)
    assert len(found) == 333
    assert all(len(document.text.split()) >= 60 for document in found)
    assert len({document.id for document in found}) == 333


def test_a_missing_path_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"data\.path='.*/nowhere' does not exist; give a file or folder"):
        open_sources(config(tmp_path / "nowhere"))


def test_a_folder_without_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "picture.png").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"holds no text; put files there that end in \.txt, \.jsonl"):
        open_sources(config(tmp_path))


def test_files_with_and_without_a_split_do_not_mix(tmp_path: Path) -> None:
    for name in ("books.train.jsonl", "stray.jsonl"):
        (tmp_path / name).write_bytes(json_lines([{"text": "x"}]))
    with pytest.raises(ValueError, match=r"data\.path='.*stray\.jsonl' states no split while other files do; name it"):
        open_sources(config(tmp_path))


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"")
    assert refusal(tmp_path / "a.jsonl") == f"data.path={str(tmp_path / 'a.jsonl')!r} is empty; remove the file."


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.jsonl.gz", "a.jsonl.zst"])
def test_bytes_that_are_not_utf8_are_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(compressed(name, '{"text": "Ärger"}\n'.encode("latin-1")))
    assert f"data.path={str(tmp_path / name)!r} is not UTF-8 (" in refusal(tmp_path / name)


@pytest.mark.parametrize("bad", ["{", "plain words", '{"text": "x"} {"text": "y"}'])
def test_a_line_that_is_not_json_is_named(bad: str, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "x"}\n\n' + bad + "\n")
    assert f"data.path='{tmp_path / 'a.jsonl'}:3' is not JSON (" in refusal(tmp_path / "a.jsonl")


def test_a_missing_text_field_names_the_fields_that_are_there(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(json_lines([{"text": "x"}, {"content": "x", "id": 3}]))
    message = refusal(tmp_path / "a.jsonl")
    assert message == f"data.text_field='text' is no text in {tmp_path / 'a.jsonl'}:2; the line has: content, id."


@pytest.mark.parametrize(("row", "kind"), [(["text"], "list"), ("text", "str"), (3, "int"), (None, "NoneType")])
def test_a_line_that_is_no_object_is_refused(row: Any, kind: str, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(json_lines([row]))
    assert f"a.jsonl:1; the line has: {kind}." in refusal(tmp_path / "a.jsonl")


@pytest.mark.parametrize("value", [None, 3, ["x"]])
def test_a_text_that_is_no_string_is_refused(value: Any, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(json_lines([{"text": value}]))
    assert "a.jsonl:1; the line has: text." in refusal(tmp_path / "a.jsonl")


def test_half_a_surrogate_pair_is_refused_by_line(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "fine"}\n{"text": "half \\ud83d"}\n')
    assert f"data.path='{tmp_path / 'a.jsonl'}:2' holds half a character" in refusal(tmp_path / "a.jsonl")


@pytest.mark.parametrize("suffix", [".jsonl.gz", ".jsonl.zst", ".txt.gz", ".txt.zst"])
@pytest.mark.parametrize("kept", [0.02, 0.5, 0.9, 0.999])
def test_a_compressed_file_cut_short_is_refused(suffix: str, kept: float, tmp_path: Path) -> None:
    file = tmp_path / f"a{suffix}"
    whole = compressed(suffix, json_lines([{"text": noise(number, 100)} for number in range(2000)]))
    file.write_bytes(whole[: int(len(whole) * kept)])
    message = refusal(file)
    assert message.startswith(f"data.path={str(file)!r} is cut short or damaged (")
    assert message.endswith("fetch the file again.")


@pytest.mark.parametrize("suffix", [".jsonl.gz", ".jsonl.zst"])
def test_a_file_that_only_claims_to_be_compressed_is_refused(suffix: str, tmp_path: Path) -> None:
    (tmp_path / f"a{suffix}").write_bytes(json_lines([{"text": "x"}]))
    assert "is cut short or damaged (" in refusal(tmp_path / f"a{suffix}")


@pytest.mark.parametrize("suffix", [".jsonl.gz", ".jsonl.zst"])
def test_a_compressed_file_damaged_inside_is_refused(suffix: str, tmp_path: Path) -> None:
    file = tmp_path / f"a{suffix}"
    whole = bytearray(compressed(suffix, json_lines([{"text": noise(number, 100)} for number in range(100)])))
    whole[len(whole) // 2 : len(whole) // 2 + 40] = bytes(40)
    file.write_bytes(whole)
    assert str(file) in refusal(file)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"kind": "html", "name": "x"}, "data.kind='html' is not a kind of corpus; use one of world, text"),
        ({"kind": "text", "name": "x"}, "data.path=None is missing"),
        ({"kind": "world", "name": "x"}, "data.documents=None is missing"),
        ({"kind": "text", "name": "x", "path": "p", "documents": -1}, "data.documents=-1 is not positive"),
        ({"kind": "text", "name": "x", "path": "p", "vocab_size": 256}, "data.vocab_size=256 leaves no room"),
    ],
)
def test_a_corpus_that_makes_no_sense_is_refused(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError) as caught:
        DataConfig(**options)
    assert str(caught.value).startswith(problem)


def test_files_named_by_split_alone_are_one_source(tmp_path: Path) -> None:
    for split in ("train", "validation", "test"):
        (tmp_path / f"{split}-00000-of-00001.jsonl").write_text(
            '{"id": "' + split + '", "text": "words of ' + split + '"}\n'
        )
    sources = open_sources(DataConfig(kind="text", name="mine", path=str(tmp_path)))
    assert [source.name for source in sources] == ["mine"]
    for split in ("train", "validation", "test"):
        assert [document.text for document in sources[0].documents(split)] == [f"words of {split}"]


@pytest.mark.parametrize("separator", ["\n\n", "\\n\\n"])
def test_a_separator_may_be_spelled_as_the_command_line_can(separator: str, tmp_path: Path) -> None:
    (tmp_path / "book.txt").write_text("one\n\ntwo\n\nthree")
    config = DataConfig(kind="text", name="mine", path=str(tmp_path), separator=separator)
    documents = [
        document for split in ("train", "validation", "test") for document in open_sources(config)[0].documents(split)
    ]
    assert sorted(document.text for document in documents) == ["one", "three", "two"]
