"""What the quality rules measure of a text; each quantity is worked out once, and only when a rule asks for it."""

import re
from functools import cached_property
from typing import NamedTuple

import numpy as np

PARAGRAPH_BREAK = re.compile(r"\n\s*\n")


class Duplicates(NamedTuple):
    """How much of a list is repetition: the second and later copies, as a share of the items and of the characters."""

    items: float
    characters: float


class Grams(NamedTuple):
    """The n-grams of words that occur more than once: where each occurrence begins, and which n-gram it is."""

    positions: np.ndarray
    codes: np.ndarray


class Features:
    """The measurable sides of a text.

    Words are separated by white space. Lines, and paragraphs (separated by empty lines), are taken without the white space at
    their ends; empty ones are left out. Shares of characters do not count white space between words.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self._grams: dict[int, Grams] = {}

    @cached_property
    def words(self) -> list[str]:
        """The words in order."""
        return self.text.split()

    @cached_property
    def lower(self) -> str:
        """The text in lower case."""
        return self.text.lower()

    @cached_property
    def lines(self) -> list[str]:
        """The lines that are not empty."""
        return [line for raw in self.text.split("\n") if (line := raw.strip())]

    @cached_property
    def paragraphs(self) -> list[str]:
        """The paragraphs that are not empty."""
        return [part for raw in PARAGRAPH_BREAK.split(self.text) if (part := raw.strip())]

    @cached_property
    def mean_word_length(self) -> float:
        """Characters per word (0 without words)."""
        return share(int(self._lengths.sum()), len(self.words))

    @cached_property
    def duplicate_lines(self) -> Duplicates:
        """Repeated lines."""
        return _duplicates(self.lines)

    @cached_property
    def duplicate_paragraphs(self) -> Duplicates:
        """Repeated paragraphs."""
        return _duplicates(self.paragraphs)

    def top_gram_share(self, n: int) -> float:
        """Characters in the most frequent n-gram, as a share of all (0 where no n-gram occurs twice).

        Of equally frequent n-grams the longest counts.
        """
        positions, codes = self._repeated(n)
        if not len(codes):
            return 0.0
        counts = np.bincount(codes)
        frequent = positions[counts[codes] == counts.max()]
        return share(int(counts.max() * self._gram_lengths(frequent, n).max()), int(self._lengths.sum()))

    def repeated_gram_share(self, n: int) -> float:
        """Characters in the second and later occurrences of n-grams, as a share of all; overlaps count once."""
        positions, codes = self._repeated(n)
        if not len(codes):
            return 0.0
        first = np.zeros(int(codes.max()) + 1, dtype=np.int64)
        first[codes[::-1]] = positions[::-1]  # the last assignment to a place stays, so the first position does
        later = positions[positions != first[codes]]
        edges = np.zeros(len(self.words) + 1, dtype=np.int64)
        edges[later] += 1
        edges[later + n] -= 1
        covered = np.cumsum(edges[:-1]) > 0
        return share(int(self._lengths[covered].sum()), int(self._lengths.sum()))

    @cached_property
    def _lengths(self) -> np.ndarray:
        return np.fromiter(map(len, self.words), dtype=np.int64, count=len(self.words))

    @cached_property
    def _ends(self) -> np.ndarray:
        return np.concatenate([[0], np.cumsum(self._lengths)])

    def _gram_lengths(self, positions: np.ndarray, n: int) -> np.ndarray:
        return self._ends[positions + n] - self._ends[positions]

    @cached_property
    def _numbers(self) -> np.ndarray:
        numbers: dict[str, int] = {}
        return np.array([numbers.setdefault(word, len(numbers)) for word in self.words], dtype=np.int64)

    def _repeated(self, n: int) -> Grams:
        """An n-gram can only occur twice where its first n - 1 words do, so little is left to look at as n grows."""
        if n not in self._grams:
            if n == 1:
                self._grams[n] = _more_than_once(np.arange(len(self._numbers)), self._numbers)
            else:
                shorter = self._repeated(n - 1)
                inside = shorter.positions + n <= len(self._numbers)
                positions = shorter.positions[inside]
                keys = shorter.codes[inside] * len(self._numbers) + self._numbers[positions + n - 1]
                self._grams[n] = _more_than_once(positions, keys)
        return self._grams[n]


def share(part: float, whole: float) -> float:
    """The part of the whole; nothing of nothing is none."""
    return part / whole if whole else 0.0


def _more_than_once(positions: np.ndarray, keys: np.ndarray) -> Grams:
    _, codes, counts = np.unique(keys, return_inverse=True, return_counts=True)
    repeated = counts[codes] > 1
    return Grams(positions[repeated], codes[repeated])


def _duplicates(items: list[str]) -> Duplicates:
    unique = set(items)
    characters = sum(map(len, items))
    repeated = characters - sum(map(len, unique))
    return Duplicates(share(len(items) - len(unique), len(items)), share(repeated, characters))
