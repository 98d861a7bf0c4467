"""Rows of tokens for any step and any rank. Knows no objective: both members of a pair call exactly this."""

import hashlib
from dataclasses import dataclass

import numpy as np

from ettin_core.data.batch_schedule import BatchSchedule
from ettin_core.data.config import check_mixture
from ettin_core.data.corpus import Corpus
from ettin_core.data.order import Order
from ettin_core.data.packing import packed_rows
from ettin_core.foundation.errors import invalid


@dataclass(frozen=True)
class Batch:
    """Packed rows, all (B, S) int64 but `rows` and `sources` (B,).

    `document_ids` numbers the documents within a row (-1: padding), `position_ids` restart in each, `rows` are global row
    numbers within the phase (the key of every per-row random stream), `sources` index the corpus's sources.
    """

    tokens: np.ndarray
    document_ids: np.ndarray
    position_ids: np.ndarray
    rows: np.ndarray
    sources: np.ndarray

    @property
    def real(self) -> np.ndarray:
        """Which tokens are not padding, (B, S) bool."""
        return self.document_ids >= 0

    def digest(self) -> int:
        """A sum of row hashes (64 bits, wrapping): equal for any division of the same global batch into parts."""
        total = 0
        for number, ids in zip(self.rows.tolist(), self.tokens, strict=True):
            content = hashlib.sha256(number.to_bytes(8, "little") + ids.astype("<u4").tobytes()).digest()
            total += int.from_bytes(content[:8], "little")
        return total % 2**63


def document_lengths(batch: Batch, counted: np.ndarray | None = None) -> np.ndarray:
    """Length of every document piece in the rows, or how many of its tokens are among `counted` (B, S) bool."""
    keys = batch.document_ids + np.arange(len(batch.document_ids))[:, None] * batch.document_ids.shape[1]
    numbers, documents, lengths = np.unique(keys[batch.real], return_inverse=True, return_counts=True)
    if counted is None:
        return lengths
    return np.bincount(documents[counted[batch.real]], minlength=len(numbers))


def lay_out(
    tokens: np.ndarray, bos: int, filled: np.ndarray, begins: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Documents and positions (B, S) of packed rows (B, S), of which the first `filled` (B,) tokens are not padding.

    A document begins at each BOS, at the row's start, and where `begins` (B, S) bool says that a piece does.
    """
    index = np.arange(tokens.shape[1])
    starts = tokens == bos
    if begins is not None:
        starts |= begins
    starts[:, 0] = True
    document_ids = np.cumsum(starts, axis=1) - 1
    position_ids = index - np.maximum.accumulate(np.where(starts, index, 0), axis=1)
    document_ids[index >= filled[:, None]] = -1
    return document_ids, position_ids


def pack(texts: list[np.ndarray], rows: np.ndarray, bos: int, pad: int, context: int | None = None) -> Batch:
    """One piece of text per row, padded to the longest (or to `context`), with global row numbers `rows`."""
    width = context or max(len(ids) for ids in texts)
    tokens = np.full((len(texts), width), pad, dtype=np.int64)
    for number, ids in enumerate(texts):
        tokens[number, : len(ids)] = ids
    document_ids, position_ids = lay_out(tokens, bos, np.array([len(ids) for ids in texts]))
    return Batch(tokens, document_ids, position_ids, rows, np.zeros(len(rows), dtype=np.int64))


def _check_length(phase: str, context: int, tokens: dict[str, int], named: bool) -> None:
    """Raises ValueError if there is less text than a row in all, or in a source that was named."""
    field, remedy = f"context of phase {phase}", "give more text, or a shorter context"
    name, count = min(tokens.items(), key=lambda item: item[1])
    if count < context and (named or len(tokens) == 1):
        remedy += ", or leave the source out of the mixture" if len(tokens) > 1 else ""
        raise invalid(field, context, f"is longer than the whole source {name!r} ({count} tokens)", remedy)
    if sum(tokens.values()) < context:
        raise invalid(field, context, f"is longer than the whole corpus ({sum(tokens.values())} tokens)", remedy)


class Loader:
    """The training rows of one phase."""

    def __init__(
        self,
        corpus: Corpus,
        context: int,
        batches: BatchSchedule,
        seed: int,
        phase: str,
        mixture: dict[str, float] | None = None,
        packing: str = "stream",
        split: str = "train",
    ) -> None:
        """`mixture` gives weights by source (None: by size in tokens), `packing` is one of rows.PACKINGS.

        Without a mixture, a source that is shorter than a row is read as one row with padding. Raises ValueError for unknown
        sources, for a source of the mixture that is shorter than a row, and for less text than a row in all.
        """
        check_mixture("mixture", mixture, corpus.sources)
        self.sources = (
            [name for name in corpus.sources if corpus.tokens(name, split)] if mixture is None else sorted(mixture)
        )
        if not self.sources:
            raise invalid(f"mixture of phase {phase}", mixture, "leaves nothing to read", "name a source, or use null")
        self.tokens = [corpus.tokens(name, split) for name in self.sources]
        _check_length(phase, context, dict(zip(self.sources, self.tokens, strict=True)), named=mixture is not None)
        self.rows = [packed_rows(corpus, name, split, packing, context) for name in self.sources]
        counts = [rows.count for rows in self.rows]
        weights: list[float] = [*counts]  # of rows; by size, each source is passed over as often as any other
        if mixture is not None:  # its shares are of tokens
            rates = [rows / tokens for rows, tokens in zip(counts, self.tokens, strict=True)]
            weights = [mixture[name] * rate for name, rate in zip(self.sources, rates, strict=True)]
        self.context = context
        self.batches = batches
        self.special = corpus.tokenizer.special
        self.order = Order([corpus.identity(name, split) for name in self.sources], seed, phase, counts, weights)

    @property
    def utilisation(self) -> dict[str, float]:
        """The share of each source's row positions that hold a token."""
        return {
            name: tokens / (rows.count * self.context)
            for name, tokens, rows in zip(self.sources, self.tokens, self.rows, strict=True)
        }

    def repeats(self, global_rows: int) -> dict[str, float]:
        """Passes over each source in the given number of rows of the phase, as counted."""
        return dict(zip(self.sources, self.order.epochs(global_rows), strict=True))

    def repeats_asked(self, global_rows: int) -> dict[str, float]:
        """Passes over each source that the mixture asks for, which counted ones stray from by less than two rows."""
        return dict(zip(self.sources, self.order.epochs_asked(global_rows), strict=True))

    def batch(self, step: int, micro_batch: int = 0, micro_batches: int = 1) -> Batch:
        """Rows of one part of the global batch of a step; parts are contiguous slices of the same global rows."""
        rows = self.batches.rows_of(step)
        assert rows % micro_batches == 0, "parts must divide the batch, or rows would be left out"
        size = rows // micro_batches
        first = self.batches.before(step) + micro_batch * size
        global_rows = np.arange(first, first + size, dtype=np.int64)
        location = self.order.locate(global_rows)
        tokens = np.full((size, self.context), self.special.pad, dtype=np.int64)
        begins = np.zeros((size, self.context), dtype=bool)
        filled = np.zeros(size, dtype=np.int64)
        for number, (source, row) in enumerate(zip(location.source.tolist(), location.row.tolist(), strict=True)):
            place = 0
            for piece in self.rows[source].read(row):
                tokens[number, place : place + len(piece)] = piece
                begins[number, place] = True
                place += len(piece)
            filled[number] = place
        document_ids, position_ids = lay_out(tokens, self.special.bos, filled, begins)
        return Batch(tokens, document_ids, position_ids, global_rows, location.source)
