"""What a protocol asks of a model, in what batches, and what it needs of a tokenizer. Imports without torch."""

from collections.abc import Callable, Iterable, Sequence, Sized
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
from tokenizers import Tokenizer as BackendTokenizer

from ettin_core.data.tokenizer import SpecialTokens
from ettin_core.evaluation.layouts import Layout, Row, alone


class TokenizerLike(Protocol):
    """What a protocol needs of a tokenizer: ours (data/tokenizer.py) or any fast one of Hugging Face (pretrained.py)."""

    special: SpecialTokens
    vocab_size: int
    ids: np.ndarray
    hash: str
    backend: BackendTokenizer

    def encode(self, texts: list[str]) -> list[list[int]]:
        """Token ids of each text, without special tokens."""

    def encode_with_ends(self, text: str) -> tuple[list[int], list[int]]:
        """Token ids of a text and, for each token, the number of characters up to and including it."""

    def decode(self, ids: Iterable[int], show_special: bool = False) -> str:
        """The text of token ids, with that of special tokens where they are to be shown."""


@dataclass(frozen=True)
class ScoringRequest:
    """A row of ids (BOS first) and the log-probabilities wanted from it: of `targets` at output positions `reads`."""

    ids: tuple[int, ...]
    reads: tuple[int, ...]
    targets: tuple[int, ...]


AnyRow = TypeVar("AnyRow", bound=Sized)


@dataclass(frozen=True)
class ScoringBatch:
    """Rows that are computed together, and the targets that are scored in them.

    `requests` (Q,) are the numbers of the requests that the rows answer. `scored_at` (N, 2) int64 is the line of the batch
    and the output position of each target, request by request, and `targets` (N,) int64 its id.
    """

    layouts: tuple[Layout, ...]
    requests: tuple[int, ...]
    lengths: tuple[int, ...]
    scored_at: np.ndarray
    targets: np.ndarray

    @property
    def rows(self) -> int:
        """The rows, each of which is asked by itself or shares its beginning."""
        return sum(len(layout.rows) for layout in self.layouts)

    def by_request(self, values: np.ndarray) -> list[np.ndarray]:
        """A value of each target (N,) as one array for each request."""
        return np.split(values, np.cumsum(self.lengths)[:-1])


def scoring_batches(
    requests: Sequence[ScoringRequest],
    tokens: int,
    most: int | None = None,
    lay_out: Callable[[Sequence[Row]], list[Layout]] = alone,
) -> list[ScoringBatch]:
    """The requests in batches, as `row_batches` makes them; requests of equal rows share one row."""
    askers: dict[Row, list[int]] = {}
    for number, request in enumerate(requests):
        askers.setdefault(request.ids, []).append(number)
    layouts = lay_out(list(askers))
    batches = [
        batch
        for shares in (False, True)  # those that share need masks, which the others do without
        for batch in row_batches([layout for layout in layouts if (len(layout.rows) > 1) == shares], tokens, most)
    ]
    return [_scoring_batch(batch, askers, requests) for batch in batches]


def _scoring_batch(
    layouts: list[Layout], askers: dict[Row, list[int]], requests: Sequence[ScoringRequest]
) -> ScoringBatch:
    numbers: list[int] = []
    scored_at: list[tuple[int, int]] = []
    for line, layout in enumerate(layouts):
        for place, row in enumerate(layout.rows):
            for number in askers[row]:
                numbers.append(number)
                scored_at += [(line, read) for read in layout.places(place, requests[number].reads)]
    return ScoringBatch(
        tuple(layouts),
        tuple(numbers),
        tuple(len(requests[number].reads) for number in numbers),
        np.array(scored_at, dtype=np.int64).reshape(-1, 2),
        np.array([target for number in numbers for target in requests[number].targets], dtype=np.int64),
    )


def row_batches(rows: Sequence[AnyRow], tokens: int, most: int | None = None) -> list[list[AnyRow]]:
    """Rows in batches, the shortest first: each within `tokens`, padding included, and of at most `most` rows (None: any).

    A row that is longer than `tokens` is a batch of one.
    """
    batches: list[list[AnyRow]] = []
    for row in sorted(rows, key=len):
        size = len(batches[-1]) + 1 if batches else 0
        if batches and size * len(row) <= tokens and size <= (most or size):
            batches[-1].append(row)
        else:
            batches.append([row])
    return batches
