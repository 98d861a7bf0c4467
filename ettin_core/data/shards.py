"""Token shards on disk: written once, memory-mapped ever after.

A shard holds whole documents, each as BOS ids EOS, in little-endian uint16 or uint32 (`.bin`). The positions where they
begin are stored beside it, uint32 (`.starts`).
"""

import contextlib
import hashlib
import os
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import IO, Any

import numpy as np

from ettin_core.data.tokenizer import Tokenizer
from ettin_core.foundation.storage import disk_errors, write_bytes

SHARD_TOKENS = 2**26
START = np.dtype("<u4")
OPEN_MAPS = 256


def token_dtype(vocab_size: int) -> np.dtype:
    """The smallest type that holds every id below `vocab_size`."""
    return np.dtype("<u2" if vocab_size <= 2**16 else "<u4")


class SplitWriter:
    """Writes the documents of one split of one part into shards, a little at a time."""

    def __init__(self, folder: Path, stem: str, tokenizer: Tokenizer) -> None:
        self._folder, self._stem = folder, stem
        self._special = tokenizer.special
        self._bound = tokenizer.vocab_size
        self._dtype = token_dtype(self._bound)
        self._file: IO[bytes] | None = None
        self._hash = hashlib.sha256()
        self._starts: list[int] = []
        self._tokens = 0
        self._shards: list[dict[str, Any]] = []
        self._totals = {"documents": 0, "tokens": 0, "bytes": 0}
        self._lengths = np.zeros(33, dtype=np.int64)
        self._log_probability = 0.0
        self._known = True

    def add(self, ids: np.ndarray, size: int, log_probability: float | None) -> None:
        """Append a document of `size` bytes of text."""
        assert not len(ids) or int(ids.max()) < self._bound, "a larger id would come back as another one"
        row = np.empty(len(ids) + 2, dtype=self._dtype)
        row[0], row[1:-1], row[-1] = self._special.bos, ids, self._special.eos
        with disk_errors(self._folder / self._stem):
            if self._file is None:
                self._file = self._temporary.open("wb")
            self._file.write(row.data)
        self._hash.update(row.data)
        self._starts.append(self._tokens)
        self._tokens += len(row)
        self._totals["documents"] += 1
        self._totals["tokens"] += len(row)
        self._totals["bytes"] += size
        self._lengths[len(row).bit_length() - 1] += 1
        self._known = self._known and log_probability is not None
        self._log_probability += log_probability or 0.0
        if self._tokens >= SHARD_TOKENS:
            self._finish_shard()

    def close(self) -> dict[str, Any]:
        """Finish the last shard; returns counts, shards and how many documents have 2^k to 2^(k+1)-1 tokens."""
        self._finish_shard()
        lengths = np.trim_zeros(self._lengths, "b").tolist()
        known = self._known and self._totals["documents"] > 0
        return {
            **self._totals,
            "lengths": lengths,
            "log_probability": self._log_probability if known else None,
            "shards": self._shards,
        }

    def abandon(self) -> None:
        """Remove what was not finished, if anything."""
        if self._file is not None:
            with contextlib.suppress(OSError):  # what is still held may not fit on the disk
                self._file.close()
            self._file = None
            self._temporary.unlink(missing_ok=True)

    @property
    def _temporary(self) -> Path:
        return self._folder / f".{self._stem}.{os.getpid()}.tmp"

    def _finish_shard(self) -> None:
        if self._file is None:
            return
        name = f"{self._stem}-{len(self._shards):03d}"
        starts = np.array(self._starts, dtype=START).tobytes()
        with disk_errors(self._folder / name):
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            self._file = None
            self._temporary.replace(self._folder / f"{name}.bin")
        write_bytes(self._folder / f"{name}.starts", starts)
        self._shards.append(
            {
                "file": f"{name}.bin",
                "tokens": self._tokens,
                "documents": len(self._starts),
                "sha256": self._hash.hexdigest(),
                "starts_sha256": hashlib.sha256(starts).hexdigest(),
            }
        )
        self._hash, self._starts, self._tokens = hashlib.sha256(), [], 0


@lru_cache(maxsize=OPEN_MAPS)
def _mapped(file: Path, dtype: np.dtype) -> np.ndarray:
    """A memory map; the least recently used are closed: each holds a file open, and many systems allow 1024."""
    return np.memmap(file, dtype=dtype, mode="r").view(np.ndarray)  # slices of the subclass cost ten times as much


@dataclass(frozen=True)
class TokenStream:
    """The token ids of one source and split: shards read as one sequence.

    Attributes:
        files: the shards.
        sizes: tokens of each.
        counts: documents of each.
    """

    files: tuple[Path, ...]
    sizes: tuple[int, ...]
    counts: tuple[int, ...]
    dtype: np.dtype

    def __len__(self) -> int:
        return int(self.edges[-1])

    @cached_property
    def edges(self) -> np.ndarray:
        """Where each shard begins in the stream, and its end, (shards + 1,) int64."""
        return np.concatenate([[0], np.cumsum(self.sizes, dtype=np.int64)])

    def read(self, begin: int, end: int) -> np.ndarray:
        """Ids begin..end (clipped to the stream) in the stored type; across shard edges a copy, else a view."""
        end = min(end, len(self))
        shard = int(np.searchsorted(self.edges, begin, side="right")) - 1
        pieces = []
        while begin < end:
            offset = begin - int(self.edges[shard])
            piece = _mapped(self.files[shard], self.dtype)[offset : offset + end - begin]
            pieces.append(piece)
            begin += len(piece)
            shard += 1
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces or [np.empty(0, dtype=self.dtype)])

    def starts(self, shard: int, first: int = 0, end: int | None = None) -> np.ndarray:
        """Where documents first..end of a shard begin within it, and where the last of them ends, int64."""
        starts = _mapped(self.files[shard].with_suffix(".starts"), START)
        chosen = starts[first : None if end is None else end + 1].astype(np.int64)
        return chosen if end is not None and end < len(starts) else np.append(chosen, self.sizes[shard])
