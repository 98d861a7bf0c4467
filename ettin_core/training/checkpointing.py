"""The progress of a run on disk: continuing from the last whole checkpoint, saving, finishing."""

from dataclasses import asdict, replace
from typing import Any

import torch
from tqdm import tqdm

from ettin_core.checkpoints import native
from ettin_core.checkpoints.retention import prune
from ettin_core.data.corpus import Corpus
from ettin_core.foundation.errors import invalid
from ettin_core.foundation.storage import sync_file, write_json
from ettin_core.foundation.strict_config import build
from ettin_core.model.adapter import trained, weights
from ettin_core.records.readout import name_of
from ettin_core.training.config import ENVIRONMENT, RunConfig
from ettin_core.training.environment import differences, sentences
from ettin_core.training.monitor import truncate_rows
from ettin_core.training.phases import Phase, over_phases
from ettin_core.training.progress import Progress
from ettin_core.training.setup import Session


def resume(session: Session) -> Progress:
    """Continue from the last whole checkpoint, or save step 0 and begin; adds this session's environment.

    Raises ValueError if code, libraries, device or numerics are not those of the run's last session, unless
    `placement.allow_mismatch` names what differs.
    """
    progress = _restore(session)
    now = session.environment
    if progress.sessions:
        _check_environment(session, progress.sessions[-1], now)
    return replace(progress, sessions=(*(text for text in progress.sessions if text != now), now))


def _check_environment(session: Session, before: str, now: str) -> None:
    changes = {name: fields for name, fields in differences([before], [now]).items() if name in ENVIRONMENT}
    if any(name not in session.placement.allow_mismatch for name in changes):
        raise invalid(
            "resume",
            session.folder.name,
            f"would mix environments ({'; '.join(sentences(changes, 'was', 'is'))})",
            f"go back to those, or continue all the same with placement.allow_mismatch=[{','.join(changes)}]",
        )


def _restore(session: Session) -> Progress:
    """The progress of the last whole checkpoint, with its weights and optimiser state put back."""
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
    session.temporary_checkpoints = [path for path in native.ordered(folder.checkpoints) if not run.is_kept(path.name)]
    if progress.step == run.phases[progress.phase].steps and progress.phase + 1 < len(run.phases):
        return replace(progress, phase=progress.phase + 1, step=0)
    return progress


def save(session: Session, phase: Phase, progress: Progress) -> None:
    """Write the checkpoint of this step, and delete temporary ones beyond the newest few."""
    name = f"{phase.prefix}{progress.step}"
    if session.group.is_main:
        sync_file(session.folder.metrics_file)  # the rows that a checkpoint counts must be on the disk before it
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
        if not session.run.is_kept(name):
            session.temporary_checkpoints.append(path)
        session.temporary_checkpoints = prune(session.temporary_checkpoints, session.run.checkpoint.keep_last)
    session.group.barrier()


def _adapter_values(session: Session) -> dict[str, torch.Tensor]:
    """The adapter's matrices, which the merged weights do not show; only resuming reads them."""
    if session.run.adapter is None:
        return {}
    return {f"{name}/{native.VALUE}": parameter for name, parameter in trained(session.model).items()}


def finish(session: Session, progress: Progress) -> dict[str, Any]:
    """Write the data order, then the summary, which marks the run complete."""
    run, folder, corpus = session.run, session.folder, session.corpus
    summary = {
        "run": run.name,
        "member": run.member,
        "size": run.size,
        "seed": run.seeds.initialisation,
        "direction": run.readout[0],
        "objective": run.readout[1],
        "readout": name_of(run.read_as),
        "parent": " + ".join(dict.fromkeys(parent.run for parent in run.parents)) or None,
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
    """Passes over every source, by phase and in all, and the share of each phase's row positions that held text."""
    phases, repeats = {}, []
    for phase in run.phases:
        loader = phase.loader(corpus, run.seeds.order)
        repeats.append(loader.repeats(phase.rows))
        phases[phase.name] = {"packing": phase.packing, "repeats": repeats[-1], "utilisation": loader.utilisation}
    return {"phases": phases, "repeats": over_phases(repeats)}


def _report(message: str) -> None:
    tqdm.write(message)
