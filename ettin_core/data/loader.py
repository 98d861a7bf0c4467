"""Rows of tokens for any step and any rank. Knows no objective: both members of a pair call exactly this."""

import hashlib
from dataclasses import dataclass

import numpy as np

from ettin_core.data.corpus import Corpus
from ettin_core.data.order import Order
from ettin_core.foundation.errors import invalid


@dataclass(frozen=True)
class Batch:
    """Packed rows, all (B, S) int64 but `rows` and `sources` (B,).

    `documents` numbers the documents within a row (-1: padding), `positions` restart in each, `rows` are global row
    numbers within the phase (the key of every per-row random stream), `sources` index the corpus's sources.
    """

    tokens: np.ndarray
    documents: np.ndarray
    positions: np.ndarray
    rows: np.ndarray
    sources: np.ndarray

    @property
    def real(self) -> np.ndarray:
        """Which tokens are not padding, (B, S) bool."""
        return self.documents >= 0

    def digest(self) -> int:
        """A sum of row hashes (64 bits, wrapping): equal for any division of the same global batch into parts."""
        total = 0
        for number, ids in zip(self.rows.tolist(), self.tokens, strict=True):
            content = hashlib.sha256(number.to_bytes(8, "little") + ids.astype("<u4").tobytes()).digest()
            total += int.from_bytes(content[:8], "little")
        return total % 2**63


def lay_out(tokens: np.ndarray, bos: int, pad: int) -> tuple[np.ndarray, np.ndarray]:
    """Documents and positions (B, S) of packed rows (B, S): a document begins at each BOS and at the row's start."""
    index = np.broadcast_to(np.arange(tokens.shape[1]), tokens.shape)
    starts = tokens == bos
    starts[:, 0] = True
    documents = np.cumsum(starts, axis=1) - 1
    positions = index - np.maximum.accumulate(np.where(starts, index, 0), axis=1)
    documents = np.where(tokens == pad, -1, documents)
    return documents.astype(np.int64), positions.astype(np.int64)


def pack(documents: list[np.ndarray], rows: np.ndarray, bos: int, pad: int, context: int | None = None) -> Batch:
    """One piece of text per row, padded to the longest (or to `context`), with global row numbers `rows`."""
    width = context or max(len(ids) for ids in documents)
    tokens = np.full((len(documents), width), pad, dtype=np.int64)
    for number, ids in enumerate(documents):
        tokens[number, : len(ids)] = ids
    places, positions = lay_out(tokens, bos, pad)
    return Batch(tokens, places, positions, rows, np.zeros(len(rows), dtype=np.int64))


class Loader:
    """The training rows of one phase."""

    def __init__(
        self,
        corpus: Corpus,
        context: int,
        batch_rows: int,
        seed: int,
        phase: str,
        mixture: dict[str, float] | None = None,
        split: str = "train",
    ) -> None:
        """`mixture` gives weights by source (None: by size). Raises ValueError for unknown or too small sources."""
        names = corpus.sources if mixture is None else sorted(mixture)
        for name in names:
            if name not in corpus.sources:
                raise invalid("mixture", name, "is not a source of the corpus", f"it has {', '.join(corpus.sources)}")
            if mixture is not None and mixture[name] <= 0:
                raise invalid(f"mixture.{name}", mixture[name], "is not positive", "leave the source out instead")
        self.sources = [name for name in names if corpus.tokens(name, split) > 0 or mixture is not None]
        self.streams = [corpus.stream(name, split) for name in self.sources]
        for name, stream in zip(self.sources, self.streams, strict=True):
            if len(stream) < context:
                raise invalid(
                    f"context of phase {phase}",
                    context,
                    f"is longer than the whole source {name!r} ({len(stream)} tokens)",
                    "give more text, or a shorter context",
                )
        weights = [float(len(stream)) for stream in self.streams]
        if mixture is not None:
            weights = [mixture[name] for name in self.sources]
        self.context = context
        self.batch_rows = batch_rows
        self.special = corpus.tokenizer.special
        rows = [-(-len(stream) // context) for stream in self.streams]
        self.order = Order(corpus.fingerprint, seed, phase, rows, weights)

    def batch(self, step: int, part: int = 0, parts: int = 1) -> Batch:
        """Rows of one part of the global batch of a step; parts are contiguous slices of the same global rows."""
        assert self.batch_rows % parts == 0, "parts must divide the batch, or rows would be left out"
        size = self.batch_rows // parts
        first = step * self.batch_rows + part * size
        global_rows = np.arange(first, first + size, dtype=np.int64)
        location = self.order.locate(global_rows)
        tokens = np.full((size, self.context), self.special.pad, dtype=np.int64)
        for number, (source, row) in enumerate(zip(location.source, location.row, strict=True)):
            ids = self.streams[source].read(int(row) * self.context, (int(row) + 1) * self.context)
            tokens[number, : len(ids)] = ids
        documents, positions = lay_out(tokens, self.special.bos, self.special.pad)
        return Batch(tokens, documents, positions, global_rows, location.source)
