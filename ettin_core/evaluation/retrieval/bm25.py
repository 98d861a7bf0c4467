"""BM25 (Robertson and Zaragoza 2009) with Lucene's inverse document frequency: the baseline beside every retrieval score."""

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
from scipy.sparse import csr_matrix

WORD = re.compile(r"\w+")
QUERIES_AT_ONCE = 256
Ranking = dict[str, dict[str, float]]  # score by document, by query


class BM25:
    """An index of documents."""

    def __init__(self, names: Sequence[str], texts: Sequence[str], k1: float = 1.2, b: float = 0.75) -> None:
        self._names = list(names)
        self._words: dict[str, int] = {}
        counts = [Counter(self._ids(text, grow=True)) for text in texts]
        rows = np.repeat(np.arange(len(counts)), [len(count) for count in counts])
        words = np.array([word for count in counts for word in count], dtype=int)
        frequency = np.array([value for count in counts for value in count.values()], dtype=float)
        length = np.array([sum(count.values()) for count in counts], dtype=float)
        containing = np.bincount(words, minlength=len(self._words))
        rarity = np.log1p((len(counts) - containing + 0.5) / (containing + 0.5))
        norm = k1 * (1 - b + b * length / max(length.mean(), 1e-9)) if len(counts) else length
        weights = rarity[words] * frequency / (frequency + norm[rows])
        self._weights = csr_matrix((weights, (rows, words)), shape=(len(counts), max(1, len(self._words))))

    @property
    def index_bytes(self) -> int:
        """Bytes of the postings: a float32 weight and an int32 document each."""
        return 8 * self._weights.nnz

    def rank(self, names: Sequence[str], queries: Sequence[str], top: int) -> Ranking:
        """The `top` documents with the highest scores of each query; documents without a word of it are left out."""
        ranking: Ranking = {}
        for start in range(0, len(queries), QUERIES_AT_ONCE):
            block = [self._ids(text) for text in queries[start : start + QUERIES_AT_ONCE]]
            rows = np.repeat(np.arange(len(block)), [len(ids) for ids in block])
            words = np.array([word for ids in block for word in ids], dtype=int)
            asked = csr_matrix((np.ones(len(words)), (rows, words)), shape=(len(block), self._weights.shape[1]))
            for name, scores in zip(
                names[start : start + QUERIES_AT_ONCE], (asked @ self._weights.T).toarray(), strict=True
            ):
                best = np.argsort(-scores, kind="stable")[:top]
                ranking[name] = {self._names[place]: float(scores[place]) for place in best if scores[place] > 0}
        return ranking

    def _ids(self, text: str, grow: bool = False) -> list[int]:
        words = WORD.findall(text.lower())
        if grow:
            return [self._words.setdefault(word, len(self._words)) for word in words]
        return [self._words[word] for word in words if word in self._words]
