"""How rows are laid out: rows of a causal model that begin alike share the beginning, which is then computed once.

The options of a question and the sentences of a minimal pair begin alike. Laid out as one row, the beginning comes first
and the rest of each follows as a branch (model/attention_backends/branches.py). All pairs of the longer row are computed,
so rows share only where that costs less than computing each alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from ettin_core.model.accounting import FlopCounter
from ettin_core.model.config import ModelConfig

Row = tuple[int, ...]

SHARE = 4  # the beginning is at least one in SHARE of a row's tokens, so that the first token alone is not shared
LONGEST = 1024  # tokens of a layout whose rows are shorter than half of that
ALONE = 128  # keys that a query of a row alone is counted with at most: longer rows are not computed densely


@dataclass(frozen=True)
class Layout:
    """Rows that are laid out as one: the `shared` tokens that all begin with, then the rest of each."""

    rows: tuple[Row, ...]
    shared: int

    def __len__(self) -> int:
        return self.shared + sum(len(row) - self.shared for row in self.rows)

    @property
    def ids(self) -> Row:
        """The tokens."""
        return sum((row[self.shared :] for row in self.rows), self.rows[0][: self.shared])

    @property
    def positions(self) -> Row:
        """The position of each token within its own row."""
        return sum((tuple(range(self.shared, len(row))) for row in self.rows), tuple(range(self.shared)))

    @property
    def branches(self) -> Row:
        """For each token 0 where it is shared, and else the number of its row, from 1."""
        parts = ((number,) * (len(row) - self.shared) for number, row in enumerate(self.rows, start=1))
        return sum(parts, (0,) * self.shared)

    def places(self, number: int, reads: Sequence[int]) -> list[int]:
        """Where the output positions `reads` of a row are, by the row's number."""
        before = sum(len(row) - self.shared for row in self.rows[:number])
        return [read if read < self.shared else read + before for read in reads]


def alone(rows: Sequence[Row]) -> list[Layout]:
    """Each row by itself."""
    return [Layout((row,), len(row)) for row in rows]


def sharing(rows: Sequence[Row], config: ModelConfig, bos: int) -> list[Layout]:
    """Different rows, together where a model of this shape computes them faster so.

    A row with a BOS within holds several documents and is laid out alone.
    """
    layouts: list[Layout] = []
    for row in sorted(row for row in rows if bos not in row[1:]):
        joined = _joined(layouts[-1], row, config) if layouts else None
        if joined is None:
            layouts.append(Layout((row,), len(row)))
        else:
            layouts[-1] = joined
    return layouts + alone([row for row in rows if bos in row[1:]])


def _joined(layout: Layout, row: Row, config: ModelConfig) -> Layout | None:
    """A layout with one more row, or None where the row alone costs less."""
    shared = min(layout.shared, _alike(layout.rows[-1], row))
    joined = Layout((*layout.rows, row), shared)
    if SHARE * shared < len(row) or len(joined) > max(LONGEST, 2 * len(row)):
        return None
    return joined if _cost(joined, config) < _cost(layout, config) + _cost(Layout((row,), len(row)), config) else None


def _cost(layout: Layout, config: ModelConfig) -> float:
    """Pairs of a query and a key in a layer, with the matrices as the number of pairs that cost as much."""
    matrices = FlopCounter(config, "causal").per_token / (4 * config.hidden_size * config.num_layers)
    keys = len(layout) if len(layout.rows) > 1 else min(len(layout), ALONE)
    return len(layout) * (matrices + keys)


def _alike(first: Row, second: Row) -> int:
    """How many tokens two rows begin with alike."""
    for place, (left, right) in enumerate(zip(first, second, strict=False)):
        if left != right:
            return place
    return min(len(first), len(second))
