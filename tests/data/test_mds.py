"""MDS: shards that the real writer wrote (see fixtures/mds/write.py) hold what was given to it, in every layout."""

import bz2
import gzip
import json
import shutil
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zstandard

from ettin_core.data.config import SourceConfig
from ettin_core.data.documents import Document, Piece, Skipped, Source
from ettin_core.data.importers import mds
from ettin_core.foundation.errors import UserError

FIXTURES = Path(__file__).parent / "fixtures" / "mds"
ROWS = [json.loads(line) for line in (FIXTURES / "source.jsonl").read_text(encoding="utf-8").splitlines()]
PAIRS = [(row["id"], row["text"]) for row in ROWS]
TEXT = ("text_raw", "text_zstd", "text_gz", "text_bz2", "text_hashed")
COMPRESSED = ("text_zstd", "text_gz", "text_bz2", "text_hashed")


def config(path: Path, **options: Any) -> SourceConfig:
    """A folder of MDS."""
    return SourceConfig(kind="mds", path=str(path), **options)


def sources(path: Path, **options: Any) -> dict[str, Source]:
    """The sources of a folder by name."""
    return {source.name: source for source in mds.find("mine", config(path, **options))}


def items(path: Path, **options: Any) -> list[Document | Skipped]:
    """Everything in a folder that is one source."""
    (source,) = sources(path, **options).values()
    return [item for piece in source.pieces for item in mds.read(source.config, piece)]


def pairs(path: Path, **options: Any) -> list[tuple[str, str]]:
    """(id, text) of everything in a folder, nothing skipped."""
    results = items(path, **options)
    return [(item.id, item.text) for item in results if isinstance(item, Document)] if results else []


def refusal(path: Path, **options: Any) -> str:
    """The message with which finding or reading fails."""
    with pytest.raises(UserError) as caught:
        items(path, **options)
    return str(caught.value)


def copied(name: str, path: Path) -> Path:
    """A fixture at another place."""
    return shutil.copytree(FIXTURES / name, path)


def shard(folder: Path, number: int = 1) -> Path:
    """The file of a shard, raw or compressed."""
    (file,) = folder.glob(f"shard.{number:05d}.mds*")
    return file


