"""One training or conversion, completely described: what can move a number is in RunConfig and so in the run's name."""

from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from typing import Any

from ettin_core.checkpoints.retention import CheckpointConfig
from ettin_core.data.loader import Batch
from ettin_core.foundation.errors import invalid, unknown
from ettin_core.foundation.fields import check_within
from ettin_core.foundation.storage import content_name
from ettin_core.foundation.strict_config import identity, plain
from ettin_core.model.accounting import FlopCounter, adapter_parameter_count, parameter_count
from ettin_core.model.config import BACKENDS, AdapterConfig, ModelConfig
from ettin_core.objectives.assign import RunPosition, make_targets
from ettin_core.objectives.config import ObjectiveConfig, check_run
from ettin_core.objectives.directions import DIRECTIONS
from ettin_core.objectives.kinds import OBJECTIVES
from ettin_core.objectives.targets import Targets, Vocabulary, mask_key
from ettin_core.optim.config import OptimizerConfig
from ettin_core.records.readout import Readout, readout_named
from ettin_core.training.parents import Merge, Parent
from ettin_core.training.phases import Phase, RecipeConfig, plan

PRECISIONS = ("fp32", "bf16")
PARALLEL = ("ddp", "fsdp")
MOST_WORKERS = 1024  # processes that make batches: each is a copy of this one
UNNAMED = ("checkpoint", "corpus")  # not in the name: when checkpoints are written, and the folder of the corpus
ENVIRONMENT = ("code", "libraries", "device", "numerics")  # what may move numbers and is not in the configuration


@dataclass(frozen=True)
class Seeds:
    """Independent seeds: initial weights, order of the data, masks (and dropout)."""

    initialisation: int = 21
    order: int = 21
    masks: int = 21

    def __post_init__(self) -> None:
        for name in ("initialisation", "order", "masks"):
            check_within(f"seeds.{name}", getattr(self, name), 0, 2**63 - 1)


