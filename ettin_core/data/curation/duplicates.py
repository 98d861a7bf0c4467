"""Exact and near duplicates among the documents of a source: a small signature of each document, then who shares a key.

Near duplicates as in FineWeb (Penedo et al. 2024, section 3.4): MinHash of word 5-grams in bands. Documents that agree in
all rows of a band belong together, and so does, in turn, who belongs with one of them; pairs are not compared further.
Two documents of similarity s share a band with probability 1 - (1 - s^rows)^bands.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from ettin_core.data.curation.config import CurationConfig
from ettin_core.data.held_out import COPY, NEAR_COPY, text_key
from ettin_core.foundation.errors import UserError, with_extra

EXACT, NEAR = "exact_duplicate", "near_duplicate"
SHINGLE = 5
SEED = 1
FEWEST_PERMUTATIONS, MOST_PERMUTATIONS = 112, 128
PUBLISHED = (0.75, 14, 8)
MAX_ENTRIES = 4_000_000
SHINGLES_AT_ONCE = 1 << 13
WORD = re.compile(r"\w+")
MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
SHIFT = np.uint64(32)


class Bands(NamedTuple):
    """How the MinHash values are divided: `bands` groups of `rows` values."""

    bands: int
    rows: int

    def probability(self, similarity: float) -> float:
        """The probability that two documents of this Jaccard similarity share a band."""
        return 1.0 - (1.0 - similarity**self.rows) ** self.bands


@lru_cache(maxsize=64)
def choose_bands(similarity: float) -> Bands:
    """The division of 112 to 128 values that treats this similarity most nearly as FineWeb's 14 x 8 treats 0.75.

    FineWeb finds 77 % of the pairs at its threshold. datasketch's own choice weighs misses and false finds equally and
    finds 38 % of them.
    """
    aim = Bands(*PUBLISHED[1:]).probability(PUBLISHED[0])
    divisions = [
        Bands(bands, rows)
        for rows in range(1, MOST_PERMUTATIONS + 1)
        for bands in range(1, MOST_PERMUTATIONS // rows + 1)
        if bands * rows >= FEWEST_PERMUTATIONS
    ]
    return min(divisions, key=lambda division: (abs(division.probability(similarity) - aim), division))


def signature_width(config: CurationConfig) -> int:
    """How many keys a document has: one for exact duplicates, and one per band for near duplicates."""
    near = choose_bands(config.near_duplicates).bands if config.near_duplicates is not None else 0
    return int(config.exact_duplicates) + near


def signature(text: str, config: CurationConfig) -> np.ndarray:
    """The keys of a document, (signature_width,) uint64; documents that share the key of a column are duplicates.

    Exact: a hash of the text but for case and white space. Near: MinHash of the 5-grams of its words (letters, digits
    and underscores, in lower case); fewer than 5 words are one shingle, and a text without words is its own shingle.
    Raises ValueError when near duplicates are wanted and datasketch is not installed.
    """
    normal = " ".join(text.lower().split())
    keys = [text_key(text)] if config.exact_duplicates else []
    if config.near_duplicates is not None:
        keys += _band_keys(_shingles(normal), choose_bands(config.near_duplicates))
    return np.array(keys, dtype=np.uint64)


def _hash(content: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")


@lru_cache(maxsize=1 << 16)
def _word_hash(word: str) -> int:
    return _hash(word.encode("utf-8", "surrogatepass"))


def _shingles(normal: str) -> np.ndarray:
    words = WORD.findall(normal) or [normal]
    hashes = np.array([_word_hash(word) for word in words], dtype=np.uint64)
    size = min(SHINGLE, len(words))
    mixed = np.full(len(words) - size + 1, size, dtype=np.uint64)
    for place in range(size):
        mixed = (mixed ^ hashes[place : place + len(mixed)]) * MULTIPLIER
        mixed ^= mixed >> SHIFT
    return np.unique(mixed)


@lru_cache(maxsize=8)
def _empty_minhash(permutations: int) -> Any:
    try:
        from datasketch import MinHash
    except ImportError as error:
        raise UserError(
            "data.curation.near_duplicates needs datasketch, which is not installed; "
            f"{with_extra('curation')}, or set data.curation.near_duplicates=null."
        ) from error
    return MinHash(num_perm=permutations, seed=SEED, hashfunc=int, scheme="affine64")


def _band_keys(shingles: np.ndarray, division: Bands) -> list[int]:
    minhash = _empty_minhash(division.bands * division.rows).copy()
    for begin in range(0, len(shingles), SHINGLES_AT_ONCE):  # a table of shingles by permutations is held at once
        minhash.update_batch(shingles[begin : begin + SHINGLES_AT_ONCE].tolist())
    values = minhash.digest().astype("<u8").reshape(division.bands, division.rows)
    return [_hash(band.to_bytes(2, "little") + row.tobytes()) for band, row in enumerate(values)]


def find_duplicates(
    signatures: Sequence[np.ndarray], config: CurationConfig, held_out: int = 0
) -> list[dict[int, str]]:
    """The documents to leave out: everything but the first of each group of duplicates.

    Args:
        signatures: a (documents, width) array of uint64 per part, in the order of the source.
        config: what the signatures were made with.
        held_out: how many of the parts, at the beginning, are of held-out documents.

    Returns:
        For each part {document number: "exact_duplicate" | "near_duplicate"}: exact where an earlier document is equal.
        What belongs with a held-out document is a "held_out_copy" or "held_out_near_copy". How the documents are divided
        into parts makes no difference.
    """
    starts = np.concatenate([[0], np.cumsum([len(part) for part in signatures], dtype=np.int64)])
    groups = _Groups()
    exact: dict[int, int] = {}
    edge = int(starts[held_out])
    for column in range(signature_width(config)):
        for first, later in _pairs(signatures, starts, column):
            groups.join(first, later)
            if column == 0 and config.exact_duplicates:
                exact[later] = first
    duplicates: list[dict[int, str]] = [{} for _ in signatures]
    for document in sorted(groups.others()):
        part = int(np.searchsorted(starts, document, side="right")) - 1
        if document in exact:
            reason = COPY if exact[document] < edge else EXACT
        else:
            reason = NEAR_COPY if groups.first(document) < edge else NEAR
        duplicates[part][document - int(starts[part])] = reason
    return duplicates


class _Groups:
    """Union-find over the documents that have a duplicate; the first document of a group represents it."""

    def __init__(self) -> None:
        self._towards: dict[int, int] = {}

    def join(self, left: int, right: int) -> None:
        first, second = sorted((self.first(left), self.first(right)))
        if first != second:
            self._towards[second] = first

    def others(self) -> Iterable[int]:
        return self._towards.keys()

    def first(self, document: int) -> int:
        """The first document of a document's group."""
        top = document
        while top in self._towards:
            top = self._towards[top]
        while document != top:  # the next search is short
            self._towards[document], document = top, self._towards[document]
        return top


