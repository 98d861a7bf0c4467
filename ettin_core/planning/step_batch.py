"""The exact global batch of any step of a run, as each objective presents it, and the hash of the data up to a step."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from tqdm import tqdm

from ettin_core.data.corpus import Corpus
from ettin_core.data.loader import Batch
from ettin_core.foundation.errors import invalid
from ettin_core.foundation.storage import read_json
from ettin_core.objectives.assign import RunPosition, assign_rows, make_targets
from ettin_core.objectives.config import ObjectiveConfig
from ettin_core.objectives.directions import DIRECTIONS
from ettin_core.objectives.kinds import OBJECTIVES
from ettin_core.objectives.targets import Masking, Targets, Vocabulary, mask_key, select
from ettin_core.records.folders import RunFolder
from ettin_core.training.config import RunConfig
from ettin_core.training.phases import Phase
from ettin_core.training.progress import roll


@dataclass(frozen=True)
class ObjectiveView:
    """A batch as an objective presents it to a model.

    `selected` (B, S) bool are the tokens that it chose to corrupt (None: it corrupts none), `special` (B, S) bool the special
    ones. `components` names the objective and direction of each row, where an objective mixes or schedules several.
    """

    objective: str
    batch: Batch
    masking: Masking
    targets: Targets
    selected: np.ndarray | None
    special: np.ndarray
    mask: int
    components: list[str]

    @classmethod
    def through(
        cls,
        config: ObjectiveConfig,
        direction: str,
        batch: Batch,
        vocabulary: Vocabulary,
        rate: float,
        key: int,
        position: RunPosition,
    ) -> "ObjectiveView":
        """The batch through an objective at a position of a run, with a mask rate and the key of the phase's masks."""
        targets = make_targets(config, direction, batch, vocabulary, rate, key, position)
        masking, components = Masking(rate, config.mask_share, config.random_share), config.under(direction)
        assigned = assign_rows(config, components, batch, key, position)
        corrupts = np.array([OBJECTIVES[component.objective].corrupts for component in components])[assigned]
        selected = select(batch, vocabulary, masking, key)[1] & corrupts[:, None] if corrupts.any() else None
        special = np.isin(batch.tokens, vocabulary.special.ids) & batch.real
        of_rows = [components[number] for number in assigned] if config.parts else []
        names = [f"{component.objective}, {component.direction}" for component in of_rows]
        return cls(config.name, batch, masking, targets, selected, special, vocabulary.special.mask, names)

    @cached_property
    def scored(self) -> np.ndarray:
        """Where predictions are read, (B, S) bool."""
        scored = np.zeros(self.batch.tokens.size, dtype=bool)
        scored[self.targets.scored_positions] = True
        return scored.reshape(self.batch.tokens.shape)


class StepBatch:
    """The global batch of a step of a run, with its phase and the place of each row in its source."""

    def __init__(self, run: RunConfig, corpus: Corpus, step: int) -> None:
        """Raises ValueError for a step that the run does not have."""
        self.run, self.corpus, self.step = run, corpus, step
        self.phase, self.phase_step = phase_of(run, step)
        self.loader = self.phase.loader(corpus, run.seeds.order)
        self.batch = self.loader.batch(self.phase_step)
        self.location = self.loader.order.locate(self.batch.rows)

    def through(self, objective: str) -> ObjectiveView:
        """The batch as an objective presents it to a model: under the run's direction, or one under which it does not leak."""
        run, config, direction = self.run, self.run.objective, self.run.direction
        if objective != config.name:
            config = ObjectiveConfig(objective, config.mask_share, config.random_share)
            leaks = OBJECTIVES[objective].leaks_under
            direction = next(name for name in (direction, *DIRECTIONS) if name not in leaks)
        vocabulary = Vocabulary.of(self.corpus.tokenizer)
        key, rate = mask_key(run.seeds.masks, self.phase.name), self.phase.mask_rate_at(self.phase_step)
        return ObjectiveView.through(
            config, direction, self.batch, vocabulary, rate, key, run.position(self.phase, self.phase_step)
        )


def phase_of(run: RunConfig, step: int) -> tuple[Phase, int]:
    """The phase of a global step and the step within it. Raises ValueError beyond the run's end."""
    remaining = step
    for phase in run.phases:
        if 0 <= remaining < phase.steps:
            return phase, remaining
        remaining -= phase.steps
    total = sum(phase.steps for phase in run.phases)
    remedy = f"use 0 to {total - 1}" if total else "view its parent"
    raise invalid("step", step, f"is not a step of the run, which has {total}", remedy)


def recorded_hashes(folder: RunFolder) -> dict[int, str]:
    """The recorded rolling hash of the data by number of steps done: of a complete run, or of the training rows so far."""
    if folder.data_order_file.exists():
        return {int(steps): value for steps, value in read_json(folder.data_order_file)["steps"].items()}
    return {row.step: row.data_hash for row in folder.training()}


def replayed_hash(run: RunConfig, corpus: Corpus, steps: int) -> str:
    """The rolling hash of the first `steps` global batches as the loader gives them now."""
    rolling, remaining = "", steps
    with tqdm(total=steps, desc="replay", unit="step") as bar:
        for phase in run.phases:
            loader = phase.loader(corpus, run.seeds.order)
            for step in range(min(remaining, phase.steps)):
                rolling = roll(rolling, loader.batch(step).digest())
                bar.update()
            remaining = max(0, remaining - phase.steps)
            if not remaining:
                break
    return rolling
