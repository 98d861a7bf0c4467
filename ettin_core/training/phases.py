"""Phases and the recipe they come from. A phase has a length, context, learning rate, mask rate and rotary bases."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from ettin_core.data.batch_schedule import BatchSchedule
from ettin_core.data.config import check_mixture
from ettin_core.data.corpus import Corpus
from ettin_core.data.loader import Loader
from ettin_core.data.packing import PACKINGS
from ettin_core.foundation.errors import invalid, unknown
from ettin_core.foundation.fields import check_name
from ettin_core.foundation.strict_config import ORDERED
from ettin_core.model.config import AttentionSpec
from ettin_core.optim.schedules import Schedule

POSITIVE = ("share", "batch_rows", "context", "learning_rate_factor", "rope_base_global", "rope_base_local")
ON_NONFINITE = ("stop", "skip")


@dataclass(frozen=True)
class PhaseRecipe:
    """A phase as configured: its share of the run's tokens, and everything relative to that.

    `learning_rate_factor` is relative to the optimiser's peak. `prefix` names the phase's checkpoints. `mixture` gives
    weights by source (None: by size). `packing` says how documents fill rows (data/packing.py). The mask rate goes
    linearly to `mask_rate_end` (None: it is constant). Over `batch_warmup_share` of the phase's tokens the batch grows
    to `batch_rows` in `batch_warmup_stages` equal stages (data/batch_schedule.py).
    """

    share: float
    context: int
    batch_rows: int
    prefix: str
    shape: str = "warmup_stable_decay"
    warmup_share: float = 0.0
    decay_share: float = 0.0
    final_factor: float = 0.0
    learning_rate_factor: float = 1.0
    mask_rate: float = 0.3
    mask_rate_end: float | None = None
    rope_base_global: float = 10_000.0
    rope_base_local: float = 10_000.0
    mixture: dict[str, float] | None = None
    packing: str = "stream"
    batch_warmup_share: float = 0.0
    batch_warmup_stages: int = 4


@dataclass(frozen=True)
class RecipeConfig:
    """The whole training of a member: one number of tokens, divided among phases in order (0: no training).

    Training does not start if all phases together pass more than `max_epochs` times over a source. If a loss or
    gradient is not finite, `on_nonfinite` stops the run before the update, or skips the update and counts it.
    """

    tokens: int
    phases: dict[str, PhaseRecipe] = field(metadata=ORDERED)
    max_epochs: float = 4.0
    on_nonfinite: str = "stop"

    def __post_init__(self) -> None:
        if not self.phases:
            raise invalid("recipe.phases", {}, "has no phase", "give one or more, in the order they are trained")
        for name, phase in self.phases.items():
            check_name("recipe.phases", name)
            _check(f"recipe.phases.{name}", phase)
        if self.on_nonfinite not in ON_NONFINITE:
            raise unknown("recipe.on_nonfinite", self.on_nonfinite, "is not a choice", ON_NONFINITE)
        if not self.max_epochs > 0:
            raise invalid("recipe.max_epochs", self.max_epochs, "is not positive", "use 4, or more to allow repetition")


def _check(path: str, phase: PhaseRecipe) -> None:
    """Raises ValueError, naming the field, if a value is impossible."""
    for name in POSITIVE:
        value = getattr(phase, name)
        if not 0 < value < float("inf"):
            raise invalid(f"{path}.{name}", value, "is not positive", "give a positive number")
    for name in ("warmup_share", "decay_share", "final_factor", "batch_warmup_share"):
        value = getattr(phase, name)
        if not 0 <= value <= 1:
            raise invalid(f"{path}.{name}", value, "is not a share", "give 0 to 1")
    if phase.batch_warmup_share == 1:
        raise invalid(f"{path}.batch_warmup_share", 1, "leaves no step of the whole batch", "use less than 1")
    if phase.batch_warmup_stages < 1:
        raise invalid(f"{path}.batch_warmup_stages", phase.batch_warmup_stages, "is not positive", "use 1 or more")
    if phase.batch_warmup_share and phase.batch_rows % phase.batch_warmup_stages:
        raise invalid(
            f"{path}.batch_warmup_stages",
            phase.batch_warmup_stages,
            f"does not divide batch_rows={phase.batch_rows}",
            "use a number of stages that does, or batch_warmup_share=0",
        )
    check_mixture(f"{path}.mixture", phase.mixture, None)
    if phase.packing not in PACKINGS:
        raise unknown(f"{path}.packing", phase.packing, "is not a packing", PACKINGS)
    if not (phase.prefix.isascii() and phase.prefix.isalpha()):
        raise invalid(f"{path}.prefix", phase.prefix, "is not a word", "use letters only, e.g. step")
    check_name(f"{path}.prefix", phase.prefix)


@dataclass(frozen=True)
class Phase:
    """A phase as trained, in tokens and steps."""

    name: str
    prefix: str
    steps: int
    context: int
    batches: BatchSchedule
    mask_rate: float
    mask_rate_end: float | None
    learning_rate: float
    schedule: Schedule
    rope_base_global: float
    rope_base_local: float
    mixture: dict[str, float] | None
    packing: str

    def __post_init__(self) -> None:
        if self.context < 8:
            raise invalid(f"recipe.phases.{self.name}.context", self.context, "is too short", "use 128 or more")
        for name in ("mask_rate", "mask_rate_end"):
            rate = getattr(self, name)
            if rate is not None and not 0 < rate < 1:
                raise invalid(f"recipe.phases.{self.name}.{name}", rate, "is not in (0, 1)", "use 0.3")

    @property
    def batch_rows(self) -> int:
        """Rows of a step once the batch has grown."""
        return self.batches.rows

    @property
    def rows(self) -> int:
        """Rows of the whole phase."""
        return self.batches.before(self.steps)

    @property
    def tokens(self) -> int:
        """Tokens of the whole phase by its clock."""
        return self.consumed(self.steps)

    def consumed(self, steps: int) -> int:
        """Tokens after a number of steps: the clock of every schedule (row padding counts)."""
        return self.batches.before(steps) * self.context

    def rate(self, step: int) -> float:
        """Learning rate of a step (0-based): the schedule's value at the tokens consumed when the step is done."""
        return self.learning_rate * self.schedule.factor(self.consumed(step + 1))

    def mask_rate_at(self, step: int) -> float:
        """Mask rate of a step (0-based), linear in the tokens before it from `mask_rate` to `mask_rate_end`."""
        if self.mask_rate_end is None:
            return self.mask_rate
        return self.mask_rate + (self.mask_rate_end - self.mask_rate) * self.consumed(step) / self.tokens

    def loader(self, corpus: Corpus, seed: int) -> Loader:
        """The rows of this phase in the order of a seed. Raises ValueError for unknown or too small sources."""
        return Loader(corpus, self.context, self.batches, seed, self.name, self.mixture, self.packing)

    def attention(self, direction: str) -> AttentionSpec:
        """The attention of a model in this phase: bidirectional, causal or prefix, with the phase's rotary bases."""
        return AttentionSpec(direction, self.rope_base_global, self.rope_base_local)


