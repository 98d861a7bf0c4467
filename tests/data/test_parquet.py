"""Parquet: the same rows from every cut of a file, and an error that names the file before or where it breaks."""

import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ettin_core.data.config import SourceConfig
from ettin_core.data.documents import Document, Piece, Skipped
from ettin_core.data.importers import parquet
from ettin_core.foundation.errors import UserError

TEXTS = ["First.", "Zweites: ü, 北京.", "", "Fourth\nline", "e", "f", "g"]
ROWS: list[dict[str, Any]] = [{"id": f"d{number}", "text": text, "q": 10 * number} for number, text in enumerate(TEXTS)]


def config(path: Path, **options: Any) -> SourceConfig:
    """A source of one file."""
    return SourceConfig(kind="text", path=str(path), **options)


def written(path: Path, rows: list[dict[str, Any]] | pa.Table = ROWS, **options: Any) -> Path:
    """A file with row groups of two rows."""
    table = rows if isinstance(rows, pa.Table) else pa.Table.from_pylist(rows)
    pq.write_table(table, path, row_group_size=2, **options)
    return path


def everything(path: Path, **options: Any) -> list[Document | Skipped]:
    """What the pieces of a file give, in order."""
    return [item for piece in parquet.pieces(path, None) for item in parquet.read(config(path, **options), piece)]


def refusal(path: Path, **options: Any) -> str:
    """The message with which reading fails."""
    with pytest.raises(UserError) as caught:
        everything(path, **options)
    return str(caught.value)


@pytest.mark.parametrize("limit", [1, 150, 2**26])
def test_every_cut_gives_every_row_once_in_order(limit: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path / "a.parquet")
    monkeypatch.setattr(parquet, "_BYTES", limit)
    assert everything(path) == [Document(row["id"], row["text"]) for row in ROWS]
    assert [item.id for item in everything(path, id_field="none")] == [f"a.parquet#{n}" for n in range(1, 8)]


def test_pieces_are_whole_row_groups_with_their_share_of_the_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path / "a.parquet")
    size = path.stat().st_size
    assert parquet.pieces(path, "test") == [Piece(str(path), "test", size, 0, 4)]
    groups = [pq.ParquetFile(path).metadata.row_group(number) for number in range(2)]
    both = sum(group.column(number).total_compressed_size for group in groups for number in range(3))
    for limit, end in ((both, 2), (both - 1, 1)):
        monkeypatch.setattr(parquet, "_BYTES", limit)
        assert (parquet.pieces(path, None)[0].begin, parquet.pieces(path, None)[0].end) == (0, end)
    monkeypatch.setattr(parquet, "_BYTES", 1)
    pieces = parquet.pieces(path, None)
    assert [(piece.begin, piece.end) for piece in pieces] == [(0, 1), (1, 2), (2, 3), (3, 4)]
    assert size - 4 <= sum(piece.size for piece in pieces) <= size and min(piece.size for piece in pieces) > size / 10


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())])
def test_every_kind_of_text_column_is_read(kind: pa.DataType, tmp_path: Path) -> None:
    table = pa.table({"body": pa.array(TEXTS).cast(kind)})
    results = everything(written(tmp_path / "a.parquet", table), text_field="body")
    assert [item.text for item in results if isinstance(item, Document)] == TEXTS


def test_only_the_columns_that_are_needed_are_read(tmp_path: Path) -> None:
    path = written(tmp_path / "a.parquet", [row | {"other": f"{row['q']:040d}"} for row in ROWS], compression="none")
    column = pq.ParquetFile(path).metadata.row_group(1).column(3)
    begin = column.dictionary_page_offset or column.data_page_offset
    data = bytearray(path.read_bytes())
    data[begin : begin + column.total_compressed_size] = b"\xff" * column.total_compressed_size
    path.write_bytes(data)
    assert len(everything(path)) == len(ROWS)
    assert "damaged" in refusal(path, text_field="other")


def test_a_column_of_tokens_gives_integers(tmp_path: Path) -> None:
    ids = [[1, 2, 3], [70000], []]
    table = pa.table({"input_ids": pa.array(ids, pa.list_(pa.int32())), "text": ["a", "b", "c"]})
    results = everything(written(tmp_path / "a.parquet", table), token_field="input_ids")
    tokens = [item.tokens for item in results if isinstance(item, Document) and item.tokens is not None]
    assert [array.tolist() for array in tokens] == ids
    assert {array.dtype.kind for array in tokens} == {"i"}


def test_too_small_values_are_left_out(tmp_path: Path) -> None:
    results = everything(written(tmp_path / "a.parquet"), at_least={"q": 50})
    assert [item.id for item in results if isinstance(item, Document)] == ["d5", "d6"]
    assert {item.reason for item in results if isinstance(item, Skipped)} == {"q_below_50"}


