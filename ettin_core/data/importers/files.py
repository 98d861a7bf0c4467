"""Files of text by their suffix, in a folder or alone. Names of files and folders may state the split (`folders.stated`)."""

from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from pathlib import Path
from types import ModuleType

from ettin_core.data.config import SourceConfig
from ettin_core.data.documents import Document, NotRead, Piece, Skipped, Source, bad, place_of
from ettin_core.data.importers import json_lines, parquet, pdf, plain_text
from ettin_core.data.importers.compression import copies
from ettin_core.data.importers.folders import COMPRESSED, Listing, check_leaving, listed, stated
from ettin_core.foundation.errors import invalid
from ettin_core.foundation.hashes import hash_files
from ettin_core.foundation.storage import canonical_json, hash_text

FORMATS: dict[str, ModuleType] = {
    ".jsonl": json_lines,
    ".jsonl.gz": json_lines,
    ".jsonl.zst": json_lines,
    ".txt": plain_text,
    ".txt.gz": plain_text,
    ".txt.zst": plain_text,
    ".parquet": parquet,
    ".pdf": pdf,
}


def find(name: str, config: SourceConfig) -> list[Source]:
    """The sources of a file or folder. Raises ValueError for paths without text, or names that only partly state splits."""
    assert config.path is not None
    root = Path(config.path)
    files, not_read = (_alone(root), {}) if root.is_file() else _chosen(root, config)
    named = {path: stated(Path(place_of(path, config))) for path in files}
    unstated = [path for path, (_, split) in named.items() if split is None]
    if unstated and len(unstated) < len(files):
        remedy = "name it <source>.train.jsonl, put it in a folder train/, or choose files with data.files"
        raise invalid("data.path", str(unstated[0]), "states no split while other files do", remedy)
    plain_text.check_separator(config, [path for path in files if _format(path) is plain_text])
    grouped: dict[str, list[tuple[str | None, Path]]] = {}
    for path, (source, split) in named.items():
        grouped.setdefault(source or name, []).append((split, path))
    hashes = hash_files(root if root.is_dir() else root.parent, files, str(root))
    return [_source(source, config, parts, hashes, not_read) for source, parts in sorted(grouped.items())]


def _alone(file: Path) -> list[Path]:
    """A file that is given itself. Raises ValueError for one of another suffix."""
    if _format(file) is None:
        problem = "has no suffix of a text format"
        raise invalid("data.path", str(file), problem, f"give a folder, or a file that ends in {', '.join(FORMATS)}")
    return [file]


def _chosen(root: Path, config: SourceConfig) -> tuple[list[Path], dict[str, NotRead]]:
    """The files of a folder to read, and what is not read. Raises ValueError where there are none, or a link leaves it."""
    if not root.exists():
        raise invalid("data.path", str(root), "does not exist", "give a file or folder of text")
    listing = Listing(root)
    files = [path for path in listing.files if _format(path) is not None]
    check_leaving(config, listing, [link for link in listing.leaving if _is_wanted(link, root, config)])
    for path in listing.files:
        if _format(path) is None:
            listing.leave_out(path, f"suffix {path.suffix.lower()}" if path.suffix else "no suffix")
        elif not _is_utf8(str(path)):
            raise invalid("data.path", str(path), "has a name that is not UTF-8", "rename it")
    for path in copies(files):
        files.remove(path)
        listing.leave_out(path, COMPRESSED)
    if not files:
        rest = f" (not read: {listed(listing.not_read)})" if listing.not_read else ""
        raise invalid(
            "data.path", str(root), f"holds no text{rest}", f"put files there that end in {', '.join(FORMATS)}"
        )
    wanted = [path for path in files if _matches(path, root, config.files)]
    if not wanted:
        example = files[0].relative_to(root)
        raise invalid(
            "data.files", config.files, f"matches nothing in {root}", f"give a pattern for names such as {example}"
        )
    return wanted, listing.not_read


def _is_wanted(link: Path, root: Path, config: SourceConfig) -> bool:
    return (link.is_dir() and config.files is None) or (
        _format(link) is not None and _matches(link, root, config.files)
    )


def _matches(path: Path, root: Path, pattern: str | None) -> bool:
    return pattern is None or fnmatch(path.relative_to(root).as_posix(), pattern)


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _format(path: Path) -> ModuleType | None:
    return next((module for suffix, module in FORMATS.items() if path.name.lower().endswith(suffix)), None)


def _source(
    name: str,
    config: SourceConfig,
    parts: list[tuple[str | None, Path]],
    hashes: dict[Path, str],
    not_read: dict[str, NotRead],
) -> Source:
    pieces: list[Piece] = []
    for split, path in parts:
        divide: Callable[[Path, str | None], list[Piece]] = _format(path).pieces  # type: ignore[union-attr]
        pieces += divide(path, split)
    identity = hash_text(canonical_json([[split, place_of(path, config), hashes[path]] for split, path in parts]))
    return Source(name, config, identity, tuple(pieces), not_read)


def read(config: SourceConfig, piece: Piece) -> Iterator[Document | Skipped]:
    """The documents of a piece of a file, by its format."""
    path = Path(piece.place)
    if path.stat().st_size == 0:
        yield bad(
            config, place_of(path, config), invalid("data.path", str(path), "is empty", "remove the file"), "empty_file"
        )
        return
    module = _format(path)
    assert module is not None
    yield from module.read(config, piece)
