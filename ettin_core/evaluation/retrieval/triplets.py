"""Rows to train embeddings on: a query, a text that answers it, and one that looks so and does not."""

import random
import sys
from collections.abc import Set
from pathlib import Path

from ettin_core.evaluation.lines import checked_rows
from ettin_core.foundation.errors import invalid

COLUMNS = ("query", "positive", "negative")  # the order in which the loss reads them
FIELDS = {"source": str, "query": str, "positive": str, "negative": str}


def read_triplets(
    path: Path, sources: tuple[str, ...] | None, limit: int | None, seed: int = 12, without: Set[str] = frozenset()
) -> list[dict[str, str]]:
    """Triplets of some sources (None: all); of more than `limit`, that many drawn by `seed`, the same for every trial. Queries
    `without` are left out.

    Raises ValueError naming file and line for a row that is not a triplet, and for a source that is not there.
    """
    if not path.is_file():
        raise invalid("contrastive.triplets", str(path), "is missing", "give a file with rows")
    rows = [row for _, row in checked_rows(path, FIELDS)]
    known = {row["source"] for row in rows}
    for source in sources or ():
        if source not in known:
            raise invalid(
                "contrastive.sources", source, f"is not a source of {path}", f"it has {', '.join(sorted(known))}"
            )
    of_sources = [row for row in rows if sources is None or row["source"] in sources]
    chosen = [row for row in of_sources if row["query"] not in without]
    if left_out := len(of_sources) - len(chosen):
        print(f"{left_out:,} rows of {path} are not trained on: their queries are measured", file=sys.stderr)
    if not chosen:
        problem = "holds no triplets" + (" whose query is not measured" if without else "")
        raise invalid("contrastive.triplets", str(path), problem, "give a file with rows")
    if limit is not None and limit < len(chosen):
        chosen = random.Random(seed).sample(chosen, limit)
    return [{name: row[name] for name in COLUMNS} for row in chosen]
