"""Which row comes when: a pure function of (corpus fingerprint, seed, phase, global row), in O(1) memory.

A row is `context` consecutive tokens of a source's stream, so every token is in exactly one row and nothing is lost. Rows of
a source come in a keyed permutation; when they are used up a new epoch begins with another one. Sources are mixed in
blocks of PERIOD rows that hold each source's exact share, so row g of the mixture is found by counting in one block.
"""

from dataclasses import dataclass

import numpy as np

from ettin_core.foundation.randomness import derive, permute

PERIOD = 1000


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
        self.edges = np.concatenate([[0], np.cumsum(self.quotas)])

    def locate(self, global_rows: np.ndarray) -> Location:
        """Locations of the given global rows (any order, any number)."""
        blocks, slots = np.divmod(global_rows, PERIOD)
        source = np.empty(len(global_rows), dtype=np.int64)
        drawn = np.empty(len(global_rows), dtype=np.int64)
        for block in np.unique(blocks):
            here = blocks == block
            shuffled = permute(np.arange(PERIOD), PERIOD, derive(self.seed, "mixture", *self.keys, int(block)))
            sources = np.searchsorted(self.edges, shuffled, side="right") - 1
            turns = np.empty(PERIOD, dtype=np.int64)  # how many rows of its source come before it in the block
            turns[np.argsort(sources, kind="stable")] = np.arange(PERIOD) - np.repeat(self.edges[:-1], self.quotas)
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
