"""Where documents come from: `world`, plain text, JSON lines. Each source yields (id, text) in a fixed order, by split.

A folder's file names may state source and split ("books.train-00.jsonl.zst"); when no file does, each document falls into
train, validation or test by a hash of its id (96 : 2 : 2), so that the split does not depend on file order.
"""

import gzip
import io
import json
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from ettin_core.data.config import DataConfig
from ettin_core.data.world import World, WorldConfig
from ettin_core.foundation.errors import invalid
from ettin_core.foundation.storage import hash_text

SPLITS = ("train", "validation", "test")
SUFFIXES = (".txt", ".jsonl", ".jsonl.gz", ".jsonl.zst", ".txt.gz", ".txt.zst")
_NAMED = re.compile(r"^(?:(?P<source>.+?)\.)?(?P<split>train|validation|valid|dev|test)(?:[-.].*)?$")
_SPLIT_NAMES = {"valid": "validation", "dev": "validation"}
_HELD_OUT = 0.02


@dataclass(frozen=True)
class Document:
    """One document. `log_probability` (nats) is known for `world` only."""

    id: str
    text: str
    log_probability: float | None = None


@dataclass(frozen=True)
class Source:
    """A named stream of documents for each split. `identity` changes when the content does."""

    name: str
    identity: str
    documents: Callable[[str], Iterator[Document]]


def open_sources(config: DataConfig) -> list[Source]:
    """The sources of a corpus, sorted by name. Raises ValueError for paths and files that cannot be read."""
    return [_world_source(config)] if config.kind == "world" else _text_sources(config)


