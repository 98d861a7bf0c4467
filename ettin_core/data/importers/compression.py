"""Bytes of plain, gzip and zstd files, and what identifies a file's content."""

import gzip
import hashlib
import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

DAMAGE = (EOFError, gzip.BadGzipFile, zlib.error)
_SAMPLES, _SAMPLE = 64, 2**18


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


def file_identity(path: Path, whole: int = 2**29) -> str:
    """sha256 over a file's size and content: all of it up to `whole` bytes, beyond that 64 evenly spread pieces of 256 KiB."""
    size = path.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        if size <= whole:
            while block := file.read(2**20):
                digest.update(block)
        else:
            for number in range(_SAMPLES):
                file.seek((size - _SAMPLE) * number // (_SAMPLES - 1))
                digest.update(file.read(_SAMPLE))
    return digest.hexdigest()


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