def edit(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change the second shard's entry in an index."""
    content = json.loads((folder / "index.json").read_text())
    change(content["shards"][1])
    (folder / "index.json").write_text(json.dumps(content))


def splits(source: Source) -> list[str | None]:
    """The splits that a source's pieces state, each once."""
    return list(dict.fromkeys(piece.split for piece in source.pieces))


def names_a_bad_shard(path: Path, *parts: str) -> None:
    """Check that the second shard is an error that names it, and is counted once when errors are skipped."""
    message = refusal(path)
    expected = (str(path / "shard.00001.mds"), "fetch it again", "on_bad=skip", *parts)
    assert all(part in message for part in expected), message
    results = items(path, on_bad="skip")
    assert [(item.id, item.reason) for item in results if isinstance(item, Skipped)] == [
        ("shard.00001.mds", "damaged_file")
    ]
    kept = [(item.id, item.text) for item in results if isinstance(item, Document)]
    assert kept[0] == PAIRS[0] and kept[-1] == PAIRS[-1] and kept == [pair for pair in PAIRS if pair in kept]


@pytest.mark.parametrize("name", TEXT)
def test_text_is_what_was_written(name: str) -> None:
    assert pairs(FIXTURES / name) == PAIRS
    assert len(sources(FIXTURES / name)["mine"].pieces) >= 4


@pytest.mark.parametrize("name", ["tokens_raw", "tokens_zstd"])
def test_tokens_are_what_was_written(name: str) -> None:
    results = [item for item in items(FIXTURES / name, token_field="input_ids") if isinstance(item, Document)]
    assert [item.id for item in results] == [row["id"] for row in ROWS]
    for item, row in zip(results, ROWS, strict=True):
        assert item.tokens is not None and item.tokens.dtype.kind == "u" and item.tokens.ndim == 1
        assert item.tokens.tolist() == [byte + 1000 for byte in row["text"].encode()]


def test_a_piece_is_a_shard_of_its_raw_size() -> None:
    index = FIXTURES / "text_zstd" / "index.json"
    sizes = [entry["raw_data"]["bytes"] for entry in json.loads(index.read_text())["shards"]]
    expected = [Piece(str(index), None, size, number, number + 1) for number, size in enumerate(sizes)]
    assert list(sources(index.parent)["mine"].pieces) == expected


def test_a_document_without_an_id_is_named_by_shard_and_number() -> None:
    results = [item.id for item in items(FIXTURES / "text_gz", id_field="none")]
    assert (results[0], results[5], results[6]) == ("shard.00000.mds#1", "shard.00000.mds#6", "shard.00001.mds#1")


@pytest.mark.parametrize("both", [False, True])
def test_a_raw_shard_serves_where_the_index_says_compressed(both: bool, tmp_path: Path) -> None:
    """As the published data lie: written with zstd, published as the library unpacked them."""
    path = copied("text_zstd", tmp_path / "a")
    for number in range(4):
        packed = shard(path, number)
        packed.with_suffix("").write_bytes(zstandard.ZstdDecompressor().decompress(packed.read_bytes()))
        if both:
            packed.write_bytes(b"not looked at")
        else:
            packed.unlink()
    assert pairs(path) == PAIRS


EXPECTED: dict[str, list[Any]] = {
    "str": ["ü 北京 min", "ü 北京 max"],
    "int": [-(2**62)] * 2,
    "str_int": [10**30] * 2,
    "str_float": [0.1] * 2,
    "float16": [-0.5] * 2,
    "float32": [1.25] * 2,
    "float64": [1e300] * 2,
    "bytes": [b"\x00\xff"] * 2,
    "json": [[1, 2, 300]] * 2,
    **{f"uint{bits}": [0, 2**bits - 1] for bits in (8, 16, 32, 64)},
    **{f"int{bits}": [-(2 ** (bits - 1)), 2 ** (bits - 1) - 1] for bits in (8, 16, 32, 64)},
}
ARRAYS: dict[str, np.ndarray] = {
    "array": np.arange(5, dtype=np.int8),
    "array_dtype": np.array([1, 65535], dtype=np.uint16),
    "array_int64": np.array([-1, 2**40]),
    "array_long": np.arange(300, dtype=np.uint16),
    "json": np.array([1, 2, 300]),
}


@pytest.mark.parametrize("column", EXPECTED)
def test_every_encoding_is_read(column: str) -> None:
    results = items(FIXTURES / "encodings", text_field="str", id_field=column)
    assert [item.id for item in results] == [str(value) for value in EXPECTED[column]]


@pytest.mark.parametrize("column", ARRAYS)
def test_every_form_of_array_is_read(column: str) -> None:
    for item in items(FIXTURES / "encodings", token_field=column):
        assert isinstance(item, Document) and item.tokens is not None
        assert item.tokens.dtype == ARRAYS[column].dtype and item.tokens.tolist() == ARRAYS[column].tolist()


@pytest.mark.parametrize("column", ["uint16", "int64", "float16", "float64", "str_float", "int"])
def test_numbers_can_be_compared(column: str) -> None:
    results = items(FIXTURES / "encodings", text_field="str", at_least={column: -(2.0**70)})
    assert [type(item) for item in results] == [Document, Document]


@pytest.mark.parametrize(
    ("column", "form"),
    [("array_shape", "2 axes of uint16"), ("array_float", "1 axes of float32"), ("str", "axes of"), ("int", "0 axes")],
)
def test_tokens_that_are_none_are_an_error_or_counted(column: str, form: str) -> None:
    message = refusal(FIXTURES / "encodings", token_field=column)
    assert f"data.token_field={column!r}" in message and form in message and "document 1" in message
    skipped = items(FIXTURES / "encodings", token_field=column, on_bad="skip")
    assert [item.reason for item in skipped if isinstance(item, Skipped)] == ["invalid_tokens"] * 2


@pytest.mark.parametrize("column", ["pickled", "decimal"])
@pytest.mark.parametrize("role", ["text_field", "id_field"])
def test_an_encoding_that_is_not_read_is_refused(column: str, role: str) -> None:
    message = refusal(FIXTURES / "encodings", on_bad="skip", **({"text_field": "str"} | {role: column}))
    assert f"column={column!r}" in message and ("any program" in message) == (column == "pickled")


def test_a_wrong_column_is_an_error_before_reading() -> None:
    message = refusal(FIXTURES / "text_raw", text_field="body", on_bad="skip")
    assert message.startswith("data.text_field='body' is not a column of") and "it has id, q, text" in message
    assert "data.token_field='input_ids'" in refusal(FIXTURES / "text_raw", token_field="input_ids")
    assert "data.at_least='quality'" in refusal(FIXTURES / "text_raw", at_least={"quality": 1}, on_bad="skip")


def test_too_small_values_are_left_out() -> None:
    kept = [(row["id"], row["text"]) for row in ROWS if row["q"] >= 80]
    assert 0 < len(kept) < len(ROWS)
    assert pairs(FIXTURES / "text_gz", at_least={"q": 80}) == kept


def test_text_that_is_not_utf8_is_an_error_or_counted(tmp_path: Path) -> None:
    path = copied("text_raw", tmp_path / "a")
    content = shard(path).read_bytes()
    shard(path).write_bytes(content[:-1] + b"\xff")
    assert "shard.00001.mds, document" in refusal(path)
    results = items(path, on_bad="skip")
    assert len(results) == len(ROWS) and [item.reason for item in results if isinstance(item, Skipped)] == [
        "invalid_text"
    ]


def test_a_merged_index_counts_every_shard_once(tmp_path: Path) -> None:
    path = copied("partitions", tmp_path / "a")
    assert pairs(path) == PAIRS
    assert list(sources(path)) == ["mine"]
    assert sources(path)["mine"].identity == sources(FIXTURES / "partitions")["mine"].identity
    assert pairs(path, files="1") == PAIRS[8:]
    for number in range(2):
        (path / str(number) / "index.json").unlink()
    assert pairs(path) == PAIRS


def test_folders_without_a_merged_index_are_sources(tmp_path: Path) -> None:
    path = copied("partitions", tmp_path / "a")
    (path / "index.json").unlink()
    assert {name: splits(source) for name, source in sources(path).items()} == {"0": [None], "1": [None]}


@pytest.mark.parametrize("name", ["validation", "valid", "val", "dev"])
def test_folders_state_splits(name: str, tmp_path: Path) -> None:
    copied("text_raw", tmp_path / "a" / "train")
    copied("text_gz", tmp_path / "a" / name)
    copied("text_zstd", tmp_path / "a" / "test")
    (source,) = sources(tmp_path / "a").values()
    assert source.name == "mine" and sorted(splits(source), key=str) == ["test", "train", "validation"]
    for piece in source.pieces:
        stated = {"train": "raw", "validation": "gz", "test": "zstd"}[piece.split or ""]
        assert Path(piece.place).read_bytes() == (FIXTURES / f"text_{stated}" / "index.json").read_bytes()


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """Folders as in the published data: a split, a source, and parts of it with names of their own."""
    for folder, name in (
        ("train/starcoder/split_0-tokenized-chunked", "tokens_zstd"),
        ("train/starcoder/split_1-tokenized-chunked", "tokens_raw"),
        ("train/books/shard_00000", "tokens_raw"),
        ("validation/books", "tokens_zstd"),
    ):
        copied(name, tmp_path / "data" / folder)
        (tmp_path / "data" / folder / "stats.json").write_text("{}")
    return tmp_path / "data"


def test_the_published_layout_names_splits_and_sources(published: Path) -> None:
    results = sources(published, token_field="input_ids")
    assert {name: splits(source) for name, source in results.items()} == {
        "books": ["train", "validation"],
        "starcoder": ["train"],
    }
    assert len(results["starcoder"].pieces) == 7 + 3


@pytest.mark.parametrize(
    ("pattern", "shards"),
    [("*starcoder*", 10), ("train/starcoder/*", 10), ("train/starcoder", 10), ("*/split_1-*", 3), ("*/books*", 10)],
)
def test_files_takes_folders_as_one_source(pattern: str, shards: int, published: Path) -> None:
    (source,) = sources(published, token_field="input_ids", files=pattern).values()
    assert (source.name, len(source.pieces)) == ("mine", shards)
    assert splits(source) == (["train", "validation"] if "books" in pattern else ["train"])


def test_a_pattern_that_matches_nothing_names_what_is_there(published: Path) -> None:
    message = refusal(published, token_field="input_ids", files="*wiki*")
    assert "data.files='*wiki*'" in message and "train/books/shard_00000" in message


def test_a_source_may_hold_its_splits(tmp_path: Path) -> None:
    for folder in ("books/train", "books/val", "wiki/train"):
        copied("text_raw", tmp_path / "a" / folder)
    results = {name: splits(source) for name, source in sources(tmp_path / "a").items()}
    assert results == {"books": ["train", "validation"], "wiki": ["train"]}


def test_splits_that_only_some_folders_state_are_an_error(published: Path) -> None:
    copied("tokens_raw", published / "more")
    message = refusal(published, token_field="input_ids")
    assert f"data.path={str(published / 'more')!r} states no split" in message


def test_the_identity_is_the_contents(tmp_path: Path) -> None:
    def identity(path: Path) -> str:
        return sources(path)["mine"].identity

    path = copied("text_raw", tmp_path / "a")
    assert identity(path) == identity(FIXTURES / "text_raw") != identity(FIXTURES / "text_gz")
    content = bytearray(shard(path).read_bytes())
    content[-1] ^= 1
    shard(path).write_bytes(content)
    assert identity(path) != identity(FIXTURES / "text_raw")


def test_a_byte_within_a_large_shard_without_hash_changes_the_identity(tmp_path: Path) -> None:
    path = copied("text_raw", tmp_path / "a")
    index = json.loads((path / "index.json").read_text())
    index["shards"][1]["raw_data"]["bytes"] = 2**26
    (path / "index.json").write_text(json.dumps(index))
    content = bytearray(2**26)
    shard(path).write_bytes(content)
    before = sources(path)["mine"].identity
    content[11_210_630] = 1
    shard(path).write_bytes(content)
    assert sources(path)["mine"].identity != before


@pytest.mark.parametrize("name", TEXT)
def test_an_absent_shard_is_named_or_counted(name: str, tmp_path: Path) -> None:
    path = copied(name, tmp_path / "a")
    shard(path).unlink()
    names_a_bad_shard(path, "not there")


@pytest.mark.parametrize("name", TEXT)
def test_a_shard_that_is_cut_short_is_named_or_counted(name: str, tmp_path: Path) -> None:
    path = copied(name, tmp_path / "a")
    shard(path).write_bytes(shard(path).read_bytes()[:-10])
    names_a_bad_shard(path, "bytes, its index says")


@pytest.mark.parametrize("name", COMPRESSED)
def test_a_compressed_shard_that_is_cut_short_is_noticed_without_its_size(name: str, tmp_path: Path) -> None:
    path = copied(name, tmp_path / "a")
    shard(path).write_bytes(shard(path).read_bytes()[:-10])
    edit(path, lambda entry: entry["zip_data"].update(bytes=shard(path).stat().st_size, hashes={}))
    names_a_bad_shard(path)


@pytest.mark.parametrize("name", COMPRESSED)
def test_a_shard_that_unpacks_to_another_size_is_noticed(name: str, tmp_path: Path) -> None:
    path = copied(name, tmp_path / "a")
    edit(path, lambda entry: entry["raw_data"].update(bytes=entry["raw_data"]["bytes"] + 1, hashes={}))
    names_a_bad_shard(path, "decompresses to")


@pytest.mark.parametrize("algorithm", ["sha1", "sha256"])
@pytest.mark.parametrize("file", ["raw_data", "zip_data"])
def test_stated_hashes_are_checked(algorithm: str, file: str, tmp_path: Path) -> None:
    path = copied("text_hashed", tmp_path / "a")
    edit(path, lambda entry: entry[file]["hashes"].update({algorithm: "0" * 40}))
    names_a_bad_shard(path, algorithm)


def test_a_hash_of_an_unknown_kind_is_left_alone(tmp_path: Path) -> None:
    path = copied("text_hashed", tmp_path / "a")
    edit(path, lambda entry: entry["zip_data"]["hashes"].update(xxh64="0"))
    assert pairs(path) == PAIRS


@pytest.mark.parametrize(
    ("offset", "content", "reason"),
    [
        (0, b"\x07\x00\x00\x00", "does not begin with"),
        (0, b"\xff\xff\xff\xff", "does not begin with"),
        (4, b"\x00\x00\x00\x00", "its offsets are invalid"),
        (8, b"\x00\x00\x00\x00", "its offsets are invalid"),
        (20, b"\xff\xff\xff\x7f", "its offsets are invalid"),
    ],
)
def test_a_damaged_head_is_named_or_counted(offset: int, content: bytes, reason: str, tmp_path: Path) -> None:
    path = copied("text_raw", tmp_path / "a")
    data = bytearray(shard(path).read_bytes())
    data[offset : offset + len(content)] = content
    shard(path).write_bytes(data)
    names_a_bad_shard(path, reason)


def test_a_damaged_size_of_a_column_is_named_or_counted(tmp_path: Path) -> None:
    path = copied("text_raw", tmp_path / "a")
    data = bytearray(shard(path).read_bytes())
    first = int(np.frombuffer(data, np.uint32, 1, 4)[0])
    data[first] ^= 1
    shard(path).write_bytes(data)
    names_a_bad_shard(path, "not as long as the document")


def test_a_compression_that_is_not_read_is_named() -> None:
    message = refusal(FIXTURES / "text_br", on_bad="skip")
    assert "compressed with 'br'" in message and "shard.00000.mds.br" in message and "zstd, gz or bz2" in message


@pytest.mark.parametrize(
    "content", ["[]", "{}", '{"shards": [{}]}', '{"shards": [3]}', '{"version": 2, "shards": [', "\xff"]
)
def test_an_index_that_is_none_is_named(content: str, tmp_path: Path) -> None:
    (tmp_path / "index.json").write_text(content)
    assert str(tmp_path / "index.json") in refusal(tmp_path)


@pytest.mark.parametrize(
    "change", [{"version": 1}, {"format": "jsonl"}, {"raw_data": None}, {"samples": "6"}, {"column_sizes": [None]}]
)
def test_an_index_of_another_kind_is_named(change: dict[str, Any], tmp_path: Path) -> None:
    path = copied("text_raw", tmp_path / "a")
    edit(path, lambda entry: entry.update(change))
    assert f"data.path={str(path / 'index.json')!r} is not an index of MDS version 2" in refusal(path, on_bad="skip")


@pytest.mark.parametrize("basename", ["../other/shard.00000.mds", "/etc/passwd", "0/../../shard.mds"])
@pytest.mark.parametrize("entry", ["raw_data", "zip_data"])
def test_a_shard_outside_of_the_folder_is_refused(basename: str, entry: str, tmp_path: Path) -> None:
    path = copied("text_zstd", tmp_path / "a")
    edit(path, lambda shard: shard[entry].update(basename=basename))
    message = refusal(path, on_bad="skip")
    assert f"index.json' is not an index of MDS version 2 (the shard {basename!r} is outside of its folder)" in message


def test_a_shard_larger_than_offsets_can_tell_is_refused(tmp_path: Path) -> None:
    path = copied("text_gz", tmp_path / "a")
    for size in (2**32, -1):
        edit(path, lambda shard, size=size: shard["raw_data"].update(bytes=size))
        assert "(a shard has a size that no shard can have)" in refusal(path, on_bad="skip")


def test_a_shard_that_is_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    path = copied("text_raw", tmp_path / "a")
    file = shard(path)
    file.rename(tmp_path / "elsewhere")
    file.symlink_to(tmp_path / "elsewhere")
    assert f"data.path={str(file)!r} is a link that leaves the folder; " in refusal(path)
    (source,) = sources(path, on_bad="skip").values()
    assert source.not_read["link that leaves the folder"].examples == (file.name,)
    assert 0 < len(pairs(path, on_bad="skip")) < len(PAIRS)


@pytest.mark.parametrize("packing", ["zstd", "gz", "bz2"])
def test_a_bomb_takes_no_more_memory_than_its_index_states(packing: str, tmp_path: Path) -> None:
    path = copied(f"text_{packing}", tmp_path / "a")
    block = b"x" * 2**24
    pack = {"zstd": zstandard.ZstdCompressor().compress, "gz": gzip.compress, "bz2": bz2.compress}[packing]
    shard(path).write_bytes(pack(block))  # zstd: its head states the size
    edit(path, lambda entry: entry["zip_data"].update(bytes=shard(path).stat().st_size, hashes={}))
    tracemalloc.start()
    names_a_bad_shard(path, "decompresses to more bytes, its index says")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < len(block) / 2


def test_hidden_folders_are_not_read(tmp_path: Path) -> None:
    path = copied("text_raw", tmp_path / "a")
    copied("text_raw", path / ".ipynb_checkpoints")
    (source,) = sources(path).values()
    assert pairs(path) == pairs(FIXTURES / "text_raw") and source.not_read["hidden"].count == 1


def test_ids_of_shards_of_one_name_differ(tmp_path: Path) -> None:
    for name in ("one/0", "one/1"):
        copied("text_raw", tmp_path / name)
    ids = [item.id for item in items(tmp_path, id_field="none")]
    assert len(set(ids)) == len(ids) and ids[0] == "one/0/shard.00000.mds#1"


def test_a_folder_without_an_index_is_named(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent"):
        assert refusal(path).startswith(f"data.path={str(path)!r} holds no index.json")