@pytest.mark.parametrize("on_bad", ["error", "skip"])
@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({"text_field": "body"}, ["data.text_field='body'", "is not a column", "it has id, text, q"]),
        ({"text_field": "q"}, ["data.text_field='q'", "is not text but int64"]),
        ({"token_field": "text"}, ["data.token_field='text'", "is not lists of token ids but string"]),
        ({"token_field": "ids"}, ["data.token_field='ids'", "is not a column", "it has id, text, q"]),
        ({"at_least": {"quality": 1}}, ["data.at_least='quality'", "it has id, text, q"]),
    ],
)
def test_a_wrong_schema_is_an_error_whatever_on_bad_says(
    on_bad: str, options: dict[str, Any], parts: list[str], tmp_path: Path
) -> None:
    path = written(tmp_path / "a.parquet")
    message = refusal(path, on_bad=on_bad, **options)
    assert all(part in message for part in [*parts, str(path)]), message


def test_a_row_without_text_is_an_error_or_counted(tmp_path: Path) -> None:
    path = written(tmp_path / "a.parquet", [{"text": "x"}, {"text": None}, {"text": "y"}])
    assert f"{path}, row 2" in refusal(path)
    first, missing, last = everything(path, on_bad="skip")
    assert (first, last) == (Document("a.parquet#1", "x"), Document("a.parquet#3", "y"))
    assert isinstance(missing, Skipped) and (missing.id, missing.reason) == ("a.parquet#2", "missing_field")


def test_text_that_is_not_utf8_is_an_error_or_counted(tmp_path: Path) -> None:
    halves = pa.Array.from_buffers(pa.string(), 2, pa.array([b"\xff\xfe", b"ok"]).buffers())
    path = written(tmp_path / "a.parquet", pa.table({"text": halves}))
    assert f"{path}, row 1" in refusal(path) and "UTF-8" in refusal(path)
    assert [getattr(item, "reason", "kept") for item in everything(path, on_bad="skip")] == ["invalid_text", "kept"]


@pytest.mark.parametrize("cut", [4, 200])
def test_a_file_that_is_cut_short_is_named_or_counted_once(cut: int, tmp_path: Path) -> None:
    path = written(tmp_path / "a.parquet")
    path.write_bytes(path.read_bytes()[:-cut])
    message = refusal(path)
    assert str(path) in message and "fetch the file again" in message and "on_bad=skip" in message
    (counted,) = everything(path, on_bad="skip")
    assert isinstance(counted, Skipped) and (counted.id, counted.reason) == ("a.parquet", "damaged_file")


@pytest.mark.parametrize("groups", [0, 1])
def test_a_file_without_rows_gives_none(groups: int, tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    empty = pa.table({"text": pa.array([], pa.string())})
    with pq.ParquetWriter(path, empty.schema) as writer:
        for _ in range(groups):
            writer.write_table(empty)
    assert pq.ParquetFile(path).num_row_groups == groups
    assert everything(path) == []
    assert "is not a column" in refusal(path, text_field="body")


def test_without_pyarrow_the_package_to_install_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path / "a.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert 'pip install -c constraints.txt -e ".[data]"' in refusal(path)


def test_a_value_that_many_rows_repeat_is_held_once(tmp_path: Path) -> None:
    repeated = pa.DictionaryArray.from_arrays(pa.array([0] * 300), ["a b " * 250_000])
    pq.write_table(pa.table({"text": repeated}), tmp_path / "bomb.parquet", compression="zstd", store_schema=False)
    assert (tmp_path / "bomb.parquet").stat().st_size < 5_000
    (piece,) = parquet.pieces(tmp_path / "bomb.parquet", None)
    documents = parquet.read(config(tmp_path / "bomb.parquet"), piece)
    before = pa.total_allocated_bytes()
    first = next(documents)
    assert isinstance(first, Document) and len(first.text) == 10**6
    assert pa.total_allocated_bytes() - before < 20e6  # 256 rows of it would be 256 MB


def test_what_is_larger_than_allowed_is_refused_or_counted(tmp_path: Path) -> None:
    path = written(tmp_path / "a.parquet", [{"text": "a" * 3000}, {"text": "short"}, {"text": "also"}])
    assert "holds a document of more than 0.002 MiB" in refusal(path, max_document_mb=0.002)
    results = everything(path, max_document_mb=0.002, on_bad="skip")
    assert [item.text if isinstance(item, Document) else item.reason for item in results] == [
        "too_large",
        "short",
        "also",
    ]
    bomb = written(
        tmp_path / "bomb.parquet", [{"text": "a" * 10**6 + str(row)} for row in range(4)], compression="zstd"
    )
    assert "holds a document of more than 0.5 MiB" in refusal(bomb, max_document_mb=0.5)
