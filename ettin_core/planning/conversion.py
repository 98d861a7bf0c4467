"""A conversion: a run that starts from the weights of a complete run, its parent, under another direction or objective."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ettin_core.checkpoints.retention import CheckpointConfig
from ettin_core.foundation.errors import invalid, unknown
from ettin_core.model.config import AdapterConfig
from ettin_core.objectives.config import ObjectiveConfig
from ettin_core.objectives.kinds import OBJECTIVES
from ettin_core.planning.plan_checks import check_plan
from ettin_core.planning.run_plan import MemberConfig
from ettin_core.records.folders import RunFolder, folder_of
from ettin_core.training.config import RunConfig
from ettin_core.training.parents import Parent
from ettin_core.training.phases import Phase, PhaseRecipe, RecipeConfig

if TYPE_CHECKING:
    import torch

STARTS = {
    "after_decay": 1,
    "before_decay": 2,
}  # which of the parent's phases, from the end, the conversion starts after


@dataclass(frozen=True)
class Conversion:
    """How a parent is converted: into which member, for which share of its tokens, from where, and what is trained.

    `start` is the end of the parent's last phase (after_decay) or of the phase before it (before_decay). A `budget` of 0
    exchanges the mask and trains nothing; `tokens` is a budget as a number. With an `adapter` only that is trained. `seed`
    is that of order and masks. The seed of the initialisation stays the parent's, as the initial weights do.
    """

    member: MemberConfig
    recipe: RecipeConfig
    budget: float
    seed: int
    checkpoint: CheckpointConfig
    start: str = "after_decay"
    adapter: AdapterConfig | None = None
    tokens: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.budget < float("inf"):
            raise invalid("budget", self.budget, "is not a share of the parent's tokens", "use e.g. 0.1, or 0 for none")
        if self.start not in STARTS:
            raise unknown("start", self.start, "is not a start of a conversion", STARTS)
        if self.tokens is not None and self.tokens < 1:
            raise invalid("tokens", self.tokens, "is not positive", "give a number, or budget=0 to train nothing")
        if not self.trains and self.adapter is not None:
            raise invalid("adapter", "lora", "has no step to be trained in with budget=0", "use adapter=none")

    @property
    def trains(self) -> bool:
        """Whether there is a step."""
        return self.tokens is not None or self.budget > 0

    def plan(self, parent: RunConfig) -> RunConfig:
        """The conversion's run without its starting weights: enough to check it before the parent is trained.

        Raises ValueError if the parent is such a member already, has no phase to start before, or was never trained.
        """
        if self.trains and self.tokens is None and not parent.tokens:
            problem = "has no step of training, so a share of its tokens is not a budget"
            raise invalid("parent", parent.name, problem, "give tokens=<number>, or convert its parent")
        phases = self._phases(parent)
        if self._changes_nothing(parent, phases):
            raise invalid("member", self.member.name, f"is what {parent.name} already is", "convert to another member")
        run = replace(
            parent,
            member=self.member.name,
            direction=self.member.direction,
            objective=self.member.objective,
            recipe=replace(self.recipe, tokens=self._tokens(parent, phases), phases=phases),
            seeds=replace(parent.seeds, order=self.seed, masks=self.seed),
            checkpoint=self.checkpoint,
            parent=None,
            merge=None,
            adapter=self.adapter,
        )
        return check_plan(run)

    def of(self, parent: RunConfig, folder: RunFolder) -> RunConfig:
        """The conversion's run from a checkpoint of a complete parent.

        Raises ValueError if the parent is not complete, or its checkpoint is missing.
        """
        run, summary, phase = self.plan(parent), folder.summary(), self._before(parent)
        name = f"{phase.prefix}{phase.steps}"
        if name == summary["final_checkpoint"]:
            weights = summary["final_weights"]
        elif (folder.checkpoints / name).is_dir():
            weights = hash_of_weights(folder.checkpoints / name, folder.name)
        else:
            problem = f"needs the checkpoint {name} of {folder.name}, which is missing"
            raise invalid("start", self.start, problem, "restore it, or use start=after_decay")
        return replace(run, parent=Parent(summary["run"], name, weights))

    def _changes_nothing(self, parent: RunConfig, phases: dict[str, PhaseRecipe]) -> bool:
        """Whether the parent was last trained in the same way; without a step, rates and shares do not count."""
        member, before = self.member, self._before(parent)
        if not self.trains:
            same = (parent.direction, parent.objective.name, parent.objective.parts)
            return same == (member.direction, member.objective.name, member.objective.parts)
        last = before.mask_rate if before.mask_rate_end is None else before.mask_rate_end
        rates = {phase.mask_rate for phase in phases.values()}
        rates |= {phase.mask_rate_end for phase in phases.values() if phase.mask_rate_end is not None}
        wanted = _trained_for(member.direction, member.objective, rates)
        return wanted == _trained_for(parent.direction, parent.objective, {last})

    def _before(self, parent: RunConfig) -> Phase:
        """The parent's phase at whose end the conversion starts."""
        if len(parent.phases) < STARTS[self.start]:
            problem = f"needs a phase before the last, and {parent.name} has one phase only"
            raise invalid("start", self.start, problem, "use start=after_decay")
        return parent.phases[-STARTS[self.start]]

    def _phases(self, parent: RunConfig) -> dict[str, PhaseRecipe]:
        """The recipe's phases on the parent's last mixture; without a step, one phase with the parent's context and bases.

        The rotary bases of a parent that was not trained here are kept as well.
        """
        before, mixture = self._before(parent), parent.phases[-1].mixture
        phases = {name: replace(phase, mixture=phase.mixture or mixture) for name, phase in self.recipe.phases.items()}
        if not self.trains or not parent.tokens:
            phases = {
                name: replace(phase, rope_base_global=before.rope_base_global, rope_base_local=before.rope_base_local)
                for name, phase in phases.items()
            }
        if self.trains:
            return phases
        name, phase = phases.popitem()
        return {name: replace(phase, share=1.0, context=before.context)}

    def _tokens(self, parent: RunConfig, phases: dict[str, PhaseRecipe]) -> int:
        """Tokens of the budget. Raises ValueError if they are less than a step of some phase."""
        if self.tokens is not None:
            return self.tokens
        tokens = round(self.budget * parent.tokens)
        for phase in phases.values():
            least = phase.batch_rows * phase.context / phase.share
            if self.budget and tokens < least / 2:
                problem = f"is {tokens} tokens, less than a step of {phase.batch_rows} x {phase.context}"
                raise invalid("budget", self.budget, problem, f"use {least / parent.tokens:.2g} or more, or 0 for none")
        return tokens


