"""Plain text files, plain or compressed: a file is a document, or several with a separator between them."""

import io
from collections.abc import Iterator
from pathlib import Path

from ettin_core.data.config import SourceConfig
from ettin_core.data.documents import Document, Piece, Skipped, bad
from ettin_core.data.importers.compression import DAMAGE, open_bytes
from ettin_core.foundation.errors import invalid

LARGEST = 2**30


def pieces(path: Path, split: str | None) -> list[Piece]:
    """One piece: a separator could be anywhere."""
    return [Piece(str(path), split, path.stat().st_size)]


def read(config: SourceConfig, piece: Piece) -> Iterator[Document | Skipped]:
    """The documents of a file, white space at their ends removed. The id is the file's name and the document's number.

    Raises ValueError for a file that is not UTF-8, damaged, or larger than 1 GiB without a separator in it, unless
    `on_bad` is skip; what stands before the place that cannot be read is kept only where a separator ends it.
    """
    path = Path(piece.place)
    # the command line cannot hold a line break, so it is spelled there
    separator = config.separator and config.separator.replace("\\n", "\n").replace("\\t", "\t")
    try:
        with io.TextIOWrapper(open_bytes(path), encoding="utf-8-sig") as stream:
            for number, part in enumerate(_parts(stream, separator), start=1):
                if len(part) > LARGEST:
                    problem = invalid(
                        "data.path", str(path), "holds a document of more than 1 GiB", "set data.separator to cut it"
                    )
                    yield bad(config, path.name, problem, "too_large", part[:300])
                    return
                yield Document(f"{path.name}#{number}" if separator else path.name, part.strip())
    except UnicodeDecodeError as error:
        problem = invalid("data.path", str(path), f"is not UTF-8 ({error.reason})", "re-encode it")
        yield bad(config, path.name, problem, "invalid_text")
    except DAMAGE as error:
        problem = invalid("data.path", str(path), f"is cut short or damaged ({error})", "fetch the file again")
        yield bad(config, path.name, problem, "damaged_file")


def _parts(stream: io.TextIOWrapper, separator: str | None) -> Iterator[str]:
    """Texts between separators; reads a megabyte at a time and stops beyond LARGEST."""
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
        if held > LARGEST:
            break
    yield "".join(blocks)
