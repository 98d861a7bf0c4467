"""Files of text by their suffix, in a folder or alone. File names may state source and split ("books.train-00.jsonl.zst")."""

import re
from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from pathlib import Path
from types import ModuleType

from ettin_core.data.config import SourceConfig
from ettin_core.data.documents import Document, Piece, Skipped, Source, bad
from ettin_core.data.importers import json_lines, parquet, pdf, plain_text
from ettin_core.data.importers.compression import file_identity
from ettin_core.foundation.errors import invalid
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
_NAMED = re.compile(r"^(?:(?P<source>.+?)\.)?(?P<split>train|validation|valid|val|dev|test)(?:[-.].*)?$")
_SPLIT_NAMES = dict.fromkeys(("valid", "val", "dev"), "validation")


def find(name: str, config: SourceConfig) -> list[Source]:
    """The sources of a file or folder. Raises ValueError for paths without text, or names that only partly state splits."""
    assert config.path is not None
    root = Path(config.path)
    files = _files(root, config.files)
    named = {path: _NAMED.match(path.name) for path in files}
    if any(named.values()) and not all(named.values()):
        odd = next(path for path, match in named.items() if not match)
        raise invalid("data.path", str(odd), "states no split while other files do", "name it <source>.train.jsonl")
    grouped: dict[str, list[tuple[str | None, Path]]] = {}
    for path, match in named.items():
        source = (match["source"] if match else None) or name
        split = _SPLIT_NAMES.get(match["split"], match["split"]) if match else None
        grouped.setdefault(source, []).append((split, path))
    return [_source(source, config, parts) for source, parts in sorted(grouped.items())]


def _files(root: Path, pattern: str | None) -> list[Path]:
    if not root.exists():
        raise invalid("data.path", str(root), "does not exist", "give a file or folder of text")
    found = [root] if root.is_file() else sorted(path for path in root.rglob("*") if path.is_file())
    files = [path for path in found if _format(path) is not None]
    for path in files:
        if not _is_utf8(str(path)):
            raise invalid("data.path", str(path), "has a name that is not UTF-8", "rename it")
    if not files:
        raise invalid("data.path", str(root), "holds no text", f"put files there that end in {', '.join(FORMATS)}")
    if pattern is None or root.is_file():
        return files
    wanted = [path for path in files if fnmatch(path.relative_to(root).as_posix(), pattern)]
    if not wanted:
        example = files[0].relative_to(root)
        raise invalid(
            "data.files", pattern, f"matches nothing in {root}", f"give a pattern for names such as {example}"
        )
    return wanted


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _format(path: Path) -> ModuleType | None:
    return next((module for suffix, module in FORMATS.items() if path.name.lower().endswith(suffix)), None)


def _source(name: str, config: SourceConfig, parts: list[tuple[str | None, Path]]) -> Source:
    pieces: list[Piece] = []
    for split, path in parts:
        cut: Callable[[Path, str | None], list[Piece]] = _format(path).pieces  # type: ignore[union-attr]
        pieces += cut(path, split)
    identity = hash_text(canonical_json([[split, path.name, file_identity(path)] for split, path in parts]))
    return Source(name, config, identity, tuple(pieces))


def read(config: SourceConfig, piece: Piece) -> Iterator[Document | Skipped]:
    """The documents of a piece of a file, by its format."""
    path = Path(piece.place)
    if path.stat().st_size == 0:
        yield bad(config, path.name, invalid("data.path", str(path), "is empty", "remove the file"), "empty_file")
        return
    module = _format(path)
    assert module is not None
    yield from module.read(config, piece)
