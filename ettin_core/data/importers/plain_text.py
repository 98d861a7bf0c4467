"""Plain text files, plain or compressed: a file is a document, or several with a separator between them."""

import io
import re
from collections.abc import Iterator
from pathlib import Path

from ettin_core.data.config import SourceConfig
from ettin_core.data.documents import Document, Piece, Skipped, bad, place_of, too_large
from ettin_core.data.importers.compression import DAMAGE, open_bytes
from ettin_core.foundation.errors import invalid

_ESCAPE = re.compile(r"\\+(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U(00(?:0[0-9a-fA-F]|10)[0-9a-fA-F]{4})|([nrtfv0]))")
_LETTERS = dict(zip("nrtfv0", "\n\r\t\f\v\0", strict=True))


def pieces(path: Path, split: str | None) -> list[Piece]:
    """One piece: a separator could be anywhere."""
    return [Piece(str(path), split, path.stat().st_size)]


def read(config: SourceConfig, piece: Piece) -> Iterator[Document | Skipped]:
    """The documents of a file, white space at their ends removed. Ids are the file's place in the folder and a number.

    Raises ValueError for a file that is not UTF-8, damaged, or larger than allowed without a separator in it, unless
    `on_bad` is skip. Text before the place that cannot be read is kept only if a separator ends it.
    """
    path = Path(piece.place)
    place = place_of(path, config)
    separator = separator_of(config)
    try:
        with _opened(path, separator) as stream:
            for number, part in enumerate(_parts(stream, separator, config.max_document), start=1):
                if len(part) > config.max_document:
                    yield too_large(config, str(path), place, "set data.separator to cut it", part[:300])
                    return
                identity = f"{place}#{number}" if separator else place
                if "\0" in part:  # as in UTF-16 without its mark, or a file that was not written to its end
                    problem = invalid("data.path", str(path), "holds NUL bytes", "write the file again as UTF-8")
                    yield bad(config, identity, problem, "invalid_text", part[:300])
                else:
                    yield Document(identity, _line_ends(part).strip())
    except UnicodeDecodeError as error:
        problem = invalid("data.path", str(path), f"is not UTF-8 ({error.reason})", "re-encode it")
        yield bad(config, place, problem, "invalid_text")
    except DAMAGE as error:
        problem = invalid("data.path", str(path), f"is cut short or damaged ({error})", "fetch the file again")
        yield bad(config, place, problem, "damaged_file")


def separator_of(config: SourceConfig) -> str | None:
    """The separator with its escapes resolved (\\n \\r \\t \\f \\v \\0 \\xHH \\uHHHH \\UHHHHHHHH): a command line cannot hold all
    characters. Quotes within quotes double backslashes, so several count as one; before these letters one itself is \\x5c.
    \\r\\n is a line end like any other; a \\r alone is itself.
    """
    if not config.separator:
        return None
    return _ESCAPE.sub(_resolved, config.separator).replace("\r\n", "\n")


def _resolved(escape: re.Match[str]) -> str:
    code = escape[1] or escape[2] or escape[3]
    return chr(int(code, 16)) if code else _LETTERS[escape[4]]


def check_separator(config: SourceConfig, files: list[Path]) -> None:
    """Raises ValueError if there is a separator and none of the files holds it."""
    separator = separator_of(config)
    if separator and files and not any(_holds(path, separator, config.max_document) for path in files):
        where = f"{files[0]}" if len(files) == 1 else f"{len(files)} files such as {files[0]}"
        problem = f"occurs nowhere in {where}"
        raise invalid("data.separator", separator, problem, "give the text between documents, or null for whole files")


def _holds(path: Path, separator: str, largest: int) -> bool:
    """Whether a file holds a separator, or something that is only for reading to judge."""
    tail, size = "", 0
    try:
        with _opened(path, separator) as stream:
            while block := stream.read(2**20):
                size += len(block)
                if separator in (tail := tail + block) or size > largest:
                    return True
                tail = tail[len(tail) - len(separator) + 1 :]
    except (UnicodeDecodeError, *DAMAGE):
        return True
    return False


def _opened(path: Path, separator: str | None) -> io.TextIOWrapper:
    """The text of a file, line ends as \\n unless the separator distinguishes them."""
    newline = "" if separator and "\r" in separator else None
    return io.TextIOWrapper(open_bytes(path), encoding="utf-8-sig", newline=newline)


def _line_ends(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _parts(stream: io.TextIOWrapper, separator: str | None, largest: int) -> Iterator[str]:
    """Texts between separators; reads a megabyte at a time and stops beyond the largest."""
    blocks: list[str] = []
    held = 0
    while block := stream.read(2**20):
        if separator and separator in (joined := (blocks[-1] if blocks else "") + block):
            *whole, rest = joined.split(separator)
            yield "".join(blocks[:-1]) + whole[0]
            yield from whole[1:]
            blocks, held = [rest], len(rest)
        else:
            blocks.append(block)
            held += len(block)
        if held > largest:
            break
    yield "".join(blocks)
