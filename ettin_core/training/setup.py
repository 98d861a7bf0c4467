"""The setup of training: checks before anything is written, and a session that is the same on every process."""

from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import yaml
from torch import nn

from ettin_core.checkpoints import native
from ettin_core.data.corpus import Corpus
from ettin_core.foundation.distributed import ProcessGroup, choose_device
from ettin_core.foundation.errors import invalid
from ettin_core.foundation.fields import check_threads
from ettin_core.foundation.provenance import provenance
from ettin_core.foundation.storage import read_mapping, write_json, write_text
from ettin_core.foundation.strict_config import plain
from ettin_core.model.accounting import built_shape
from ettin_core.model.adapter import add_adapter, check_installed, trained
from ettin_core.model.config import ModelConfig
from ettin_core.model.leak_check import check_no_leak
from ettin_core.model.transformer import Transformer
from ettin_core.objectives.targets import Vocabulary
from ettin_core.optim.build import build_update
from ettin_core.optim.update import Update
from ettin_core.records.folders import RunFolder
from ettin_core.records.precision_choice import find_choice
from ettin_core.training.config import PlacementConfig, RunConfig
from ettin_core.training.environment import describe, read
from ettin_core.training.loss_module import LossModule
from ettin_core.training.parallel import parallelize
from ettin_core.training.phases import over_phases
from ettin_core.training.step import TrainState
from ettin_core.training.trackers import check_trackers


@dataclass
class Session:
    """What does not change while a run trains, and the checkpoints that may still be pruned.

    `built`, `parameters` and `trained_parameters` are counted from the model that was built.
    """

    run: RunConfig
    folder: RunFolder
    corpus: Corpus
    placement: PlacementConfig
    group: ProcessGroup
    device: torch.device
    environment: str
    vocabulary: Vocabulary
    model: Transformer
    built: ModelConfig
    parameters: int
    trained_parameters: int
    parallel_model: nn.Module
    update: Update
    initial_weights: str
    temporary_checkpoints: list[Path]

    @property
    def state(self) -> TrainState:
        """What a step changes."""
        return TrainState(self.parallel_model, self.update, self.group, self.device)


def check_fit(run: RunConfig, corpus: Corpus, placement: PlacementConfig, group: ProcessGroup) -> None:
    """Raises ValueError, before anything is written, if a run does not fit its corpus or its placement."""
    if corpus.fingerprint != run.fingerprint:
        raise invalid("corpus", corpus.name, "is not the corpus this run was planned on", "plan the run again")
    if corpus.tokenizer.vocab_size > run.model.vocab_size:
        raise invalid(
            "model.vocab_size",
            run.model.vocab_size,
            f"is smaller than the tokenizer's {corpus.tokenizer.vocab_size} ids",
            f"use {corpus.tokenizer.vocab_size} or more",
        )
    if run.adapter is not None:
        check_installed()
        if placement.parallel == "fsdp":
            raise invalid("placement.parallel", "fsdp", "does not divide adapters", "use placement.parallel=ddp")
    check_threads("placement.threads", placement.threads)
    _check_enough_text(run, corpus)
    for phase in run.phases:
        for rows in phase.batches.sizes:
            placement.micro_batches(rows, group.world_size)
    choose_device(placement.device, group)
    if group.is_main:
        check_trackers(placement.trackers)


def _check_enough_text(run: RunConfig, corpus: Corpus) -> None:
    asked = {phase.name: phase.loader(corpus, run.seeds.order).repeats_asked(phase.rows) for phase in run.phases}
    passes = over_phases(asked.values())
    worst = max(passes, key=passes.__getitem__)
    if passes[worst] > run.recipe.max_epochs:
        by_phase = ", ".join(f"{phase} {of[worst]:.1f}" for phase, of in asked.items() if worst in of)
        raise invalid(
            "recipe.tokens",
            run.recipe.tokens,
            f"passes {passes[worst]:.1f} times over source {worst!r} ({corpus.tokens(worst, 'train')} "
            f"tokens; {by_phase}), more than recipe.max_epochs={run.recipe.max_epochs}",
            "give more text, fewer tokens, or raise recipe.max_epochs",
        )


def open_session(
    run: RunConfig,
    folder: RunFolder,
    corpus: Corpus,
    placement: PlacementConfig,
    group: ProcessGroup,
    parent_weights: dict[str, torch.Tensor] | None,
) -> Session:
    """Build the model, its update and what surrounds them, from the same start on every process.

    Raises LeakError if a query of the model sees a key that its mask hides.
    """
    device = choose_device(placement.device, group)
    environment = describe(run, placement, group, device)
    if group.is_main:
        _write_origin(run, folder, placement, environment)
    model = Transformer(run.model, run.seeds.initialisation, placement.attention)
    model.recompute = placement.recompute
    if parent_weights is not None:
        model.load_state_dict(parent_weights)
    initial_weights = native.hash_tensors(model.state_dict())
    built, parameters = built_shape(model), sum(parameter.numel() for parameter in model.parameters())
    if run.adapter is not None:
        add_adapter(model, run.adapter, run.seeds.initialisation)
    torch.set_num_threads(placement.threads)
    loss_module = LossModule(model, placement.compile).to(device)
    for attention in {phase.attention(visibility) for phase in run.phases for visibility in run.visibilities}:
        check_no_leak(model, attention, loss_module.forward_model)
    return Session(
        run=run,
        folder=folder,
        corpus=corpus,
        placement=placement,
        group=group,
        device=device,
        environment=environment,
        vocabulary=Vocabulary.of(corpus.tokenizer),
        model=model,
        built=built,
        parameters=parameters,
        trained_parameters=sum(parameter.numel() for parameter in trained(model).values()),
        parallel_model=parallelize(loss_module, placement, group, device, run.precision),
        update=build_update(run.optimizer, model, run.top_rate),
        initial_weights=initial_weights,
        temporary_checkpoints=[],
    )


def _write_origin(run: RunConfig, folder: RunFolder, placement: PlacementConfig, environment: str) -> None:
    """Write the run's configuration and its provenance: code, machine, placement and environment."""
    choice = None if run.merge else find_choice(folder.path.parent, run.size, placement.device)
    write_text(folder.config_file, yaml.safe_dump(run.plain, sort_keys=False))
    origin = provenance() | {"placement": asdict(placement), "environment": read(environment)}
    if choice is not None and choice.precision == run.precision:
        origin["precision"] = asdict(choice)
    if run.merge is not None:
        origin["merge"] = plain(run.merge)
    if folder.beginning_file.exists():
        origin["began_as"] = read_mapping(folder.beginning_file)
    write_json(folder.path / "provenance.json", origin)
