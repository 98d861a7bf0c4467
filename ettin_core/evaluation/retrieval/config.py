"""conf/contrastive: rows, recipe and the grid of which every member gets every point."""

from dataclasses import dataclass
from itertools import product
from typing import Any

from ettin_core.foundation.errors import invalid


@dataclass(frozen=True)
class Setting:
    """One point of the grid."""

    learning_rate: float
    batch: int
    epochs: float

    @property
    def slug(self) -> str:
        """A short name."""
        return f"lr{self.learning_rate:g}-b{self.batch}-e{self.epochs:g}"


@dataclass(frozen=True)
class ContrastiveConfig:
    """conf/contrastive: rows, recipe, and the grid of which every member gets every point."""

    triplets: str | None
    sources: tuple[str, ...] | None
    max_triplets: int | None
    learning_rates: tuple[float, ...]
    batches: tuple[int, ...]
    epochs: tuple[float, ...]
    seeds: tuple[int, ...]
    mini_batch: int
    warmup_share: float
    weight_decay: float
    scale: float
    precision: str

    def __post_init__(self) -> None:
        for name in ("learning_rates", "batches", "epochs", "seeds"):
            values = getattr(self, name)
            if not values or len(set(values)) < len(values):
                raise invalid(
                    f"contrastive.{name}", list(values), "is not a list of values", "give at least one, each once"
                )
            if name != "seeds" and min(values) <= 0:
                raise invalid(
                    f"contrastive.{name}", list(values), "holds a value that is not positive", "use values above 0"
                )
        for name in ("mini_batch", "scale", "max_triplets"):
            if getattr(self, name) is not None and getattr(self, name) <= 0:
                raise invalid(f"contrastive.{name}", getattr(self, name), "is not positive", "use a value above 0")
        if min(self.batches) < 2:
            raise invalid(
                "contrastive.batches", list(self.batches), "leaves no other query to distinguish", "use 2 or more"
            )
        if not 0 <= self.warmup_share < 1:
            raise invalid(
                "contrastive.warmup_share", self.warmup_share, "is not a share of the steps", "use 0 <= share < 1"
            )
        if self.precision not in ("fp32", "bf16"):
            raise invalid("contrastive.precision", self.precision, "is unknown", "use fp32 or bf16")

    def settings(self) -> list[Setting]:
        """The points of the grid, seeds aside."""
        return [Setting(*values) for values in product(self.learning_rates, self.batches, self.epochs)]

    @property
    def recipe(self) -> dict[str, Any]:
        """What all points share and moves a number; `mini_batch` is memory only."""
        return {name: getattr(self, name) for name in ("warmup_share", "weight_decay", "scale", "precision")}
