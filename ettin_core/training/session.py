"""A session of a run: opening it from the same start everywhere, resuming, saving, finishing."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import nn
from tqdm import tqdm

from ettin_core.checkpoints import native
from ettin_core.checkpoints.retention import prune
from ettin_core.data.corpus import Corpus
from ettin_core.foundation.distributed import ProcessGroup, choose_device
from ettin_core.foundation.errors import invalid
from ettin_core.foundation.fields import check_threads
from ettin_core.foundation.provenance import provenance
from ettin_core.foundation.storage import read_mapping, sync_file, write_json, write_text
from ettin_core.foundation.strict_config import build
from ettin_core.model.accounting import built_shape
from ettin_core.model.adapter import add_adapter, check_installed, trained, weights
from ettin_core.model.config import ModelConfig
from ettin_core.model.leak_check import check_no_leak
from ettin_core.model.transformer import Transformer
from ettin_core.objectives.targets import Vocabulary
from ettin_core.optim.build import build_update
from ettin_core.optim.update import Update
from ettin_core.records.folders import RunFolder
from ettin_core.records.readout import name_of
from ettin_core.training.config import ENVIRONMENT, PlacementConfig, RunConfig
from ettin_core.training.environment import describe, differences, read, sentences
from ettin_core.training.loss_module import LossModule
from ettin_core.training.monitor import truncate_rows
from ettin_core.training.parallel import parallelize
from ettin_core.training.phases import Phase, over_phases
from ettin_core.training.progress import Progress
from ettin_core.training.step import TrainState
from ettin_core.training.trackers import check_trackers


@dataclass
class Session:
    """What stays put while a run trains, and the checkpoints that may still be pruned.

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
    """Refuse (ValueError), before anything is written, a run that its corpus or placement cannot carry."""
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
    """Build everything that stays, from the same start on every process; refuses to train on a mask leak."""
    device = choose_device(placement.device, group)
    environment = describe(run, placement, group, device)
    if group.is_main:
        write_text(folder.config_file, yaml.safe_dump(run.plain, sort_keys=False))
        origin = provenance() | {"placement": asdict(placement), "environment": read(environment)}
        if folder.beginning_file.exists():
            origin["began_as"] = read_mapping(folder.beginning_file)
        write_json(folder.path / "provenance.json", origin)
    model = Transformer(run.model, run.seeds.initialisation, placement.attention)
    model.recompute = placement.recompute
    if parent_weights is not None:
        model.load_state_dict(parent_weights)
    initial_weights = native.hash_tensors(model.state_dict())
    built, parameters = built_shape(model), sum(parameter.numel() for parameter in model.parameters())
    if run.adapter is not None:
        add_adapter(model, run.adapter, run.seeds.initialisation)
    trained_parameters = sum(parameter.numel() for parameter in trained(model).values())
    torch.set_num_threads(placement.threads)
    loss_module = LossModule(model, placement.compile).to(device)
    for view in {phase.view(asked) for phase in run.phases for asked in run.views}:
        check_no_leak(model, view, loss_module.forward_model)
    parallel_model = parallelize(loss_module, placement, group, device)
    return Session(
        run,
        folder,
        corpus,
        placement,
        group,
        device,
        environment,
        Vocabulary.of(corpus.tokenizer),
        model,
        built,
        parameters,
        trained_parameters,
        parallel_model,
        build_update(run.optimizer, model, run.top_rate),
        initial_weights,
        temporary_checkpoints=[],
    )


def resume(session: Session) -> Progress:
    """Continue from the last whole checkpoint, or write step 0 and begin; this session's environment is noted.

    Raises ValueError when code, libraries, device or numerics are not those the run was last trained with, unless
    `placement.allow_mismatch` names what differs.
    """
    progress = _resume(session)
    here = session.environment
    if progress.sessions:
        _check_environment(session, progress.sessions[-1], here)
    return replace(progress, sessions=(*(text for text in progress.sessions if text != here), here))


def _check_environment(session: Session, before: str, here: str) -> None:
    found = {name: fields for name, fields in differences([before], [here]).items() if name in ENVIRONMENT}
    if any(name not in session.placement.allow_mismatch for name in found):
        told = "; ".join(sentences(found, "was", "is"))
        raise invalid(
            "resume",
            session.folder.name,
            f"would mix environments ({told})",
            f"go back to those, or continue all the same with placement.allow_mismatch=[{','.join(found)}]",
        )