@dataclass(frozen=True)
class PlacementConfig:
    """Where and how a run is computed. Nothing here may change numbers beyond rounding, so it is not in the name.

    Several processes (torchrun) hold whole copies of the weights (`parallel` ddp) or a part each (fsdp). `recompute`
    keeps only each layer's input for the backward pass. `workers` processes prepare batches and targets ahead of the
    step (0: the training process does). Without `micro_rows`, a micro-batch has as many rows as have activations of
    `activation_gib` GiB by the estimate of training/memory.py (None: the whole batch). `trackers` (training/trackers.py)
    mirror the records. A process that does no step for `stall_seconds` ends itself (0: never). `allow_mismatch` names the
    groups of ENVIRONMENT that may differ when a run is resumed.
    """

    device: str = "auto"
    threads: int = 1
    micro_rows: int | None = None
    activation_gib: float | None = None
    attention: str = "auto"
    compile: bool = False
    parallel: str = "ddp"
    recompute: bool = False
    workers: int = 0
    log_every: int = 10
    trackers: tuple[str, ...] = ("tensorboard",)
    stall_seconds: float = 1800.0
    allow_mismatch: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("threads", "log_every", "micro_rows"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise invalid(f"placement.{name}", value, "is not positive", "use 1 or more")
        if self.activation_gib is not None and not 0 < self.activation_gib < float("inf"):
            raise invalid("placement.activation_gib", self.activation_gib, "is not positive", "use 32, or null")
        for name in ("workers", "stall_seconds"):
            if getattr(self, name) < 0:
                raise invalid(f"placement.{name}", getattr(self, name), "is negative", "use 0 (none) or more")
        check_within("placement.workers", self.workers, 0, MOST_WORKERS)
        if self.parallel not in PARALLEL:
            raise unknown("placement.parallel", self.parallel, "is not a way to divide the work", PARALLEL)
        for name in self.allow_mismatch:
            if name not in ENVIRONMENT:
                raise unknown("placement.allow_mismatch", name, "is not compared", ENVIRONMENT)
        if self.device not in ("auto", "cpu", "cuda"):
            raise invalid("placement.device", self.device, "is not a device", "use auto, cpu or cuda")
        if self.attention not in BACKENDS:
            raise unknown("placement.attention", self.attention, "is not a backend", BACKENDS)

    def micro_batches(self, batch_rows: int, world_size: int) -> int:
        """The number of micro-batches of each process in a batch. Raises ValueError if the rows do not divide."""
        count = -(-batch_rows // (world_size * (self.micro_rows or batch_rows)))
        if batch_rows % (world_size * count):
            raise invalid(
                "batch_rows",
                batch_rows,
                f"does not divide into {world_size} processes and micro-batches of {self.micro_rows} rows",
                "choose a batch that is a multiple of both",
            )
        return count


@dataclass(frozen=True)
class RunConfig:
    """A run. `corpus` is the content name of the prepared corpus, `fingerprint` the hash of what it holds.

    With an `adapter` only low-rank matrices are trained, otherwise all weights. A `merge` gives the weights of a run of
    no step.
    """

    member: str
    size: str
    direction: str
    objective: ObjectiveConfig
    model: ModelConfig
    recipe: RecipeConfig
    optimizer: OptimizerConfig
    corpus: str
    fingerprint: str
    precision: str = "fp32"
    seeds: Seeds = field(default_factory=Seeds)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    parent: Parent | None = None
    adapter: AdapterConfig | None = None
    merge: Merge | None = None

    def __post_init__(self) -> None:
        check_run(self.direction, self.objective)
        if self.precision not in PRECISIONS:
            raise unknown("precision", self.precision, "is not a precision", PRECISIONS)
        if self.adapter is not None and (self.optimizer.name == "muon" or self.optimizer.qk_clip is not None):
            raise invalid(
                "adapter",
                "lora",
                f"does not go with optimizer.name={self.optimizer.name} and qk_clip={self.optimizer.qk_clip}: muon and "
                "qk_clip work on whole matrices, which an adapter leaves as they are",
                "use adapter=none, or a parent trained with stable_adamw or adamw and no qk_clip",
            )
        if self.adapter is not None and self.adapter.rank > self.model.hidden_size:
            problem = (
                f"is above the model's width of {self.model.hidden_size}: it would train more than the whole matrix"
            )
            raise invalid("adapter.rank", self.adapter.rank, problem, "use 16, or adapter=none to train all weights")
        prefixes = [phase.prefix for phase in self.phases]
        if len(set(prefixes)) < len(prefixes):
            raise invalid("recipe.phases.*.prefix", prefixes, "is not distinct", "give each phase its own prefix")

    @cached_property
    def phases(self) -> tuple[Phase, ...]:
        """The phases in tokens and steps."""
        return plan(self.recipe, self.optimizer.learning_rate)

    @property
    def tokens(self) -> int:
        """Tokens of all phases (row padding counts)."""
        return sum(phase.tokens for phase in self.phases)

    @property
    def parents(self) -> tuple[Parent, ...]:
        """The checkpoints that the first weights were made of, a merge's base last (none: drawn at random)."""
        if self.merge is None:
            return () if self.parent is None else (self.parent,)
        return self.merge.parents if self.merge.base is None else (*self.merge.parents, self.merge.base)

    @property
    def top_rate(self) -> float:
        """The highest learning rate of any phase of this run; the parent of a conversion does not count."""
        return max(phase.learning_rate for phase in self.phases)

    @property
    def trained_parameters(self) -> int:
        """How many parameters training changes."""
        return parameter_count(self.model) if self.adapter is None else self.adapter_parameters

    @property
    def adapter_parameters(self) -> int:
        """How many parameters the adapter adds (0 without one)."""
        return 0 if self.adapter is None else adapter_parameter_count(self.model, self.adapter.rank)

    def flop_counter(self, direction: str, built: ModelConfig | None = None) -> FlopCounter:
        """A counter of training FLOPs in a direction, of this model or of one `built` with other shapes."""
        return FlopCounter(built or self.model, direction, None if self.adapter is None else self.adapter.rank)

    def targets(self, batch: Batch, phase: Phase, step: int, vocabulary: Vocabulary) -> Targets:
        """The targets of a batch at a step of a phase: a pure function of each row."""
        rate, key = phase.mask_rate_at(step), mask_key(self.seeds.masks, phase.name)
        position = self.position(phase, step)
        return make_targets(self.objective, self.direction, batch, vocabulary, rate, key, position)

    def position(self, phase: Phase, step: int) -> RunPosition:
        """The position in the run of a step of a phase."""
        earlier = self.phases[: [item.name for item in self.phases].index(phase.name)]
        done = sum(item.tokens for item in earlier) + phase.consumed(step)
        return RunPosition(sum(item.steps for item in earlier) + step, Fraction(done, self.tokens))

    @property
    def visibilities(self) -> set[str]:
        """The visibilities that training uses: bidirectional, causal, prefix."""
        components = self.objective.under(self.direction)
        return (
            {"prefix"}
            if self.objective.name == "mixture"
            else {DIRECTIONS[component.direction].visibility for component in components}
        )

    @property
    def readout(self) -> tuple[str, str]:
        """How a model of this run is measured and exported: the direction (bidirectional or causal) and the objective."""
        return DIRECTIONS[self.direction].readout, self.objective.readout(self.direction)

    @property
    def read_as(self) -> Readout | None:
        """How predictions of a model of this run are read, as its objective declares (None: they are not)."""
        return readout_named(OBJECTIVES[self.readout[1]].readout)

    def check_readable(self) -> Readout:
        """How the run is read. Raises ValueError if its objective declares that it is not."""
        if (readout := self.read_as) is None:
            problem = "declares no readout, so a model of it is trained and exported but not measured"
            remedy = "declare how it is read in its file: readout=clm, mlm, mntp or ahead<n>"
            raise invalid("objective", self.readout[1], problem, remedy)
        return readout

    def is_kept(self, checkpoint: str) -> bool:
        """Whether a checkpoint, by its name, is kept permanently: step 0, a phase's end, or what the rule names."""
        for phase in self.phases:
            step = checkpoint.removeprefix(phase.prefix)
            if step != checkpoint and step.isdigit():
                return step == "0" or self.checkpoint.is_kept(int(step), phase.steps, phase.consumed)
        return True

    @property
    def plain(self) -> dict[str, Any]:
        """The resolved configuration as plain data: what config.yaml holds."""
        return plain(self)

    @property
    def name(self) -> str:
        """The content name: a readable slug and a hash of what can move a number (docs/identity.md)."""
        content = {key: value for key, value in identity(self).items() if key not in UNNAMED}
        return content_name(f"{self.size}-{self.member}-s{self.seeds.initialisation}", content)
