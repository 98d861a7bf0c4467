"""Documents read back: what the stored ids spell, beside the text that the documents were made from.

Hashes prove that tokens are those that were written. This proves that they are those of the text: ids that wrapped when they
were stored, a decoder that does not fit, a document under another's place.
"""

import itertools
from collections import Counter
from dataclasses import dataclass

import numpy as np

from ettin_core.data.corpus import Corpus
from ettin_core.data.documents import SPLITS, Document, Source
from ettin_core.data.preparation.partitions import RemovalCounts, documents, partition
from ettin_core.data.preparation.plan import Plan
from ettin_core.data.tokenizer import Tokenizer
from ettin_core.foundation.errors import UserError, invalid

DOCUMENTS = 1000  # of each source and split


@dataclass(frozen=True)
class ReadBack:
    """Of the documents compared, how many spell their text letter for letter; the others do as the tokenizer normalises it."""

    compared: int
    exact: int


class _Stored:
    """The next stored document of a split, without its marks (None: all that are to be compared were)."""

    def __init__(self, corpus: Corpus, source: str, split: str, limit: int) -> None:
        self._rest = itertools.islice(corpus.whole_documents(source, split), limit)
        self.advance()

    def advance(self) -> None:
        ids = next(self._rest, None)
        self.ids = None if ids is None else ids[1:-1]


def read_back(plan: Plan, corpus: Corpus, limit: int = DOCUMENTS) -> ReadBack:
    """Compare the first `limit` documents of each source and split with the input they were prepared from.

    Raises ValueError for a stored document that is not the next of the input that was kept.
    """
    counts: Counter[str] = Counter()
    for source in plan.sources:
        counts += _read_source(source, corpus, limit)
    return ReadBack(counts.total(), counts["exact"])


def _read_source(source: Source, corpus: Corpus, limit: int) -> Counter[str]:
    counts: Counter[str] = Counter()
    stored = {split: _Stored(corpus, source.name, split, limit) for split in SPLITS}
    may_skip = sum(corpus.manifest["reading"][source.name]["skipped"].values())  # duplicates, and what had no ids
    for part in partition(source):
        if all(stored[split].ids is None for split in ([part.split] if part.split else SPLITS)):
            continue
        for split, document in documents(part, source.config, RemovalCounts()):
            ids = stored[split].ids
            if ids is None:
                continue
            if verdict := _compare(document, ids, corpus.tokenizer):
                counts[verdict] += 1
                stored[split].advance()
                if all(item.ids is None for item in stored.values()):
                    return counts
            elif may_skip:
                may_skip -= 1
            else:
                raise _mismatch(corpus, source.name, f"document {document.id!r} is {document.text[:60]!r}", ids)
    for item in stored.values():
        if item.ids is not None:
            raise _mismatch(corpus, source.name, "the input has no more documents", item.ids)
    return counts


def _compare(document: Document, ids: np.ndarray, tokenizer: Tokenizer) -> str | None:
    """How stored ids (without marks) agree with their document: "exact", "normalised", or not at all (None)."""
    if document.tokens is not None:
        marks = (tokenizer.special.bos, tokenizer.special.eos)
        given = document.tokens.astype(np.int64)
        given = given[int(given[0] == marks[0]) :]
        given = given[: len(given) - int(len(given) > 0 and given[-1] == marks[1])]
        return "exact" if np.array_equal(given, ids) else None
    if tokenizer.decode(ids.tolist()) == document.text:
        return "exact"
    return "normalised" if np.array_equal(tokenizer.encode_arrays([document.text])[0], ids) else None


def _mismatch(corpus: Corpus, source: str, detail: str, ids: np.ndarray) -> UserError:
    problem = f"does not hold the text of source {source!r}: {detail}, stored is {corpus.tokenizer.decode(ids.tolist())[:60]!r}"
    return invalid("corpus", str(corpus.folder), problem, "delete the corpus folder and prepare again")
