"""What a protocol is: a name, a version, and a measurement that is the same for every member."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ettin_core.data.corpus import Corpus
from ettin_core.evaluation.datasets import EvaluationSet
from ettin_core.foundation.errors import invalid
from ettin_core.records.schema import Measurement

if TYPE_CHECKING:
    from ettin_core.evaluation.evaluated_model import EvaluatedModel


@dataclass(frozen=True)
class SuiteSizes:
    """How much is measured, and where the evaluation sets are: what of a suite a protocol reads.

    `heldout_tokens` of held-out text are scored. `items` is the number of each generated probe. `eval_data` is a folder of
    evaluation sets for real text (None: without them), of which `blimp_per_paradigm` minimal pairs of each paradigm and
    `bias_items` of each bias set are asked (None: all; Winogender is small and always whole). A batch holds `batch_tokens`
    tokens (None: what suits the device). Raises ValueError for a number that is not positive.
    """

    heldout_tokens: int
    items: int
    blimp_per_paradigm: int
    eval_data: str | None
    batch_tokens: int | None
    bias_items: int | None = None

    def __post_init__(self) -> None:
        for name in ("heldout_tokens", "items", "blimp_per_paradigm", "batch_tokens", "bias_items"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise invalid(f"suite.{name}", value, "is not positive", "give a positive number")

    @property
    def folder(self) -> Path:
        """The folder of evaluation sets."""
        assert self.eval_data is not None, "a protocol that only reads sets is left out where there are none"
        return Path(self.eval_data)


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
    """The score of one item.

    `details` may name its `cluster`, which the set declares: items of one cluster are not independent. A value that it holds
    under the name of a metric is the item's value of that metric.
    """

    task: str
    item: str
    value: float
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def cluster(self) -> str:
        """Its cluster: itself, where the set declares none."""
        return str(self.details.get("cluster", f"{self.task}/{self.item}"))


@dataclass(frozen=True)
class MeasuredModel:
    """What the records call the measured model: its run, its place in a study, the checkpoint and the hash of its weights."""

    run: str
    member: str
    size: str
    seed: int
    checkpoint: str
    weights: str

    def measurement(self, protocol: str, version: int, result: Result, provenance: dict[str, Any]) -> Measurement:
        """The record of a result; what is not a finite number is a hole, whose reason the provenance has."""
        known = {name: _finite(getattr(result, name)) for name in ("value", "standard_error", "reference")}
        if result.value is not None and known["value"] is None:
            provenance = provenance | {"hole": f"the value is {float(result.value)}"}
        return Measurement(
            run=self.run,
            member=self.member,
            size=self.size,
            seed=self.seed,
            protocol=protocol,
            version=version,
            task=result.task,
            metric=result.metric,
            value=known["value"],
            n=result.n,
            standard_error=known["standard_error"],
            checkpoint=self.checkpoint,
            higher_is_better=result.higher_is_better,
            reference=known["reference"],
            provenance=provenance,
        )


def _finite(value: float | None) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None


Measured = tuple[list[Result], list[ItemResult]]
Measure = Callable[["EvaluatedModel", Corpus | None, SuiteSizes], Measured]


@dataclass(frozen=True)
class Protocol:
    """A named, versioned definition: which models it is defined for, how it measures them and what it asks.

    `kinds` are those of `Readout.kind`. Items come from the `datasets` or from the `corpus` or its world; of a protocol with
    both, whichever there is. One that is `on_request` is measured only where `suite.protocols` names it.
    """

    name: str
    version: int
    kinds: tuple[str, ...]
    measure: Measure
    datasets: tuple[EvaluationSet, ...] = ()
    corpus: bool = False
    on_request: bool = False

    def has_items(self, sets: bool, corpus: bool) -> bool:
        """Whether there is something to ask where there are evaluation `sets`, a `corpus`, both or neither."""
        needs_nothing = not self.datasets and not self.corpus
        return needs_nothing or (sets and bool(self.datasets)) or (corpus and self.corpus)


def standard_error(values: Sequence[float] | np.ndarray, clusters: Sequence[str] | None = None) -> float | None:
    """Standard error of a mean over items; None below two items.

    Items of one cluster (None: each is its own) are not independent: summed are the residuals of clusters (Liang and Zeger
    1986, with the factor G / (G - 1) of G clusters). A few clusters whose means happen to agree would seem to leave no error,
    so it is at least that of independent items; items of one cluster alone have that.
    """
    if len(values) < 2:
        return None
    residuals = np.asarray(values, dtype=float) - np.mean(values)
    alone = float(np.std(values, ddof=1) / len(values) ** 0.5)
    names, member = np.unique(clusters or [], return_inverse=True)
    if len(names) < 2:
        return alone
    sums = np.bincount(member, residuals)
    return max(alone, float((len(names) / (len(names) - 1) * (sums**2).sum()) ** 0.5 / len(values)))


def mean_result(
    task: str, metric: str, values: Sequence[float], clusters: Sequence[str] | None = None, **options: Any
) -> Result:
    """The mean of item values with its standard error; of no items it is nothing."""
    mean = float(np.mean(values)) if len(values) else None
    return Result(task, metric, mean, len(values), standard_error(values, clusters), **options)


def mean_of(
    task: str, metric: str, items: Sequence[ItemResult], value: Callable[[ItemResult], float], **options: Any
) -> Result:
    """The mean of a value of items with its standard error over their clusters."""
    return mean_result(task, metric, [value(item) for item in items], [item.cluster for item in items], **options)


def detail(name: str) -> Callable[[ItemResult], float]:
    """What an item's details hold under a name."""
    return lambda item: float(item.details[name])


def tie_rate(task: str, items: Sequence[ItemResult]) -> Result:
    """The share of items whose compared scores are equal, so that a guess decides."""
    return mean_of(task, "tie_rate", items, detail("tied"), higher_is_better=False)


def own_value(item: ItemResult) -> float:
    """What an item scored."""
    return item.value


def jackknife_error(statistic: Callable[[np.ndarray], float], rows: np.ndarray) -> float | None:
    """Standard error of a statistic of independent rows, each left out in turn (Efron 1982); None below three rows."""
    if len(rows) < 3:
        return None
    left_out = np.array([statistic(np.delete(rows, place, axis=0)) for place in range(len(rows))])
    return float(((len(rows) - 1) * left_out.var()) ** 0.5)


def preferred(first: float, second: float) -> float:
    """1 where the first score is higher, 0 where the second is, half for a tie: a guess."""
    return 0.5 if first == second else float(first > second)
