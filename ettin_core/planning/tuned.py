"""A tuned model as a run: no step of ours, its weights those of a transformers folder, its parent the run that was tuned."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ettin_core.checkpoints.retention import CheckpointConfig
from ettin_core.planning.merging import MergeSource, last_phase
from ettin_core.training.config import RunConfig
from ettin_core.training.parents import Parent
from ettin_core.training.phases import RecipeConfig

if TYPE_CHECKING:
    import torch


def tuned_run(base: MergeSource, member: str, how: str, folder: Path) -> "tuple[RunConfig, dict[str, torch.Tensor]]":
    """The run of a tuned folder, and its weights; `how` says in its configuration what was done to the base."""
    from ettin_core.checkpoints.native import hash_tensors  # with torch
    from ettin_core.interop import huggingface

    weights = huggingface.load(str(folder), None)[0].state_dict()
    run = replace(
        base.run,
        member=member,
        recipe=RecipeConfig(0, {"tuned": last_phase(base, "tuned")}),
        checkpoint=CheckpointConfig(),
        parent=Parent(base.parent.run, how, hash_tensors(weights)),
        adapter=None,
        merge=None,
    )
    return run, weights
