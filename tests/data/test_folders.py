"""Folders as people keep them: what their names state, what is read once, and what is not read is counted and reported."""

import gzip
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hydra import compose, initialize_config_dir

from ettin_core.data.config import DataConfig
from ettin_core.data.documents import SPLITS, Document, Source
from ettin_core.data.importers.folders import stated
from ettin_core.data.importers.registry import find_sources, read
from ettin_core.data.preparation.partitions import RemovalCounts, documents, partition
from ettin_core.foundation.errors import UserError
from ettin_core.foundation.manual import CONFIGURATIONS
from ettin_core.foundation.strict_config import build
from ettin_core.requests.compose import composer, to_plain
from ettin_core.studies.grid import StudyRequest, cells_of


def write(file: Path, count: int = 1) -> Path:
    """A file of JSON lines whose texts say where they lie."""
    file.parent.mkdir(parents=True, exist_ok=True)
    place = "/".join(file.parts[-3:])
    file.write_text("".join(json.dumps({"text": f"{place} {number}"}) + "\n" for number in range(count)))
    return file


def sources_of(folder: Path, **options: Any) -> list[Source]:
    """The sources of a folder."""
    return find_sources(DataConfig(kind="text", name="mine", path=str(folder), vocab_size=300, **options))


def items(folder: Path, **options: Any) -> list[Document]:
    """The documents of a folder."""
    pieces = [(source, piece) for source in sources_of(folder, **options) for piece in source.pieces]
    read_items = [item for source, piece in pieces for item in read(source.config, piece)]
    return [item for item in read_items if isinstance(item, Document)]


def not_read(folder: Path, **options: Any) -> dict[str, tuple[int, tuple[str, ...]]]:
    """Reason -> (count, examples)."""
    (source,) = sources_of(folder, **options)
    return {reason: (entry.count, entry.examples) for reason, entry in source.not_read.items()}


def by_split(source: Source) -> dict[str, list[str]]:
    """The ids of a source's documents by split."""
    ids: dict[str, list[str]] = {split: [] for split in SPLITS}
    for part in partition(source):
        for split, document in documents(part, source.config, RemovalCounts()):
            ids[split].append(document.id)
    return ids


# --- what names state


@pytest.mark.parametrize(
    ("place", "source", "split"),
    [
        ("train/0.jsonl", None, "train"),
        ("data/en/v1/Dev/part.txt", None, "validation"),
        ("books/valid/0.jsonl", None, "validation"),
        ("eval/x.jsonl", None, "test"),
        ("test-00/x.jsonl", None, "test"),
        ("train/books.jsonl", None, "train"),
        ("train/books.train-00.jsonl.zst", "books", "train"),
        ("books.train-00.jsonl", "books", "train"),
        ("web-dev.train.jsonl", "web-dev", "train"),
        ("val.jsonl", None, "validation"),
        ("TRAIN.jsonl", None, "train"),
        ("train_00.jsonl", None, "train"),
        ("test1.txt", None, "test"),
        ("my_books_test-00.jsonl", "my_books", "test"),
        ("a-validation.jsonl.gz", "a", "validation"),
        ("testimony.txt", None, None),
        ("medieval/contest.txt", None, None),
        ("part-0.jsonl", None, None),
    ],
)
def test_names_state_split_and_source(place: str, source: str | None, split: str | None) -> None:
    assert stated(Path(place)) == (source, split)


@pytest.mark.parametrize("place", ["train/test.jsonl", "dev/test/0.jsonl", "test/books.train.jsonl", "train_test.txt"])
def test_two_splits_in_one_name_are_refused(place: str, tmp_path: Path) -> None:
    write(tmp_path / place)
    with pytest.raises(UserError, match=r"states several splits \(\w+, \w+\); name one split in"):
        sources_of(tmp_path)


@pytest.mark.parametrize("names", [("train", "validation", "test"), ("en/Train", "fr/dev", "eval")])
def test_split_folders_are_honoured(names: tuple[str, ...], tmp_path: Path) -> None:
    for name in names:
        write(tmp_path / name / "part-0.jsonl", 2)
    (source,) = sources_of(tmp_path)
    expected = {
        split: [f"{name}/part-0.jsonl@{at}" for at in (0, 36)] for split, name in zip(SPLITS, names, strict=True)
    }
    assert {split: [id.split("@")[0] for id in ids] for split, ids in by_split(source).items()} == {
        split: [id.split("@")[0] for id in ids] for split, ids in expected.items()
    }


