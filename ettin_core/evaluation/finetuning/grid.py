"""The grid of trials, the same for every member, and one trial of it."""

import itertools
from dataclasses import dataclass
from typing import Any

from ettin_core.foundation.errors import invalid
from ettin_core.foundation.storage import content_name
from ettin_core.foundation.strict_config import plain


@dataclass(frozen=True)
class FinetuningConfig:
    """conf/finetuning: the axes of the grid, and what all its trials share.

    AdamW with linear warmup over `warmup_share` of the steps and linear decay to zero. `train_rows` limits the training rows
    (null: all); `unmasked` says by group of layers, from the lowest, which lose the mask with `way=unmasked_layers`.
    """

    learning_rates: tuple[float, ...]
    weight_decays: tuple[float, ...]
    batch_sizes: tuple[int, ...]
    epochs: tuple[int, ...]
    seeds: tuple[int, ...]
    train_rows: int | None
    max_length: int
    warmup_share: float
    dropout: float
    clip_norm: float
    unmasked: tuple[bool, ...]
    batch_tokens: int

    def __post_init__(self) -> None:
        for name in ("learning_rates", "weight_decays", "batch_sizes", "epochs", "seeds", "unmasked"):
            values = getattr(self, name)
            if not values or len(set(values)) < len(values) and name != "unmasked":
                raise invalid(f"finetuning.{name}", list(values), "is empty or repeats a value", "give distinct values")
            if name in ("batch_sizes", "epochs") and min(values) < 1:
                raise invalid(f"finetuning.{name}", list(values), "holds one below 1", "give positive numbers")
        for rate in self.learning_rates:
            if not 0 < rate < float("inf"):
                raise invalid("finetuning.learning_rates", rate, "is not positive", "use about 1e-4")
        for decay in self.weight_decays:
            if not 0 <= decay < float("inf"):
                raise invalid("finetuning.weight_decays", decay, "is negative", "use 0 or more")
        if self.train_rows is not None and self.train_rows < 1:
            raise invalid("finetuning.train_rows", self.train_rows, "is not positive", "use null for all rows")
        if self.max_length < 8:
            raise invalid("finetuning.max_length", self.max_length, "holds no text", "use 128 or more")
        if self.batch_tokens < 1:
            raise invalid("finetuning.batch_tokens", self.batch_tokens, "is not positive", "use 8192")
        for name in ("warmup_share", "dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise invalid(f"finetuning.{name}", getattr(self, name), "is not in [0, 1)", "use 0.1 or 0")
        if not self.clip_norm > 0:
            raise invalid("finetuning.clip_norm", self.clip_norm, "is not positive", "use 1.0")

    @property
    def trials(self) -> list["Trial"]:
        """Every trial: each point of the grid with each seed."""
        axes = (self.learning_rates, self.weight_decays, self.batch_sizes, self.epochs, self.seeds)
        return [Trial(*values) for values in itertools.product(*axes)]

    @property
    def grid(self) -> dict[str, Any]:
        """Everything that can change a score, as plain data: all but the batches of evaluation."""
        return {name: value for name, value in plain(self).items() if name != "batch_tokens"}

    @property
    def shared(self) -> dict[str, Any]:
        """The part of the grid that all its trials share."""
        axes = ("learning_rates", "weight_decays", "batch_sizes", "epochs", "seeds")
        return {name: value for name, value in self.grid.items() if name not in axes}


@dataclass(frozen=True)
class Trial:
    """A point of the grid and a seed."""

    learning_rate: float
    weight_decay: float
    batch_size: int
    epochs: int
    seed: int

    @property
    def point(self) -> tuple[float, float, int, int]:
        """The point of the grid."""
        return self.learning_rate, self.weight_decay, self.batch_size, self.epochs

    def name(self, identity: dict[str, Any]) -> str:
        """A readable name with the hash of all that can change its score."""
        slug = f"lr{self.learning_rate:g}-wd{self.weight_decay:g}-b{self.batch_size}-e{self.epochs}-s{self.seed}"
        return content_name(slug, identity | {"trial": plain(self)})
