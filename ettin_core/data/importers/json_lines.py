"""JSON lines, plain or compressed: one object per line. Plain files are read in ranges of bytes, so that several can work."""

import json
from collections.abc import Iterator
from pathlib import Path

from ettin_core.data.config import SourceConfig
from ettin_core.data.documents import Document, Piece, Skipped, bad, from_row
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
    """The documents whose line begins in the piece. A document's id is its id column, or file name and place of the line.

    Raises ValueError naming file and line for a line that is not JSON, holds no text or is not UTF-8, and for a damaged
    file, unless `on_bad` is skip.
    """
    path = Path(piece.place)
    try:
        with open_bytes(path) as stream:
            offset = piece.begin
            if offset:
                stream.seek(offset - 1)
                offset += len(stream.readline()) - 1
            number = 0
            while piece.end is None or offset < piece.end:
                line = stream.readline()
                if not line:
                    break
                number += 1
                if line.strip():
                    where = f"{path}, byte {offset}" if piece.begin else f"{path}:{number}"
                    yield _document(config, where, f"{path.name}@{offset}", line)
                offset += len(line)
    except DAMAGE as error:
        problem = invalid("data.path", str(path), f"is cut short or damaged ({error})", "fetch the file again")
        yield bad(config, path.name, problem, "damaged_file")


def _document(config: SourceConfig, where: str, default_id: str, line: bytes) -> Document | Skipped:
    try:
        row = json.loads(line)
    except UnicodeDecodeError as error:
        problem = invalid("data.path", where, f"is not UTF-8 ({error.reason})", "re-encode it")
        return bad(config, default_id, problem, "invalid_text", repr(line[:200]))
    except (ValueError, RecursionError) as error:
        other = "nested too deeply" if isinstance(error, RecursionError) else "a number has too many digits"
        reason = error.msg if isinstance(error, json.JSONDecodeError) else other
        problem = invalid("data.path", where, f"is not JSON ({reason})", "mend the line")
        return bad(config, default_id, problem, "not_json", line[:200].decode(errors="replace"))
    return from_row(row, config, where, default_id)
