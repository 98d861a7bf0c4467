"""Tiny runs for tests, built without Hydra."""

from dataclasses import replace
from pathlib import Path

from ettin_core.checkpoints.retention import CheckpointConfig
from ettin_core.data.corpus import Corpus
from ettin_core.data.loader import Batch
from ettin_core.foundation import source_code
from ettin_core.foundation.distributed import ProcessGroup
from ettin_core.model.config import ModelConfig
from ettin_core.objectives.assign import component_targets
from ettin_core.objectives.config import Component, ObjectiveConfig
from ettin_core.objectives.targets import Masking, Targets, Vocabulary
from ettin_core.optim.config import OptimizerConfig
from ettin_core.records.folders import RunFolder
from ettin_core.training.config import PlacementConfig, RunConfig
from ettin_core.training.loop import train
from ettin_core.training.phases import PhaseRecipe, RecipeConfig

MEMBERS = {
    "encoder": ("bidirectional", "mlm"),
    "decoder": ("causal", "clm"),
    "mntp": ("bidirectional", "mntp"),
}
DIRECTION_OF = {"mlm": "bidirectional", "mntp": "bidirectional", "clm": "causal"}  # where each objective is at home
PLACEMENT = PlacementConfig(device="cpu", threads=1, log_every=3)


def tiny_run(corpus: Corpus, member: str = "encoder", **changes: object) -> RunConfig:
    """A run of two short phases (12 and 5 steps of 8 rows) whose context and rotary bases change in between."""
    direction, objective = MEMBERS[member]
    phases = {
        "pretrain": PhaseRecipe(0.6, 48, 8, "step", warmup_share=0.25),
        "decay": PhaseRecipe(
            0.4, 80, 8, "decay", "one_minus_sqrt", final_factor=0.1, mask_rate=0.15, rope_base_global=160_000.0
        ),
    }
    run = RunConfig(
        member=member,
        size="tiny",
        direction=direction,
        objective=ObjectiveConfig(objective),
        model=ModelConfig(-(-corpus.tokenizer.vocab_size // 64) * 64, 32, 4, 2, 48, local_window=16),
        recipe=RecipeConfig(7680, phases),
        optimizer=OptimizerConfig("stable_adamw", 3e-3, 3e-4),
        corpus=corpus.name,
        fingerprint=corpus.fingerprint,
        checkpoint=CheckpointConfig(every_steps=4),
    )
    return replace(run, **changes)  # type: ignore[arg-type]


def targets_of(objective: str, batch: Batch, vocabulary: Vocabulary, masking: Masking, key: int) -> Targets:
    """The targets of an objective under the direction it is at home in."""
    return component_targets(Component(objective, DIRECTION_OF[objective]), batch, vocabulary, masking, key)


def train_tiny(
    run: RunConfig,
    root: Path,
    corpus: Corpus,
    stop_after: int | None = None,
    placement: PlacementConfig = PLACEMENT,
) -> RunFolder:
    """Train (or continue) a run in this process."""
    folder = RunFolder(root / run.name)
    train(run, folder, corpus, placement, ProcessGroup(), stop_after=stop_after)
    return folder


def final_state(folder: RunFolder) -> dict[str, bytes]:
    """The bytes that must be reproduced: weights, optimiser, metrics; and the state but for its wall clock."""
    last = folder.checkpoints / str(folder.summary()["final_checkpoint"])
    state = "\n".join(line for line in (last / "state.json").read_text().splitlines() if '"seconds"' not in line)
    return {
        "model": (last / "model.safetensors").read_bytes(),
        "optimizer": (last / "optimizer.safetensors").read_bytes(),
        "metrics": folder.metrics_file.read_bytes(),
        "data_order": folder.data_order_file.read_bytes(),
        "state": state.encode(),
    }


def edit(code: Path, module: str, text: str) -> None:
    """Add lines to a module of a copy of the library's code (the fixture `code`), or write a new one."""
    with (code / f"{module.replace('.', '/')}.py").open("a") as file:
        file.write(f"\n{text}\n")
    source_code._module.cache_clear()
