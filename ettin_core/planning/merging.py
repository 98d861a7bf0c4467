"""A merged model: a run of no step whose weights are made of those of complete runs, its parents.

Direction, objective, seeds and optimizer are the first parent's. Context and rotary bases are those of that parent's
checkpoint.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ettin_core.checkpoints.retention import CheckpointConfig
from ettin_core.foundation.errors import invalid, unknown
from ettin_core.foundation.strict_config import differences
from ettin_core.planning.conversion import hash_of_weights
from ettin_core.planning.run_plan import open_run
from ettin_core.records.folders import RunFolder
from ettin_core.training.config import RunConfig
from ettin_core.training.parents import Merge, Parent
from ettin_core.training.phases import Phase, PhaseRecipe, RecipeConfig

if TYPE_CHECKING:
    import torch

AT = "@"  # between a run and a checkpoint of it


@dataclass(frozen=True)
class MergeSource:
    """A checkpoint that is merged, as it is asked for and with its run."""

    text: str
    folder: RunFolder
    run: RunConfig
    parent: Parent

    @property
    def tokenizer(self) -> str:
        """The hash of the tokenizer of the run's corpus."""
        return str(self.folder.summary()["tokenizer"])

    @property
    def past(self) -> tuple[Phase, ...]:
        """The phases behind the checkpoint."""
        name = self.parent.checkpoint
        number = next(n for n, phase in enumerate(self.run.phases) if name.removeprefix(phase.prefix).isdigit())
        return self.run.phases[: number + 1]

    def weights(self) -> "dict[str, torch.Tensor]":
        """The checkpoint's weights. Raises ValueError if they are damaged, or others than when the merge was planned."""
        from ettin_core.checkpoints import native  # with torch

        weights = native.load(self.folder.checkpoints / self.parent.checkpoint, self.parent.run).model
        if native.hash_tensors(weights) != self.parent.weights:
            raise invalid("parents", self.text, "has other weights than it records", "train or convert that run again")
        return weights


def source(text: str) -> MergeSource:
    """The checkpoint that `<run>` (its last) or `<run>@<checkpoint>` names.

    Raises ValueError for a run that is missing or not complete, and for a checkpoint that it does not hold.
    """
    place, _, checkpoint = text.rpartition(AT)
    if not place or "/" in checkpoint or checkpoint.startswith("."):  # a folder of the path has the sign in its name
        place, checkpoint = text, ""
    folder, run = open_run(place)
    summary = folder.summary()
    last = summary["final_checkpoint"]
    name = checkpoint or last
    names = [item.name for item in folder.checkpoints.glob("[!.]*")]
    known = sorted(item for item in names if any(item.removeprefix(phase.prefix).isdigit() for phase in run.phases))
    if name not in known:
        raise unknown("checkpoint", name, f"is not a checkpoint of {folder.name}", known)
    weights = summary["final_weights"] if name == last else hash_of_weights(folder.checkpoints / name, summary["run"])
    return MergeSource(text, folder, run, Parent(summary["run"], name, weights))


def merged_run(
    method: str,
    sources: Sequence[MergeSource],
    weights: Sequence[float],
    base: MergeSource | None,
    density: float | None,
) -> RunConfig:
    """The run of a merged model. Raises ValueError for sources of other shapes or other text, and for one given twice."""
    first = sources[0]
    for field, second in [*(("parents", item) for item in sources[1:]), *([("base", base)] if base else [])]:
        _check_alike(field, first, second)
    parents = tuple(item.parent for item in sources)
    for number, item in enumerate(sources):
        if item.parent in parents[:number]:
            raise invalid("parents", item.text, "is given twice", "name each checkpoint once, and give it its weight")
    return replace(
        first.run,
        member=f"merge-{method}",
        recipe=RecipeConfig(0, {"merge": last_phase(first, "merge")}),
        checkpoint=CheckpointConfig(),
        parent=None,
        adapter=None,
        merge=Merge(method, parents, tuple(weights), None if base is None else base.parent, density),
    )


def last_phase(first: MergeSource, prefix: str) -> PhaseRecipe:
    """The phase of a run of no step that reads as a checkpoint does: its context, mask rate, bases and mixture."""
    last = first.past[-1]
    return PhaseRecipe(
        1.0,
        max(item.context for item in first.past),
        1,
        prefix,
        mask_rate=last.mask_rate if last.mask_rate_end is None else last.mask_rate_end,
        rope_base_global=last.rope_base_global,
        rope_base_local=last.rope_base_local,
        mixture=last.mixture,
    )


def _check_alike(field: str, first: MergeSource, second: MergeSource) -> None:
    """Raises ValueError if two checkpoints are of other shapes, or were trained on another corpus."""
    for name, (theirs, wanted) in differences(second.run.model, first.run.model).items():
        problem = f"has {name}={theirs}, and {first.text} has {wanted}"
        raise invalid(field, second.text, problem, "merge runs of one size")
    if second.tokenizer != first.tokenizer:
        problem = f"was trained with another tokenizer than {first.text}"
        raise invalid(field, second.text, problem, "merge runs of one corpus")
    if second.run.fingerprint != first.run.fingerprint:
        problem = f"was trained on {second.run.corpus}, and {first.text} on {first.run.corpus}"
        raise invalid(field, second.text, problem, "merge runs of one corpus")


def merged_weights(
    run: RunConfig, sources: Sequence[MergeSource], base: MergeSource | None
) -> "dict[str, torch.Tensor]":
    """The weights of a merged model."""
    from ettin_core.checkpoints.merging import merged  # with torch

    assert run.merge is not None
    models = [item.weights() for item in sources]
    return merged(
        run.merge.method, models, run.merge.weights, None if base is None else base.weights(), run.merge.density
    )
