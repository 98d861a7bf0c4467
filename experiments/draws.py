"""What a phase has drawn of each source after some rows: counted, not estimated."""

from dataclasses import dataclass

import numpy as np

from ettin_core.data.loader import Loader
from ettin_core.data.order import PERIOD


@dataclass(frozen=True)
class Draw:
    """Of one source: the share of tokens asked for, rows drawn, tokens in them (by the source's mean row), and passes."""

    asked: float
    rows: int
    tokens: float
    passes: float


def draws(loader: Loader, mixture: dict[str, float] | None, global_rows: int) -> dict[str, Draw]:
    """What the first `global_rows` rows of a phase draw of each source; `mixture` is the phase's (None: by size)."""
    blocks, rest = divmod(global_rows, PERIOD)
    tail = loader.order.locate(np.arange(blocks * PERIOD, blocks * PERIOD + rest, dtype=np.int64)).source
    counts = blocks * loader.order.quotas + np.bincount(tail, minlength=len(loader.sources))
    weights = (
        [float(count) for count in loader.tokens] if mixture is None else [mixture[name] for name in loader.sources]
    )
    return {
        name: Draw(weight / sum(weights), count, count * tokens / rows.count, count / rows.count)
        for name, weight, count, tokens, rows in zip(
            loader.sources, weights, counts.tolist(), loader.tokens, loader.rows, strict=True
        )
    }
