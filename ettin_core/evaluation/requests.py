"""What a protocol asks of a model, and what it needs of a tokenizer. Imports without torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ettin_core.data.tokenizer import SpecialTokens


class TokenizerLike(Protocol):
    """What a protocol needs of a tokenizer: ours (data/tokenizer.py) or any fast one of Hugging Face (pretrained.py)."""

    special: SpecialTokens
    vocab_size: int
    ids: np.ndarray
    hash: str

    def encode(self, texts: list[str]) -> list[list[int]]:
        """Token ids of each text, without special tokens."""

    def encode_with_ends(self, text: str) -> tuple[list[int], list[int]]:
        """Token ids of a text and, for each token, the number of characters up to and including it."""

    def decode(self, ids: Sequence[int]) -> str:
        """The text of token ids."""


@dataclass(frozen=True)
class ScoringRequest:
    """A row of ids (BOS first) and the log-probabilities wanted from it: of `targets` at output positions `reads`."""

    ids: tuple[int, ...]
    reads: tuple[int, ...]
    targets: tuple[int, ...]
