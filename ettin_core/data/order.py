"""Which row comes when: a pure function of (corpus fingerprint, seed, phase, global row), in O(1) memory.

Rows of a source come in a keyed permutation; when they are used up a new epoch begins with another one. Sources are mixed
in blocks of PERIOD rows that hold each source's exact share. Within a block a source's rows are spread evenly, each at a
random place in its own share of the block, so that any stretch of rows has nearly the shares of the mixture.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ettin_core.foundation.randomness import derive, permute, uniform

PERIOD = 10_000
_KEPT_BLOCKS = 8


@dataclass(frozen=True)
class Location:
    """Where each global row lies: arrays of source number, epoch and row within the source."""

    source: np.ndarray
    epoch: np.ndarray
    row: np.ndarray


class Order:
    """The order of rows of one phase."""

    def __init__(self, fingerprint: str, seed: int, phase: str, rows: list[int], weights: list[float]) -> None:
        """`rows` and `weights` are per source."""
        self.rows = rows
        self.keys = (fingerprint, phase)
        self.seed = seed
        self.quotas = _quotas(weights)
        self._block = lru_cache(maxsize=_KEPT_BLOCKS)(self._mix)

    def locate(self, global_rows: np.ndarray) -> Location:
        """Locations of the given global rows (any order, any number)."""
        blocks, slots = np.divmod(global_rows, PERIOD)
        source = np.empty(len(global_rows), dtype=np.int64)
        drawn = np.empty(len(global_rows), dtype=np.int64)
        for block in np.unique(blocks):
            here = blocks == block
            sources, turns = self._block(int(block))
            source[here] = sources[slots[here]]
            drawn[here] = block * self.quotas[source[here]] + turns[slots[here]]
        size = np.array(self.rows)[source]
        epoch, place = np.divmod(drawn, size)
        row = np.empty_like(place)
        for number, cycle in {*zip(source.tolist(), epoch.tolist(), strict=True)}:
            here = (source == number) & (epoch == cycle)
            key = derive(self.seed, "order", *self.keys, number, cycle)
            row[here] = permute(place[here], self.rows[number], key)
        return Location(source, epoch, row)

    def _mix(self, block: int) -> tuple[np.ndarray, np.ndarray]:
        """The source of each slot of a block, and how many rows of that source come before it."""
        sources = np.repeat(np.arange(len(self.quotas)), self.quotas)
        turns = np.concatenate([np.arange(quota) for quota in self.quotas.tolist()])
        jitter = uniform(derive(self.seed, "mixture", *self.keys, block), np.arange(PERIOD))
        order = np.argsort((turns + jitter) / self.quotas[sources], kind="stable")
        return sources[order], turns[order]

    def epochs(self, global_rows: int) -> list[float]:
        """Passes over each source after the given number of rows."""
        return [
            global_rows * quota / PERIOD / rows for quota, rows in zip(self.quotas.tolist(), self.rows, strict=True)
        ]


def _quotas(weights: list[float]) -> np.ndarray:
    """Rows of each source in a block of PERIOD, by largest remainder; every source gets at least one."""
    shares = np.array(weights, dtype=np.float64)
    shares = shares / shares.sum() * PERIOD
    quotas = np.maximum(1, np.floor(shares)).astype(np.int64)
    while quotas.sum() != PERIOD:
        step = 1 if quotas.sum() < PERIOD else -1
        movable = (quotas > 1) | (step > 0)
        quotas[np.argmax(np.where(movable, step * (shares - quotas), -np.inf))] += step
    return quotas
