"""Parquet files, read in groups of rows, so that several can work at one file; only the columns that are needed."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ettin_core.data.config import SourceConfig
from ettin_core.data.documents import Document, Piece, Skipped, bad, from_row, place_of, too_large
from ettin_core.foundation.errors import invalid, with_extra

_BYTES = 2**26
_BATCH = 256  # rows; documents of a megabyte are then still a quarter of a gigabyte
_RATIO = 1000  # what text is compressed by is far below: a chunk beyond it was made to fill the memory


def pieces(path: Path, split: str | None) -> list[Piece]:
    """Whole row groups, about 64 MiB of the file together; `begin` and `end` number them.

    A file that cannot be read is one piece, and reading it raises. Raises ValueError if pyarrow is not installed.
    """
    arrow, parquet = _libraries(path)
    whole = path.stat().st_size
    try:
        with parquet.ParquetFile(path) as file:
            groups = [file.metadata.row_group(number) for number in range(file.metadata.num_row_groups)]
            sizes = [sum(g.column(number).total_compressed_size for number in range(g.num_columns)) for g in groups]
    except (arrow.ArrowException, OSError):
        return [Piece(str(path), split, whole)]
    result, begin = [], 0
    for end in range(1, len(sizes) + 1):
        if end == len(sizes) or sum(sizes[begin : end + 1]) > _BYTES:
            share = whole * sum(sizes[begin:end]) // max(1, sum(sizes))
            result.append(Piece(str(path), split, share, begin, end))
            begin = end
    return result or [Piece(str(path), split, whole, 0, 0)]


def read(config: SourceConfig, piece: Piece) -> Iterator[Document | Skipped]:
    """The documents of some row groups; a row without an id has its file's place in the folder and its number, from 1.

    Raises ValueError for a file without the columns the configuration names, whatever `on_bad` is, and for a damaged file
    or a row without text unless it is skip.
    """
    path = Path(piece.place)
    place = place_of(path, config)
    arrow, parquet = _libraries(path)
    try:
        metadata = parquet.read_metadata(path)
        flat = {metadata.schema.column(number).path for number in range(metadata.num_columns)}
        texts = {config.id_field, *([] if config.token_field else [config.text_field])}
        once = sorted(flat & texts)  # a value that many rows repeat is held once
        with parquet.ParquetFile(path, metadata=metadata, memory_map=True, read_dictionary=once) as file:
            columns = _columns(config, path, file.schema_arrow, arrow.types)
            end = file.metadata.num_row_groups if piece.end is None else piece.end
            if _unpacks_to_too_much(config, file.metadata, range(piece.begin, end), columns):
                yield too_large(config, str(path), place, "write it in smaller row groups", "")
                return
            number = sum(file.metadata.row_group(group).num_rows for group in range(piece.begin))
            batches = file.iter_batches(_BATCH, row_groups=range(piece.begin, end), columns=columns)
            for batch in batches:
                for row in range(batch.num_rows):
                    number += 1
                    yield _document(config, batch, row, f"{path}, row {number}", f"{place}#{number}")
    except (arrow.ArrowException, OSError) as error:
        problem = invalid("data.path", str(path), f"is cut short or damaged ({error})", "fetch the file again")
        yield bad(config, place, problem, "damaged_file")


def _unpacks_to_too_much(config: SourceConfig, metadata: Any, groups: range, columns: list[str]) -> bool:
    """Whether a chunk's values are too large on average, or it is a small file that says it unpacks to a huge one."""
    for group in map(metadata.row_group, groups):
        for chunk in map(group.column, range(group.num_columns)):
            if chunk.path_in_schema.partition(".")[0] not in columns:
                continue
            size = chunk.total_uncompressed_size
            bomb = size > config.max_document and size > _RATIO * chunk.total_compressed_size
            width = 8 if config.token_field else 0  # runs of equal tokens are stored as one
            if bomb or max(size, chunk.num_values * width) > max(_BYTES, config.max_document * group.num_rows):
                return True
    return False


def _libraries(path: Path) -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise invalid("data.path", str(path), "is Parquet, and pyarrow is not installed", with_extra("data")) from error
    return pyarrow, pyarrow.parquet


def _columns(config: SourceConfig, path: Path, schema: Any, types: Any) -> list[str]:
    """The columns to read. Raises ValueError for one that is not there or of another kind."""
    has = ", ".join(schema.names)
    for name in config.at_least:
        if name not in schema.names:
            raise invalid("data.at_least", name, f"is not a column of {path}", f"it has {has}")
    key, wanted = ("token_field", config.token_field) if config.token_field else ("text_field", config.text_field)
    if wanted not in schema.names:
        raise invalid(f"data.{key}", wanted, f"is not a column of {path}", f"it has {has}")
    kind = schema.field(wanted).type
    if not (_holds_tokens(kind, types) if config.token_field else _holds_text(kind, types)):
        what = "lists of token ids" if config.token_field else "text"
        raise invalid(f"data.{key}", wanted, f"is not {what} but {kind} in {path}", f"it has {has}")
    return [name for name in schema.names if name in (wanted, config.id_field, *config.at_least)]


def _holds_text(kind: Any, types: Any) -> bool:
    kind = kind.value_type if types.is_dictionary(kind) else kind
    return types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)


def _holds_tokens(kind: Any, types: Any) -> bool:
    lists = types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
    return lists and types.is_integer(kind.value_type)


def _document(config: SourceConfig, batch: Any, row: int, where: str, default_id: str) -> Document | Skipped:
    try:
        values = {name: _value(batch.column(name)[row]) for name in batch.schema.names}
    except UnicodeDecodeError as error:
        problem = invalid("data.path", where, f"is not UTF-8 ({error.reason})", "write the file again")
        return bad(config, default_id, problem, "invalid_text")
    return from_row(values, config, where, default_id)


def _value(cell: Any) -> Any:
    """A cell as Python has it, a list of numbers as an array: as a list it would take most of the time."""
    return cell.values.to_numpy(zero_copy_only=False) if cell.is_valid and hasattr(cell, "values") else cell.as_py()