def test_a_file_beside_split_folders_is_refused(tmp_path: Path) -> None:
    for name in ("train/a.jsonl", "test/a.jsonl", "a.jsonl"):
        write(tmp_path / name)
    with pytest.raises(UserError, match=r"/a.jsonl' states no split while other files do; .* data.files"):
        sources_of(tmp_path)
    assert len(items(tmp_path, files="*/a.jsonl")) == 2


def test_ids_are_places_in_the_folder(tmp_path: Path) -> None:
    for name in ("en/part.jsonl", "fr/part.jsonl"):
        write(tmp_path / name)
    (tmp_path / "en" / "b.txt").write_text("b")
    assert [document.id for document in items(tmp_path)] == ["en/b.txt", "en/part.jsonl@0", "fr/part.jsonl@0"]
    renamed = sources_of(tmp_path)[0].identity
    (tmp_path / "fr").rename(tmp_path / "gr")
    assert sources_of(tmp_path)[0].identity != renamed


# --- what is not read


def test_what_is_not_read_is_counted(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl")
    for name in (".checkpoints/a.jsonl", "deep/.a.jsonl", "__MACOSX/a.jsonl"):
        write(tmp_path / name)
    for name in ("b.json", "c.ndjson", "d.csv", "deep/d.CSV", "deep/e.csv", "f.csv", "LICENCE", "a.jsonl~"):
        (tmp_path / name).write_text("x")
    (tmp_path / "gone.jsonl").symlink_to("nowhere")
    (tmp_path / "circle.jsonl").symlink_to("circle.jsonl")
    os.mkfifo(tmp_path / "pipe.jsonl")
    assert [document.id for document in items(tmp_path)] == ["a.jsonl@0"]
    assert not_read(tmp_path) == {
        "hidden": (3, (".checkpoints", "__MACOSX", "deep/.a.jsonl")),
        "suffix .json": (1, ("b.json",)),
        "suffix .ndjson": (1, ("c.ndjson",)),
        "suffix .csv": (4, ("d.csv", "deep/d.CSV", "deep/e.csv")),
        "suffix .jsonl~": (1, ("a.jsonl~",)),
        "no suffix": (1, ("LICENCE",)),
        "dangling link": (2, ("circle.jsonl", "gone.jsonl")),
        "no regular file": (1, ("pipe.jsonl",)),
    }


@pytest.fixture
def as_nobody() -> Iterator[Path]:
    """A folder that a user without rights may enter, while this process is such a user."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        write(folder / "a.jsonl")
        for place in ("closed/b.jsonl", "c.jsonl"):
            write(folder / place)
            (folder / place.split("/")[0]).chmod(0)
        if os.geteuid():
            yield folder
        else:
            os.seteuid(65534)
            try:
                yield folder
            finally:
                os.seteuid(0)
        (folder / "closed").chmod(0o700)


def test_what_may_not_be_read_is_counted(as_nobody: Path) -> None:
    assert [document.id for document in items(as_nobody)] == ["a.jsonl@0"]
    assert not_read(as_nobody) == {"unreadable": (2, ("c.jsonl", "closed"))}


def test_links_within_the_folder_are_read_once(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl")
    write(tmp_path / "v2" / "b.jsonl")
    write(tmp_path / ".store" / "c")
    (tmp_path / "again.jsonl").symlink_to("a.jsonl")
    (tmp_path / "latest").symlink_to("v2")
    (tmp_path / "v2" / "up").symlink_to("..")
    (tmp_path / "c.jsonl").symlink_to(".store/c")
    assert [document.id for document in items(tmp_path)] == ["a.jsonl@0", "c.jsonl@0", "v2/b.jsonl@0"]
    repeated = not_read(tmp_path)["link to what is read already"]
    assert repeated == (3, ("again.jsonl", "latest", "v2/up"))


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_link_that_leaves_the_folder_is_refused(kind: str, tmp_path: Path) -> None:
    write(tmp_path / "in" / "a.jsonl")
    outside = write(tmp_path / "out" / "secret.jsonl")
    link = tmp_path / "in" / ("b.jsonl" if kind == "file" else "b")
    link.symlink_to(outside if kind == "file" else outside.parent)
    with pytest.raises(
        UserError, match=r"in/b[.jsonl]*' is a link that leaves the folder; put the file itself there, or"
    ):
        sources_of(tmp_path / "in")
    assert [document.id for document in items(tmp_path / "in", on_bad="skip")] == ["a.jsonl@0"]
    assert not_read(tmp_path / "in", on_bad="skip") == {"link that leaves the folder": (1, (link.name,))}
    assert len(items(tmp_path / "in", files="a.*")) == 1


def test_a_snapshot_of_the_hubs_cache_is_read(tmp_path: Path) -> None:
    blob = write(tmp_path / "datasets--x" / "blobs" / "0a1b")
    snapshot = tmp_path / "datasets--x" / "snapshots" / "c0ffee"
    snapshot.mkdir(parents=True)
    (snapshot / "a.jsonl").symlink_to(blob)
    assert [document.id for document in items(snapshot)] == ["a.jsonl@0"]


def test_a_compressed_copy_beside_its_file_is_not_read(tmp_path: Path) -> None:
    content = write(tmp_path / "a.jsonl", 9).read_bytes()
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(content))
    for name in ("a.jsonl.zst", "b.jsonl.zst"):
        (tmp_path / name).write_bytes(zstandard.ZstdCompressor().compress(content))
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(content + content))
    names = [document.id.split("@")[0] for document in items(tmp_path)]
    assert {name: names.count(name) for name in names} == {"a.jsonl": 9, "b.jsonl.gz": 18, "b.jsonl.zst": 9}
    assert not_read(tmp_path) == {"compressed copy of what is read": (2, ("a.jsonl.gz", "a.jsonl.zst"))}


def test_a_file_of_another_suffix_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("words")
    with pytest.raises(
        UserError, match=r"a.md' has no suffix of a text format; give a folder, or a file that ends in .jsonl"
    ):
        sources_of(tmp_path / "a.md")


# --- separators


@pytest.mark.parametrize(
    ("separator", "content", "texts"),
    [
        ("\n\n", b"one\n\ntwo\n\nthree", ["one", "two", "three"]),
        (r"\n\n", b"one\r\n\r\ntwo\r\nlines\r\n", ["one", "two\nlines"]),
        (r"\r\n\r\n", b"one\n\ntwo\nlines", ["one", "two\nlines"]),
        (r"\f", b"one\ftwo\nlines\f\nthree", ["one", "two\nlines", "three"]),
        (r"\r", b"one\rtwo\nlines\rthree", ["one", "two\nlines", "three"]),
        (r"\r\r", b"one\rlines\r\rtwo", ["one\nlines", "two"]),
        (r"\t", b"one\ttwo", ["one", "two"]),
        (r"\v", b"one\x0btwo", ["one", "two"]),
        (r"\0", b"one\0two", ["one", "two"]),
        (r"\x1e", b"one\x1etwo", ["one", "two"]),
        (r"\u2029", "one\u2029two".encode(), ["one", "two"]),
        (r"\U0001F4D6", "one\U0001f4d6two".encode(), ["one", "two"]),
        (r"\\n\\n", b"one\n\ntwo\nlines", ["one", "two\nlines"]),
        (r"\x5cn", rb"one\ntwo", ["one", "two"]),
        (r"\section", rb"one\section two", ["one", "two"]),
        ("<|end|>", b"one<|end|>two", ["one", "two"]),
    ],
)
def test_separators_may_be_spelled_as_a_command_line_can(
    separator: str, content: bytes, texts: list[str], tmp_path: Path
) -> None:
    (tmp_path / "book.txt").write_bytes(content)
    assert [document.text for document in items(tmp_path, separator=separator)] == texts


@pytest.mark.parametrize("files", [1, 2])
def test_a_separator_that_never_occurs_is_refused(files: int, tmp_path: Path) -> None:
    for number in range(files):
        (tmp_path / f"{number}.txt").write_text("one\n\ntwo" + "x" * 2**21)
    with pytest.raises(UserError, match=r"data.separator='\\x0c' occurs nowhere in .*0.txt; give the text between"):
        sources_of(tmp_path, separator=r"\f")
    (tmp_path / "2.txt").write_text("x" * (2**20 - 1) + "--")  # across the edge of a block
    assert sources_of(tmp_path, separator="--")


def test_a_study_may_vary_the_separator_with_none_at_all(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one None two\n\nthree")
    axes = r'+axes={member:[encoder],data.separator:[null,"\\n\\n"]}'
    overrides = ["study=grid", "data=text", f"data.path={tmp_path}", axes]
    with initialize_config_dir(str(CONFIGURATIONS), version_base="1.3"):
        request = build(StudyRequest, to_plain(compose("study", overrides)))
        cells = cells_of(request, overrides, composer("study", StudyRequest))
    separators = [cell.request.data.separator for cell in cells.values()]
    texts = [[document.text for document in items(tmp_path, separator=separator)] for separator in separators]
    assert separators[0] is None and texts == [["one None two\n\nthree"], ["one None two", "three"]]