def over_phases(passes: Iterable[dict[str, float]]) -> dict[str, float]:
    """Passes over each source in several phases together."""
    total: dict[str, float] = {}
    for phase in passes:
        for source, count in phase.items():
            total[source] = total.get(source, 0.0) + count
    return total


def plan(recipe: RecipeConfig, peak: float) -> tuple[Phase, ...]:
    """The phases in tokens and steps. Raises ValueError if the shares do not add up to 1, or a phase has no step."""
    total = sum(phase.share for phase in recipe.phases.values())
    if abs(total - 1) > 1e-6:
        raise invalid("recipe.phases.*.share", total, "is the sum of the shares", "make them add up to 1")
    phases = []
    for name, phase in recipe.phases.items():
        batches, steps = _batches(name, phase, recipe.tokens)
        tokens = batches.before(steps) * phase.context
        schedule = Schedule(
            phase.shape,
            tokens,
            warmup=round(phase.warmup_share * tokens),
            decay=round(phase.decay_share * tokens),
            final=phase.final_factor,
        )
        phases.append(
            Phase(
                name,
                phase.prefix,
                steps,
                phase.context,
                batches,
                phase.mask_rate,
                phase.mask_rate_end,
                phase.learning_rate_factor * peak,
                schedule,
                phase.rope_base_global,
                phase.rope_base_local,
                phase.mixture,
                phase.packing,
            )
        )
    return tuple(phases)


def _batches(name: str, phase: PhaseRecipe, run_tokens: int) -> tuple[BatchSchedule, int]:
    """The batches of a phase and the number of its steps, to the nearest whole step of each batch size."""
    if run_tokens == 0:
        return BatchSchedule(phase.batch_rows), 0
    rows, stages, tokens = phase.batch_rows, phase.batch_warmup_stages, run_tokens * phase.share
    stage_steps = 0
    if phase.batch_warmup_share and stages > 1:
        mean_rows = rows / 2  # of the sizes rows/stages … (stages - 1) rows/stages
        stage_steps = round(phase.batch_warmup_share * tokens / (phase.context * mean_rows * (stages - 1)))
    batches = BatchSchedule(rows, stages, stage_steps) if stage_steps else BatchSchedule(rows)
    warm = batches.warmup_steps
    steps = round((tokens / phase.context - batches.before(warm)) / rows)
    if steps < 1:
        raise invalid(
            "recipe.tokens",
            run_tokens,
            f"gives phase {name} no step of {rows} x {phase.context} tokens"
            + (f" after {warm} steps of smaller batches" if warm else ""),
            f"give at least {int(rows * phase.context / phase.share / (1 - phase.batch_warmup_share)) + 1} tokens, "
            "or a smaller batch or context",
        )
    return batches, warm + steps