def _pairs(signatures: Sequence[np.ndarray], starts: np.ndarray, column: int) -> Iterator[tuple[int, int]]:
    """(first document, later document) for each document with a key that an earlier one has in this column.

    Half of the entries allowed are for keys seen, half for keys waiting, and a partition is small enough for its keys.
    """
    half = max(MAX_ENTRIES // 2, 1)
    partitions = -(-int(starts[-1]) // half)
    for partition in range(partitions):
        seen = (np.empty(0, np.uint64), np.empty(0, np.int64))
        waiting: list[tuple[np.ndarray, np.ndarray]] = []
        held = 0
        for keys, documents in _entries(signatures, starts, column, partition, partitions, half):
            if held + len(keys) > half:
                seen, pairs = _merge(seen, waiting)
                yield from pairs
                waiting, held = [], 0
            waiting.append((keys, documents))
            held += len(keys)
        yield from _merge(seen, waiting)[1]


def _entries(
    signatures: Sequence[np.ndarray], starts: np.ndarray, column: int, partition: int, partitions: int, most: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Keys of one partition and their documents, from at most `most` documents at a time."""
    for start, part in zip(starts, signatures, strict=False):
        for begin in range(0, len(part), most):
            keys = np.array(part[begin : begin + most, column])
            rows = np.flatnonzero(keys % np.uint64(partitions) == partition)
            yield keys[rows], rows + (int(start) + begin)


def _merge(
    seen: tuple[np.ndarray, np.ndarray], waiting: list[tuple[np.ndarray, np.ndarray]]
) -> tuple[tuple[np.ndarray, np.ndarray], Iterator[tuple[int, int]]]:
    """The first document of every key, and the pairs of it with each later document."""
    keys, documents = (np.concatenate(columns) for columns in zip(seen, *waiting, strict=True))
    order = np.argsort(keys, kind="stable")  # stable: the first document of a key stays first
    keys, documents = keys[order], documents[order]
    new = np.ones(len(keys), dtype=bool)
    new[1:] = keys[1:] != keys[:-1]
    firsts = documents[new][np.cumsum(new) - 1]
    pairs = zip(firsts[~new].tolist(), documents[~new].tolist(), strict=True)
    return (keys[new], documents[new]), pairs
