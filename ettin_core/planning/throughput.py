"""Measured tokens per second: a small table with its sources, and how long a plan takes at a rate."""

import csv
from dataclasses import dataclass

from ettin_core.foundation.errors import invalid
from ettin_core.foundation.manual import CONFIGURATIONS

TABLE = CONFIGURATIONS / "throughput.csv"


@dataclass(frozen=True)
class Throughput:
    """Tokens per second of one GPU (or process), and the source of the number."""

    tokens_per_second: float
    source: str

    def gpu_hours(self, tokens: float) -> float:
        """Hours of one GPU for a number of tokens of text."""
        return tokens / self.tokens_per_second / 3600


def throughput(size: str, stated: float | None) -> Throughput | None:
    """The rate that the user states, else the table's for the size, else None.

    The published hours are one figure per size for both members and all phases. The paper does not say whether they
    include extension and decay. If they are for the 1.7T tokens of pre-training only, the rates are 0.85 of these.
    """
    if stated is not None:
        if not 0 < stated < float("inf"):
            raise invalid(
                "machine.tokens_per_second", stated, "is not a rate", "give the tokens of one GPU in a second, or null"
            )
        return Throughput(stated, "as given")
    with TABLE.open(newline="") as file:
        for row in csv.DictReader(file):
            if row["size"] == size:
                seconds = float(row["hours"]) * int(row["gpus"]) * 3600
                return Throughput(float(row["tokens"]) / seconds, f"{row['source']}, {row['hardware']}")
    return None
