"""How documents fill rows: the packings. Each gives a source's stream a number of rows and the contents of row r.

stream: a row is `context` consecutive tokens of the stream. Nothing is lost, no padding but in the last row, and row r is
found by multiplication. Documents are cut wherever a row ends.

best_fit: documents are cut at the context into consecutive pieces; of every BLOCK documents in a row, the pieces are put
into rows by best-fit decreasing (Ding et al. 2024, "Fewer Truncations Improve Language Modeling"), the longest first, ties
by place. No document that fits into a row is cut, and nothing is lost; what does not fill a row is padding.

off: a row is one piece, as in the published training.

In the last two a block's first rows are its whole pieces, which fill a row each, and what is left of its documents comes
after. They need to know how many rows each block has: 8 bytes per BLOCK documents, computed once from the places where
documents begin and kept beside the corpus. Row r is then found by bisection, and unless it is a whole piece by laying out
what is left of one block.
"""

import bisect
import errno
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from threading import Lock

import numpy as np

from ettin_core.data.corpus import Corpus
from ettin_core.data.shards import TokenStream
from ettin_core.foundation.errors import unknown
from ettin_core.foundation.folders import folder_under_construction, locked
from ettin_core.foundation.storage import hash_file, write_text

PACKINGS = ("stream", "best_fit", "off")
BLOCK = 256
EDGES, EDGES_HASH = "edges.npy", "edges.sha256"
_KEPT_BLOCKS = 512
_READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM)
_PARSING = Lock()  # two threads of an early CPython 3.11 cannot parse the headers of two .npy at once (gh-106905)

Groups = list[list[int]]  # for each row, the numbers of the documents in it


def one_each(sizes: np.ndarray, context: int) -> Groups:
    """A row for each size that is not 0."""
    return [[number] for number in np.flatnonzero(sizes).tolist()]


def best_fit(sizes: np.ndarray, context: int) -> Groups:
    """Rows for sizes (at most BLOCK, each under `context`) by best-fit decreasing: each goes where it leaves least free."""
    groups: Groups = []
    free: list[int] = []  # tokens left * BLOCK + row, sorted
    by_size = np.argsort(-sizes, kind="stable")
    for number, size in zip(by_size.tolist(), sizes[by_size].tolist(), strict=True):
        if size == 0:
            break
        place = bisect.bisect_left(free, size * BLOCK)
        if place < len(free):
            left, row = divmod(free.pop(place), BLOCK)
            groups[row].append(number)
        else:
            left, row = context, len(groups)
            groups.append([number])
        if left > size:
            bisect.insort(free, (left - size) * BLOCK + row)
    return [sorted(group) for group in groups]


PACKERS: dict[str, Callable[[np.ndarray, int], Groups]] = {"best_fit": best_fit, "off": one_each}


class StreamRows:
    """Rows of the `stream` packing."""

    def __init__(self, stream: TokenStream, context: int) -> None:
        self.stream, self.context = stream, context
        self.count = -(-len(stream) // context)

    def read(self, row: int) -> list[np.ndarray]:
        """The pieces of a row: one, in which documents begin at each BOS."""
        return [self.stream.read(row * self.context, (row + 1) * self.context)]


class BlockRows:
    """Rows of a packing that lays out blocks of documents."""

    def __init__(self, stream: TokenStream, context: int, packing: str, edges: np.ndarray) -> None:
        """`edges` (blocks + 1,) int64: the first row of each block, and the number of rows."""
        self.stream, self.context = stream, context
        self.packer = PACKERS[packing]
        self.edges = edges
        self.block_edges = np.concatenate([[0], np.cumsum([-(-count // BLOCK) for count in stream.counts])])
        self.count = int(edges[-1])
        self._documents = lru_cache(maxsize=_KEPT_BLOCKS)(self._measure)
        self._groups = lru_cache(maxsize=_KEPT_BLOCKS)(self._group)

    def read(self, row: int) -> list[np.ndarray]:
        """The pieces of a row, in the order of the stream."""
        block = int(self.edges.searchsorted(row, side="right")) - 1
        row -= int(self.edges[block])
        ends, left, wholes = self._documents(block)
        if row < wholes[-1]:
            number = int(wholes.searchsorted(row, side="right"))
            begin = int(ends[number] - left[number] - (wholes[number] - row) * self.context)
            return [self.stream.read(begin, begin + self.context)]
        group = self._groups(block)[row - int(wholes[-1])]
        return [self.stream.read(int(ends[number] - left[number]), int(ends[number])) for number in group]

    def _measure(self, block: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of each document of a block: its end, the tokens left after its whole pieces, whole pieces up to its end."""
        shard = int(self.block_edges.searchsorted(block, side="right")) - 1
        first = (block - int(self.block_edges[shard])) * BLOCK
        starts = self.stream.starts(shard, first, first + BLOCK) + self.stream.edges[shard]
        whole, left = np.divmod(np.diff(starts), self.context)
        return starts[1:], left, np.cumsum(whole)

    def _group(self, block: int) -> Groups:
        return self.packer(self._documents(block)[1], self.context)


Rows = StreamRows | BlockRows


def packed_rows(corpus: Corpus, source: str, split: str, packing: str, context: int) -> Rows:
    """The rows of a source under a packing; reads its index, or makes it first where there is none.

    Raises ValueError for an unknown packing.
    """
    if packing not in PACKINGS:
        raise unknown("packing", packing, "is not a packing", PACKINGS)
    stream = corpus.stream(source, split)
    if packing == "stream":
        return StreamRows(stream, context)
    return BlockRows(stream, context, packing, _edges(corpus.folder, stream, f"{source}.{split}", packing, context))


def _edges(corpus: Path, stream: TokenStream, name: str, packing: str, context: int) -> np.ndarray:
    folder = corpus / "rows" / f"{name}.{packing}-{context}.{BLOCK}"
    try:
        if not _is_whole(folder):
            with locked(corpus / "rows" / ".locks" / folder.name, wait=True):
                if not _is_whole(folder):
                    with folder_under_construction(folder) as building:
                        np.save(building / EDGES, count_rows(stream, packing, context))
                        write_text(building / EDGES_HASH, hash_file(building / EDGES))
    except OSError as error:
        if error.errno not in _READ_ONLY:
            raise
        return count_rows(stream, packing, context)  # shared storage may be read-only
    with _PARSING:
        return np.load(folder / EDGES, mmap_mode="r").view(np.ndarray)


def _is_whole(folder: Path) -> bool:
    """Whether an index is there, and as it was written."""
    if not (folder / EDGES_HASH).is_file():
        return False
    return hash_file(folder / EDGES) == (folder / EDGES_HASH).read_text()


def count_rows(stream: TokenStream, packing: str, context: int) -> np.ndarray:
    """The first row of each block of documents, and the number of rows, (blocks + 1,) int64."""
    edges = [0]
    for shard in range(len(stream.files)):
        whole, left = np.divmod(np.diff(stream.starts(shard)), context)
        for begin in range(0, len(whole), BLOCK):
            block = slice(begin, begin + BLOCK)
            edges.append(edges[-1] + int(whole[block].sum()) + len(PACKERS[packing](left[block], context)))
    return np.array(edges, dtype=np.int64)
