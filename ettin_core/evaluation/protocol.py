"""What a protocol is: a name, a version, and a measurement that is the same for every member."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ettin_core.data.corpus import Corpus
from ettin_core.evaluation.datasets import (
    BLIMP,
    CROWS_PAIRS,
    STEREOSET,
    WINOBIAS,
    WINOGENDER,
    EvaluationSet,
    check_folder,
)
from ettin_core.evaluation.lines import FOLDER
from ettin_core.evaluation.tasks.find import find_task
from ettin_core.foundation.errors import invalid, unknown
from ettin_core.records.schema import CHOICE, Measurement

if TYPE_CHECKING:
    from ettin_core.evaluation.evaluated_model import EvaluatedModel


@dataclass(frozen=True)
class ProtocolData:
    """Where a protocol's items come from: evaluation sets, and the corpus, which it "needs" or whose world it "uses"."""

    sets: tuple[EvaluationSet, ...] = ()
    corpus: str = ""


# Known apart from the protocols themselves, so that a suite is checked before any work starts.
SOURCES: dict[str, ProtocolData] = {
    "heldout_clm": ProtocolData(corpus="needs"),
    "heldout_mlm": ProtocolData(corpus="needs"),
    "heldout_ahead": ProtocolData(corpus="needs"),
    "heldout_likelihood.left_to_right": ProtocolData(corpus="needs"),
    "heldout_likelihood.most_confident_first": ProtocolData(corpus="needs"),
    "heldout_likelihood.any_order": ProtocolData(corpus="needs"),
    "validation_clm": ProtocolData(corpus="needs"),
    "validation_mlm": ProtocolData(corpus="needs"),
    "validation_ahead": ProtocolData(corpus="needs"),
    "minimal_pairs.left_to_right": ProtocolData((BLIMP,), "uses"),
    "minimal_pairs.pseudo_likelihood": ProtocolData((BLIMP,), "uses"),
    "minimal_pairs.token_pseudo_likelihood": ProtocolData((BLIMP,), "uses"),
    "facts.left_to_right": ProtocolData(corpus="needs"),
    "facts.pseudo_likelihood": ProtocolData(corpus="needs"),
    "agreement": ProtocolData((BLIMP,), "uses"),
    "pronouns": ProtocolData((WINOGENDER,), "uses"),
    "winogender@published_encoder": ProtocolData((WINOGENDER,)),
    "winogender@published_decoder": ProtocolData((WINOGENDER,)),
    "winobias": ProtocolData((WINOBIAS,)),
    "crows_pairs.shared_tokens": ProtocolData((CROWS_PAIRS,)),
    "crows_pairs.sentence": ProtocolData((CROWS_PAIRS,)),
    "stereoset": ProtocolData((STEREOSET,)),
}

CHOICES = tuple(name for name in SOURCES if name.startswith(CHOICE))
ON_REQUEST = frozenset({"minimal_pairs.token_pseudo_likelihood", *CHOICES})  # only where suite.protocols names them


@dataclass(frozen=True)
class SuiteConfig:
    """How much is measured.

    `eval_data` is a folder of evaluation sets for real text (None: without them), of which `blimp_per_paradigm` minimal
    pairs of each paradigm and `bias_items` of each bias set are asked (None: all; Winogender is small and always whole).
    `items` is the number of each generated probe. `protocols` names those to measure (None: all that apply, but for
    those on request). `tasks` names tasks of the folder's own (docs/tasks.md); without `protocols` they alone are measured.
    A batch holds `batch_tokens` tokens; None is what suits the device.
    """

    heldout_tokens: int
    items: int
    blimp_per_paradigm: int
    eval_data: str | None
    batch_tokens: int | None
    bias_items: int | None = None
    protocols: tuple[str, ...] | None = None
    tasks: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        for name in ("heldout_tokens", "items", "blimp_per_paradigm", "batch_tokens", "bias_items"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise invalid(f"suite.{name}", value, "is not positive", "give a positive number")
        if self.protocols is not None:
            if not self.protocols:
                raise invalid("suite.protocols", [], "measures nothing", "name some, or leave it null for all")
            for name in self.protocols:
                if name not in SOURCES:
                    raise unknown("suite.protocols", name, "is not a protocol", SOURCES)
                if self.eval_data is None and not SOURCES[name].corpus:
                    remedy = f"give suite.eval_data with {SOURCES[name].sets[0].file}: {FOLDER}"
                    raise invalid("suite.protocols", name, "reads an evaluation set", remedy)
        if self.eval_data is not None:
            check_folder(self.eval_data, self.sets)
        self._check_tasks()

    def _check_tasks(self) -> None:
        taken = {name.partition(".")[0] for name in SOURCES}
        for name in self.tasks or ():
            if self.eval_data is None:
                raise invalid("suite.tasks", name, "is read from a folder", f"give suite.eval_data: {FOLDER}")
            if self.tasks and self.tasks.count(name) > 1:
                raise invalid("suite.tasks", name, "is named twice", "name it once")
            if name in taken:
                raise invalid("suite.tasks", name, "is the name of a protocol", "rename the task's file")
            find_task(name, self.folder, "evaluate").files()

    @property
    def asked(self) -> tuple[str, ...]:
        """The names of the protocols that may be measured, but for those of the own tasks."""
        if self.protocols is not None:
            return self.protocols
        return () if self.tasks else tuple(name for name in SOURCES if name not in ON_REQUEST)

    @property
    def sets(self) -> tuple[EvaluationSet, ...]:
        """The evaluation sets that the chosen protocols read."""
        found = [item for name in self.asked for item in SOURCES[name].sets]
        return tuple(item for number, item in enumerate(found) if item not in found[:number])

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
        """The record of a result; what is no finite number is a hole, whose reason the provenance has."""
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
Measure = Callable[["EvaluatedModel", Corpus | None, SuiteConfig], Measured]


@dataclass(frozen=True)
class Protocol:
    """A named, versioned definition. `kinds` says which models it is defined for (`Readout.kind`).

    `own` is where the items of a task of the user's come from.
    """

    name: str
    version: int
    kinds: tuple[str, ...]
    measure: Measure
    own: ProtocolData | None = None

    @property
    def source(self) -> ProtocolData:
        """Where its items come from."""
        return SOURCES[self.name] if self.own is None else self.own


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


def preferred(one: float, other: float) -> float:
    """1 where the first score is higher, 0 where the second is, half for a tie: a guess."""
    return 0.5 if one == other else float(one > other)