def _resume(session: Session) -> Progress:
    folder, run = session.folder, session.run
    checkpoint = native.latest(folder.checkpoints, run.name, _report) if session.group.is_main else None
    name = session.group.share(checkpoint.name if checkpoint else None)  # one process chooses for all
    if name is None:
        if session.group.is_main:
            truncate_rows(folder.metrics_file, 0)
        save(session, run.phases[0], Progress())
        return Progress()
    checkpoint = native.Checkpoint(folder.checkpoints / name)
    if run.adapter is None:
        checkpoint.restore(session.model, session.update.optimizer)
    else:  # the frozen weights are the parent's, as at the start
        checkpoint.restore_trained(session.model, session.update.optimizer)
    progress = build(Progress, checkpoint.state)
    if session.group.is_main:
        truncate_rows(folder.metrics_file, progress.metric_rows)
        _report(f"{folder.name}: continuing from {checkpoint.name} ({progress.tokens:,} tokens)")
    session.temporary_checkpoints = [path for path in native.ordered(folder.checkpoints) if not run.lasts(path.name)]
    if progress.step == run.phases[progress.phase].steps and progress.phase + 1 < len(run.phases):
        return replace(progress, phase=progress.phase + 1, step=0)
    return progress


def save(session: Session, phase: Phase, progress: Progress) -> None:
    """Write the checkpoint of this moment and prune the ones that need not stay."""
    name = f"{phase.prefix}{progress.step}"
    if session.group.is_main:
        sync_file(session.folder.metrics_file)  # rows that the checkpoint counts must not be younger than it
    path = native.save(
        session.folder.checkpoints,
        name,
        weights(session.model),
        native.optimizer_tensors(session.update.optimizer, session.model) | _adapter_values(session),
        asdict(progress),
        session.run.name,
        session.group,
    )
    if session.group.is_main:
        if not session.run.lasts(name):
            session.temporary_checkpoints.append(path)
        session.temporary_checkpoints = prune(session.temporary_checkpoints, session.run.checkpoint.keep_last)
    session.group.barrier()


def _adapter_values(session: Session) -> dict[str, torch.Tensor]:
    """The adapter's matrices, which the merged weights do not tell: what only resuming reads."""
    if session.run.adapter is None:
        return {}
    return {f"{name}/{native.VALUE}": parameter for name, parameter in trained(session.model).items()}


def finish(session: Session, progress: Progress) -> dict[str, Any]:
    """Write the data order and the summary, which marks the run complete."""
    run, folder, corpus = session.run, session.folder, session.corpus
    summary = {
        "run": run.name,
        "member": run.member,
        "size": run.size,
        "seed": run.seeds.initialisation,
        "direction": run.readout[0],
        "objective": run.readout[1],
        "readout": name_of(run.read_as),
        "parent": run.parent.run if run.parent else None,
        "corpus": corpus.name,
        "corpus_kind": corpus.manifest["kind"],
        "fingerprint": corpus.fingerprint,
        "tokenizer": corpus.tokenizer.hash,
        "tokens": progress.tokens,
        "loss_tokens": progress.loss_tokens,
        "flops": progress.flops,
        "seconds": round(progress.seconds, 1),
        "parameters": session.parameters,
        "trained_parameters": session.trained_parameters,
        "initial_weights": session.initial_weights,
        "final_weights": native.hash_tensors(weights(session.model)),
        "final_checkpoint": f"{run.phases[-1].prefix}{run.phases[-1].steps}",
        "data_hash": progress.data_hash,
        "sessions": list(progress.sessions),
    }
    if session.group.is_main:
        hashes = {row.step: row.data_hash for row in folder.training()}
        write_json(
            folder.data_order_file,
            {"fingerprint": corpus.fingerprint} | _sampling(run, corpus) | {"steps": hashes},
        )
        folder.finish(summary)
    session.group.barrier()
    return summary


def _sampling(run: RunConfig, corpus: Corpus) -> dict[str, Any]:
    """What was drawn: passes over every source in each phase and in all, and how much of a phase's rows was text."""
    phases, repeats = {}, []
    for phase in run.phases:
        loader = phase.loader(corpus, run.seeds.order)
        repeats.append(loader.repeats(phase.rows))
        phases[phase.name] = {"packing": phase.packing, "repeats": repeats[-1], "utilisation": loader.utilisation}
    return {"phases": phases, "repeats": over_phases(repeats)}


def _report(message: str) -> None:
    tqdm.write(message)