def _world_source(config: DataConfig) -> Source:
    world = world_of(config)
    counts = {"train": config.documents or 0}
    counts["validation"] = counts["test"] = max(64, counts["train"] // 50)

    def documents(split: str) -> Iterator[Document]:
        for document in world.documents(split, counts[split]):
            yield Document(document.id, document.text, document.log_probability)

    return Source("world", hash_text(f"{world.config}|{config.documents}"), documents)


def world_of(config: DataConfig) -> World:
    """The world a corpus was written by."""
    return World(WorldConfig(seed=config.world_seed))


def _text_sources(config: DataConfig) -> list[Source]:
    assert config.path is not None
    root = Path(config.path)
    if not root.exists():
        raise invalid("data.path", config.path, "does not exist", "give a file or folder of text")
    files = [root] if root.is_file() else sorted(path for path in root.rglob("*") if path.is_file())
    files = [path for path in files if path.name.endswith(SUFFIXES)]
    if not files:
        raise invalid("data.path", config.path, "holds no text", f"put files there that end in {', '.join(SUFFIXES)}")
    named = {path: _NAMED.match(path.name) for path in files}
    if any(named.values()) and not all(named.values()):
        odd = next(path for path, match in named.items() if not match)
        raise invalid("data.path", str(odd), "states no split while other files do", "name it <source>.train.jsonl")
    grouped: dict[str, list[tuple[str | None, Path]]] = {}
    for path, match in named.items():
        source = (match["source"] if match else None) or config.name
        split = _SPLIT_NAMES.get(match["split"], match["split"]) if match else None
        grouped.setdefault(source, []).append((split, path))
    return [_file_source(config, name, parts) for name, parts in sorted(grouped.items())]


def _file_source(config: DataConfig, name: str, parts: list[tuple[str | None, Path]]) -> Source:
    def documents(split: str) -> Iterator[Document]:
        taken = 0
        for stated, path in parts:
            if stated not in (None, split):
                continue
            for document in read_documents(path, config):
                if stated is None and _split_of(document.id) != split:
                    continue
                if config.documents is not None and taken >= config.documents:
                    return
                taken += 1
                yield document

    identity = hash_text(json.dumps([[str(split), path.name, _file_identity(path)] for split, path in parts]))
    return Source(name, identity, documents)


def _split_of(document_id: str) -> str:
    share = int(hash_text(f"split|{document_id}")[:12], 16) / 16**12
    return "test" if share < _HELD_OUT else "validation" if share < 2 * _HELD_OUT else "train"


def _file_identity(path: Path) -> str:
    """Size and both ends: enough to notice a changed file without reading terabytes."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(2**20)
        file.seek(max(0, size - 2**20))
        tail = file.read(2**20)
    return hash_text(f"{size}|{head.hex()}|{tail.hex()}")


def read_documents(path: Path, config: DataConfig) -> Iterator[Document]:
    """Documents of one file. Raises ValueError naming file and line for anything that is not readable text."""
    if path.stat().st_size == 0:
        raise invalid("data.path", str(path), "is empty", "remove the file")
    try:
        with open_text(path) as stream:
            if path.name.split(".")[-1 if path.suffix not in (".gz", ".zst") else -2] == "txt":
                yield from _plain_documents(path, stream.read(), config.separator)
            else:
                yield from _json_documents(path, stream, config)
    except UnicodeDecodeError as error:
        raise invalid("data.path", str(path), f"is not UTF-8 ({error.reason})", "re-encode it") from error
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise invalid("data.path", str(path), f"is cut short or damaged ({error})", "fetch the file again") from error


def open_text(path: Path) -> IO[str]:
    """A text stream of a plain, gzip or zstd file."""
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8")
    if path.suffix == ".zst":
        return io.TextIOWrapper(io.BufferedReader(_ZstdFile(path)), encoding="utf-8")
    return path.open(encoding="utf-8")


class _ZstdFile(io.RawIOBase):
    """Bytes of a zstd file, frame after frame. The library's own reader would not notice a file that is cut short."""

    def __init__(self, path: Path) -> None:
        self._chunks = _decompress(path)
        self._left = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._left:
            chunk = next(self._chunks, None)
            if chunk is None:
                return 0
            self._left = memoryview(chunk)
        count = min(len(buffer), len(self._left))
        buffer[:count], self._left = self._left[:count], self._left[count:]
        return count


def _decompress(path: Path) -> Iterator[bytes]:
    """Decompressed pieces of a zstd file. Raises EOFError when the last frame does not end, or is no zstd."""
    import zstandard

    frame = None
    with path.open("rb") as file:
        while data := file.read(2**17):
            while data:
                frame = frame or zstandard.ZstdDecompressor(max_window_size=2**31).decompressobj()
                try:
                    yield frame.decompress(data)
                except zstandard.ZstdError as error:
                    raise EOFError(str(error)) from error
                data = frame.unused_data if frame.eof else b""
                frame = None if frame.eof else frame
    if frame is not None:
        raise EOFError("the last zstd frame does not end")


def _plain_documents(path: Path, text: str, separator: str | None) -> Iterator[Document]:
    # the command line cannot hold a line break, so it is spelled there
    parts = [text] if separator is None else text.split(separator.replace("\\n", "\n").replace("\\t", "\t"))
    for number, part in enumerate(parts):
        yield Document(f"{path.name}#{number}" if separator else path.name, part.strip())


def _json_documents(path: Path, stream: IO[str], config: DataConfig) -> Iterator[Document]:
    for number, line in enumerate(stream, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise invalid("data.path", f"{path}:{number}", f"is not JSON ({error.msg})", "mend the line") from error
        text = row.get(config.text_field) if isinstance(row, dict) else None
        if not isinstance(text, str):
            fields = ", ".join(row) if isinstance(row, dict) else type(row).__name__
            raise invalid(
                "data.text_field", config.text_field, f"is no text in {path}:{number}", f"the line has: {fields}"
            )
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise invalid(
                "data.path", f"{path}:{number}", "holds half a character (\\ud800)", "mend the line"
            ) from error
        stated = row.get(config.id_field)
        yield Document(f"{path.name}#{number}" if stated is None else str(stated), text)
