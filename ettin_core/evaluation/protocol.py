"""What a protocol is: a name, a version, and a measurement that is the same for every member."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ettin_core.data.corpus import Corpus
from ettin_core.evaluation.model import EvaluatedModel
from ettin_core.evaluation.sets import check_folder
from ettin_core.foundation.errors import invalid


@dataclass(frozen=True)
class SuiteConfig:
    """How much is measured. `eval_data` is a folder of evaluation sets for real text (None: without them)."""

    heldout_tokens: int
    items: int
    blimp_per_paradigm: int
    eval_data: str | None
    batch_tokens: int

    def __post_init__(self) -> None:
        for name in ("heldout_tokens", "items", "blimp_per_paradigm", "batch_tokens"):
            if getattr(self, name) < 1:
                raise invalid(f"suite.{name}", getattr(self, name), "is not positive", "give a positive number")
        if self.eval_data is not None:
            check_folder(self.eval_data)


@dataclass(frozen=True)
class Result:
    """A measured value with its uncertainty over items."""

    task: str
    metric: str
    value: float | None
    n: int
    standard_error: float | None = None
    higher_is_better: bool = True
    reference: float | None = None


@dataclass(frozen=True)
class ItemResult:
    """The score of one item."""

    task: str
    item: str
    value: float
    details: dict[str, Any] = field(default_factory=dict)


Measured = tuple[list[Result], list[ItemResult]]


@dataclass(frozen=True)
class Protocol:
    """A named, versioned definition. `kinds` says which models it is defined for: causal, masked, or both."""

    name: str
    version: int
    kinds: tuple[str, ...]
    measure: Callable[[EvaluatedModel, Corpus, SuiteConfig], Measured]


def standard_error(values: list[float] | np.ndarray) -> float | None:
    """Standard error of a mean over items; None below two items."""
    return float(np.std(values, ddof=1) / len(values) ** 0.5) if len(values) > 1 else None


def mean_result(task: str, metric: str, values: list[float], **options: Any) -> Result:
    """The mean of item values with its standard error."""
    return Result(task, metric, float(np.mean(values)), len(values), standard_error(values), **options)
