"""Which row comes when: a pure function of (the sources' content, seed, phase, global row), in O(1) memory.

Rows of a source come in a keyed permutation; when they are used up a new epoch begins with another one. Its key is the
source's own name and content, so that a run without some other source reads the rows of this one in the same order.

Sources are mixed in blocks of PERIOD rows. A block's quotas are differences of cumulative ones (quotas.py): a source of
less than a row in a block comes in some blocks only, and its share is exact in the long run. Within a block a source's
rows are spread evenly, each at a random place in its share of the block. So any stretch of rows has nearly the shares of the
mixture.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ettin_core.data.quotas import Quotas
from ettin_core.foundation.randomness import derive, permute, uniform

PERIOD = 10_000
_KEPT_BLOCKS = 8


@dataclass(frozen=True)
class Location:
    """The location of each global row: arrays of source number, epoch and row within the source."""

    source: np.ndarray
    epoch: np.ndarray
    row: np.ndarray


class Order:
    """The order of rows of one phase."""

    def __init__(self, names: list[str], seed: int, phase: str, rows: list[int], weights: list[float]) -> None:
        """Per source: `names`, which its order is keyed by, the number of its `rows`, and `weights` in rows."""
        self.rows = rows
        self._seed, self._phase, self._names = seed, phase, names
        self._places = np.array([derive(seed, "mixture", phase, name) for name in names], dtype=np.uint64)
        self._quotas = Quotas(weights, names)
        self._block = lru_cache(maxsize=_KEPT_BLOCKS)(self._mix)

    def locate(self, global_rows: np.ndarray) -> Location:
        """Locations of the given global rows (any order, any number)."""
        blocks, slots = np.divmod(global_rows, PERIOD)
        source = np.empty(len(global_rows), dtype=np.int64)
        drawn = np.empty(len(global_rows), dtype=np.int64)
        for block in np.unique(blocks):
            here = blocks == block
            sources, turns = self._block(int(block))
            source[here], drawn[here] = sources[slots[here]], turns[slots[here]]
        epoch, place = np.divmod(drawn, np.array(self.rows)[source])
        row = np.empty_like(place)
        for here in _groups(source, epoch):
            number, cycle = int(source[here[0]]), int(epoch[here[0]])
            key = derive(self._seed, "order", self._phase, self._names[number], cycle)
            row[here] = permute(place[here], self.rows[number], key)
        return Location(source, epoch, row)

    def counts(self, global_rows: int) -> np.ndarray:
        """How many of the first `global_rows` rows are of each source, (sources,) int64: counted, not estimated."""
        block, rest = divmod(global_rows, PERIOD)
        counts = self._quotas.before(block * PERIOD)
        return counts + np.bincount(self._block(block)[0][:rest], minlength=len(counts)) if rest else counts

    def epochs(self, global_rows: int) -> list[float]:
        """Passes over each source after the given number of rows."""
        return [count / rows for count, rows in zip(self.counts(global_rows).tolist(), self.rows, strict=True)]

    def epochs_asked(self, global_rows: int) -> list[float]:
        """Passes over each source after the given number of rows, if rows could be divided."""
        shares = self._quotas.shares
        return [global_rows * share / rows for share, rows in zip(shares, self.rows, strict=True)]

    def _mix(self, block: int) -> tuple[np.ndarray, np.ndarray]:
        """The source of each slot of a block, and how many rows of that source come before it in the phase."""
        before, after = (self._quotas.before(rows) for rows in (block * PERIOD, (block + 1) * PERIOD))
        quotas = after - before
        sources = np.repeat(np.arange(len(quotas)), quotas)
        turns = np.arange(PERIOD) - np.repeat(np.cumsum(quotas) - quotas, quotas)
        drawn = before[sources] + turns
        offsets = (turns + uniform(self._places[sources], drawn)) / quotas[sources]
        order = np.argsort(offsets, kind="stable")
        return sources[order], drawn[order]


def _groups(source: np.ndarray, epoch: np.ndarray) -> list[np.ndarray]:
    """The places of rows of the same source and epoch, group by group."""
    order = np.lexsort((epoch, source))
    edges = np.flatnonzero((np.diff(source[order]) != 0) | (np.diff(epoch[order]) != 0)) + 1
    return np.split(order, edges) if len(order) else []
