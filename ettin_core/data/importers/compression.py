"""Bytes of plain, gzip and zstd files."""

import gzip
import io
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

DAMAGE = (EOFError, gzip.BadGzipFile, zlib.error)
_INPUT = 2**14  # bytes of zstd at once: they may be 2**29 of text


def open_bytes(path: Path) -> BinaryIO:
    """A stream of a file's (decompressed) bytes. Reading raises one of DAMAGE when a compressed file is cut or broken."""
    if path.suffix.lower() == ".gz":
        return gzip.open(path, "rb")  # type: ignore[return-value]
    if path.suffix.lower() == ".zst":
        return io.BufferedReader(_ZstdFile(path), 2**20)
    return path.open("rb")


def is_compressed(path: Path) -> bool:
    """Whether a file has to be read from its beginning."""
    return path.suffix.lower() in (".gz", ".zst")


def copies(files: Iterable[Path]) -> list[Path]:
    """The compressed files that hold the bytes of another file of their name, as `gzip -k` and `zstd` leave it beside them."""
    firsts: dict[Path, Path] = {}
    repeated = []
    for path in sorted(files, key=lambda path: (is_compressed(path), path)):
        first = firsts.setdefault(path.with_suffix("") if is_compressed(path) else path, path)
        if first != path and _hold_the_same(first, path):
            repeated.append(path)
    return repeated


def _hold_the_same(first: Path, second: Path) -> bool:
    try:
        with open_bytes(first) as left, open_bytes(second) as right:
            while (block := left.read(2**20)) == right.read(2**20):
                if not block:
                    return True
    except DAMAGE:  # reading the file reports or counts it
        return False
    return False


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
    """Decompressed pieces of a zstd file. Raises EOFError if the last frame does not end, or is not zstd."""
    import zstandard

    frame = None
    with path.open("rb") as file:
        while data := file.read(_INPUT):
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
