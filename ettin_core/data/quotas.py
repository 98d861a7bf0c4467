"""How many of the first n rows belong to each source: whole numbers that follow the weights, found at once for any n.

The sources are the leaves of a binary tree (Huffman's, by weight). A node's rows are divided between its two branches by
largest remainder, which for two is rounding to the nearest. So the counts of all sources add up to n, no count falls as n
grows, and none strays from its share: by less than 2 rows (1 was never exceeded in tests), however large n is. Largest
remainder among all sources at once would not do: as n grows it can take a row back (the Alabama paradox).
"""

import heapq
from fractions import Fraction

import numpy as np


class Quotas:
    """Shares of rows by source, in exact arithmetic."""

    def __init__(self, weights: list[float], names: list[str]) -> None:
        """Weights are positive and finite; `names` break ties, so that the counts do not depend on the sources' order."""
        exact = [Fraction(weight) for weight in weights]
        unit = max(weight.denominator for weight in exact)  # denominators of floats are powers of two
        heap = [
            (int(weight * unit), name, number) for number, (weight, name) in enumerate(zip(exact, names, strict=True))
        ]
        heapq.heapify(heap)
        self._sources = len(weights)
        total = sum(exact)
        self.shares = [float(weight / total) for weight in exact]
        self._nodes: list[tuple[int, int, int, int]] = []  # branches, weight of the first, weight of both
        while len(heap) > 1:
            (left_weight, name, left), (right_weight, _, right) = heapq.heappop(heap), heapq.heappop(heap)
            heapq.heappush(heap, (left_weight + right_weight, name, self._sources + len(self._nodes)))
            self._nodes.append((left, right, left_weight, left_weight + right_weight))

    def before(self, rows: int) -> np.ndarray:
        """How many of the first `rows` rows belong to each source, (sources,) int64."""
        counts = [0] * (self._sources + len(self._nodes))
        counts[-1] = rows
        for number in reversed(range(len(self._nodes))):
            left, right, left_weight, both = self._nodes[number]
            whole = counts[self._sources + number]
            counts[left] = (2 * whole * left_weight + both) // (2 * both)
            counts[right] = whole - counts[left]
        return np.array(counts[: self._sources], dtype=np.int64)
