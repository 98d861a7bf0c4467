"""One MDS shard: its bytes, raw or compressed, its samples, and the values of their columns."""

import bz2
import gzip
import hashlib
import io
import json
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ettin_core.foundation.errors import invalid

_NUMBERS = ("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "float16", "float32", "float64")
_ARRAY_TYPES = {np.dtype(name).itemsize * 8 + "uif".index(np.dtype(name).kind): name for name in _NUMBERS}

Shard = dict[str, Any]


class Damaged(Exception):
    """A shard whose bytes are not what its index says."""


def known_hashes(file: dict[str, Any]) -> dict[str, str]:
    stated = (file.get("hashes") or {}).items()
    return {name: value for name, value in stated if name in hashlib.algorithms_guaranteed}


def shard_file(folder: Path, shard: Shard) -> tuple[Path, dict[str, Any]]:
    """The raw shard or else the compressed one, of the stated size."""
    for entry in (shard["raw_data"], shard["zip_data"]):
        path = folder / entry["basename"] if entry else folder
        if path.is_file():
            if path.stat().st_size != entry["bytes"]:
                raise Damaged(f"it has {path.stat().st_size} bytes, its index says {entry['bytes']}")
            return path, entry
    raise Damaged("it is not there, neither raw nor compressed")


def shard_bytes(folder: Path, shard: Shard) -> np.ndarray:
    """A raw shard's bytes: mapped from the file, or decompressed into memory."""
    path, entry = shard_file(folder, shard)
    content: np.ndarray = np.memmap(path, dtype=np.uint8, mode="r") if entry["bytes"] else np.empty(0, np.uint8)
    _check_hashes(content, entry)
    if entry is shard["raw_data"]:
        return content
    size, compression = shard["raw_data"]["bytes"], str(shard["compression"])
    if compression.split(":")[0] not in _READS:
        raise invalid(
            "data.path", str(path), f"is compressed with {compression!r}", "decompress it, or use zstd, gz or bz2"
        )
    try:
        expanded = _READS[compression.split(":")[0]](
            io.BytesIO(content.data), size + 1
        )  # one byte more shows a shard that is too large
    except (EOFError, OSError, ValueError, zlib.error) as error:
        raise Damaged(str(error)) from error
    raw = np.frombuffer(expanded, dtype=np.uint8)
    if len(raw) != size:
        more = "more" if len(raw) > size else str(len(raw))
        raise Damaged(f"it decompresses to {more} bytes, its index says {size}")
    _check_hashes(raw, shard["raw_data"])
    return raw


def _check_hashes(content: np.ndarray, entry: dict[str, Any]) -> None:
    for name, stated in known_hashes(entry).items():
        if hashlib.new(name, content.data).hexdigest() != stated:
            raise Damaged(f"its {name} is not the one its index states")


def _read_zstd(data: io.BytesIO, most: int) -> bytes:
    import zstandard

    try:
        return zstandard.ZstdDecompressor(max_window_size=2**31).stream_reader(data).read(most)
    except zstandard.ZstdError as error:
        raise ValueError(str(error)) from error


def _read_gz(data: io.BytesIO, most: int) -> bytes:
    with gzip.open(data) as stream:
        return stream.read(most)


def _read_bz2(data: io.BytesIO, most: int) -> bytes:
    with bz2.open(data) as stream:
        return stream.read(most)


_READS = {
    "zstd": _read_zstd,
    "gz": _read_gz,
    "bz2": _read_bz2,
}  # kilobytes may hold gigabytes: no more than `most` bytes


def samples_of(content: np.ndarray, samples: int) -> Iterator[bytes]:
    """The bytes of each sample."""
    if len(content) < 4 * (samples + 2) or int(content[:4].view(np.uint32)[0]) != samples:
        raise Damaged(f"it does not begin with {samples} documents, as its index says")
    offsets = content[4 : 4 * (samples + 2)].view(np.uint32).astype(np.int64)
    if offsets[0] < 4 * (samples + 2) or offsets[-1] != len(content) or (np.diff(offsets) < 0).any():
        raise Damaged("its offsets are invalid")
    for begin, end in zip(offsets, offsets[1:], strict=False):
        yield content[begin:end].tobytes()


def columns_of(shard: Shard, sample: bytes) -> dict[str, bytes]:
    """The bytes of each column of a sample."""
    variable = sum(not size for size in shard["column_sizes"])
    if len(sample) < 4 * variable:
        raise Damaged("a document is shorter than its columns")
    stated = iter(np.frombuffer(sample, np.uint32, variable).tolist())
    columns = {}
    offset = 4 * variable
    for name, size in zip(shard["column_names"], shard["column_sizes"], strict=True):
        end = offset + (size or next(stated))
        columns[name] = sample[offset:end]
        offset = end
    if offset != len(sample):
        raise Damaged("the columns of a document are not as long as the document")
    return columns


def decoder(encoding: str) -> Callable[[bytes], Any] | None:
    """What turns a column's bytes into its value; None for an encoding that is not read here."""
    name, *options = encoding.split(":")
    if name == "ndarray":
        return lambda data: _array(data, *options)
    if name in _NUMBERS or name == "int":
        return lambda data: np.frombuffer(data, "int64" if name == "int" else name)[0].item()
    plain: dict[str, Callable[[bytes], Any]] = {"str": bytes.decode, "json": json.loads, "bytes": bytes}
    return (plain | {"str_int": int, "str_float": float}).get(name)


def _array(data: bytes, dtype: str | None = None, shape: str | None = None) -> np.ndarray:
    """An array: before its values come the type and then the shape, unless the encoding fixes them."""
    if not dtype:
        dtype, data = _ARRAY_TYPES[data[0]], data[1:]
    if shape:
        axes = [int(size) for size in shape.split(",")]
    else:
        count, width = data[0] >> 2, 1 << (data[0] & 3)
        axes = np.frombuffer(data, f"u{width}", count, offset=1).tolist()
        data = data[1 + count * width :]
    return np.frombuffer(data, dtype).reshape(axes)
