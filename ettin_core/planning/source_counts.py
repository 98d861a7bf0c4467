"""How much of each source a phase has read after some rows: counted, not estimated."""

from dataclasses import dataclass

from ettin_core.data.loader import Loader


@dataclass(frozen=True)
class SourceCount:
    """Of a source: the share of tokens that the mixture asks for, rows read, their tokens (by the mean row), and passes.

    `passes_asked` are the passes that the mixture asks for; whole rows deviate a little.
    """

    asked: float
    rows: int
    tokens: float
    passes: float
    passes_asked: float


def count_sources(loader: Loader, mixture: dict[str, float] | None, global_rows: int) -> dict[str, SourceCount]:
    """The count of each source in the first `global_rows` rows of a phase; `mixture` is the phase's (None: by size)."""
    weights = loader.tokens if mixture is None else [mixture[name] for name in loader.sources]
    total, counts = sum(weights), loader.order.counts(global_rows).tolist()
    asked = loader.repeats_asked(global_rows)
    return {
        name: SourceCount(weight / total, count, count * tokens / rows.count, count / rows.count, asked[name])
        for name, weight, count, tokens, rows in zip(
            loader.sources, weights, counts, loader.tokens, loader.rows, strict=True
        )
    }