def _trained_for(direction: str, objective: ObjectiveConfig, rates: set[float]) -> tuple[object, ...]:
    """What a model learns: direction, objective, and the shares that are corrupted or scored, where they matter."""
    components = objective.under(direction)
    corrupts = {OBJECTIVES[component.objective].corrupts for component in components}
    corruption = (objective.mask_share, objective.random_share, rates) if True in corrupts else None
    return direction, objective.name, components, corruption, objective.scored_share if False in corrupts else None


def hash_of_weights(checkpoint: Path, run: str) -> str:
    """The hash of a checkpoint's weights, after its files were checked."""
    from ettin_core.checkpoints import native  # with torch

    return native.hash_tensors(native.load(checkpoint, run).model)


def parent_weights(run: RunConfig, runs_dir: Path) -> "dict[str, torch.Tensor] | None":
    """The starting weights of a conversion, checked against the hash its configuration names (None: no parent)."""
    if run.parent is None:
        return None
    from ettin_core.checkpoints import native  # with torch

    checkpoints = folder_of(run.parent.run, runs_dir).checkpoints
    weights = native.load(checkpoints / run.parent.checkpoint, run.parent.run).model
    if native.hash_tensors(weights) != run.parent.weights:
        raise invalid("parent", run.parent.run, "has other weights than the conversion names", "convert it again")
    return weights
