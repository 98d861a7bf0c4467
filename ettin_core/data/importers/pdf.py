"""PDF files: the text layer of each as one document. Words that are hyphenated at the end of a line stay so."""

from collections.abc import Iterator
from pathlib import Path

from ettin_core.data.config import SourceConfig
from ettin_core.data.documents import Document, Piece, Skipped, bad, from_row, place_of
from ettin_core.foundation.errors import invalid, with_extra

_TAIL = 1024  # where readers look for the mark that ends a PDF


def pieces(path: Path, split: str | None) -> list[Piece]:
    """One piece, which is one document."""
    return [Piece(str(path), split, path.stat().st_size)]


def read(config: SourceConfig, piece: Piece) -> Iterator[Document | Skipped]:
    """The document of a file, its pages joined by blank lines; its id is the file's place in the folder.

    A file without a text layer (a scan) is counted as `no_text`. Raises ValueError for one that is damaged or encrypted,
    unless `on_bad` is skip, and when pypdf is not installed.
    """
    path = Path(piece.place)
    place = place_of(path, config)
    _need_library(path)
    try:
        text = _text(path)
    except Exception as error:  # damaged files make the library fail in any way
        reason = " ".join(str(error).split())[:300]
        problem = invalid("data.path", str(path), f"is encrypted, cut short or damaged ({reason})", "mend the file")
        yield bad(config, place, problem, "damaged_file")
        return
    if not text:
        yield Skipped(place, "no_text")
        return
    yield from_row({config.text_field: text}, config, str(path), place)


def _need_library(path: Path) -> None:
    try:
        import pypdf  # noqa: F401
    except ImportError as error:
        raise invalid("data.path", str(path), "is a PDF, and pypdf is not installed", with_extra("pdf")) from error


def _text(path: Path) -> str:
    from pypdf import PdfReader

    with path.open("rb") as file:
        file.seek(-min(_TAIL, path.stat().st_size), 2)
        if b"%%EOF" not in file.read():
            raise EOFError("its end is missing")  # the library would read what is left
        texts = [page.extract_text().strip() for page in PdfReader(file).pages]
    whole = "\n\n".join(text for text in texts if text)
    return whole.encode("utf-16", "surrogatepass").decode("utf-16", "replace")  # fonts' tables may give half characters
