"""JSON lines, plain or compressed: one object per line. Plain files are read in ranges of bytes, so that several can work."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from ettin_core.data.config import SourceConfig
from ettin_core.data.documents import ONE_A_LINE, Document, Piece, Skipped, bad, from_row, place_of, too_large
from ettin_core.data.importers.compression import DAMAGE, is_compressed, open_bytes
from ettin_core.foundation.errors import invalid

_RANGE = 2**24


def pieces(path: Path, split: str | None) -> list[Piece]:
    """A compressed file is one piece; a plain one is cut into ranges of 16 MiB, or into 256 if it is larger than that."""
    size = path.stat().st_size
    step = min(max(_RANGE, size // 256), 2**30)
    if is_compressed(path) or size <= step:
        return [Piece(str(path), split, size)]
    edges = [*range(0, size, step), size]
    return [Piece(str(path), split, end - begin, begin, end) for begin, end in zip(edges, edges[1:], strict=False)]


def read(config: SourceConfig, piece: Piece) -> Iterator[Document | Skipped]:
    """The documents whose line begins in the piece. The id is the id column, or the file's place in the folder and the byte.

    Raises ValueError naming file and line for a line that is not JSON, holds no text or is not UTF-8, and for a damaged
    file, unless `on_bad` is skip.
    """
    path = Path(piece.place)
    place = place_of(path, config)
    try:
        with open_bytes(path) as stream:
            offset = piece.begin
            if offset:
                stream.seek(offset - 1)
                offset += _skip_line(stream) - 1
            number = 0
            while piece.end is None or offset < piece.end:
                line = stream.readline(config.max_document + 1)
                if not line:
                    break
                number += 1
                where = f"{path}, byte {offset}" if piece.begin else f"{path}:{number}"
                identity = f"{place}@{offset}"
                offset += len(line)
                if len(line) > config.max_document and not line.endswith(b"\n"):
                    sample = line[:300].decode(errors="replace")
                    yield too_large(config, where, identity, "write a document a line", sample)
                    offset += _skip_line(stream)
                elif line.strip():
                    yield _document(config, where, identity, line)
    except DAMAGE as error:
        problem = invalid("data.path", str(path), f"is cut short or damaged ({error})", "fetch the file again")
        yield bad(config, place, problem, "damaged_file")


def _skip_line(stream: BinaryIO) -> int:
    """Go on to the next line; returns the bytes on the way."""
    size = 0
    while part := stream.readline(2**20):
        size += len(part)
        if part.endswith(b"\n"):
            break
    return size


def _document(config: SourceConfig, where: str, default_id: str, line: bytes) -> Document | Skipped:
    try:
        row = json.loads(line.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        problem, remedy, reason = _fault(error, line)
        sample = repr(line[:200]) if reason == "invalid_text" else line[:200].decode(errors="replace")
        return bad(config, default_id, invalid("data.path", where, problem, remedy), reason, sample)
    return from_row(row, config, where, default_id)


def _fault(error: Exception, line: bytes) -> tuple[str, str, str]:
    """(problem, remedy, reason) of a line that is not a row."""
    if b"\0" in line:  # in a file that was not written to its end, or one of UTF-16
        return "holds NUL bytes", "remove them, or write the file again as UTF-8", "invalid_text"
    if isinstance(error, UnicodeDecodeError):
        return f"is not UTF-8 ({error.reason})", "re-encode it", "invalid_text"
    if line.lstrip().startswith(b"["):
        return "is not JSON but begins a list", ONE_A_LINE, "not_json"
    problem = "nested too deeply" if isinstance(error, RecursionError) else "a number has too many digits"
    return (
        f"is not JSON ({error.msg if isinstance(error, json.JSONDecodeError) else problem})",
        "mend the line",
        "not_json",
    )
