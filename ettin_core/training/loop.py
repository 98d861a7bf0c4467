"""The training loop: phases, steps, checkpoints. Read `train` top to bottom."""

import contextlib
import time
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from ettin_core.data.corpus import Corpus
from ettin_core.data.loader import Batch, Loader
from ettin_core.data.prefetch import feed
from ettin_core.foundation.distributed import ProcessGroup, choose_device
from ettin_core.foundation.exits import AGAIN, StopRequested
from ettin_core.foundation.folders import locked
from ettin_core.foundation.randomness import derive
from ettin_core.objectives.targets import Targets
from ettin_core.records.folders import RunFolder
from ettin_core.training.config import PlacementConfig, RunConfig
from ettin_core.training.diagnostics import diagnose
from ettin_core.training.hardware import peak_flops
from ettin_core.training.memory import check_memory, device_memory
from ettin_core.training.monitor import Monitor, Snapshot
from ettin_core.training.phases import Phase
from ettin_core.training.preemption import PreemptionSignal, Watchdog
from ettin_core.training.progress import Progress, training_row, update_progress
from ettin_core.training.session import Session, check_fit, finish, open_session, resume, save
from ettin_core.training.step import optimizer_step


def train(
    run: RunConfig,
    folder: RunFolder,
    corpus: Corpus,
    placement: PlacementConfig,
    group: ProcessGroup,
    parent_weights: dict[str, torch.Tensor] | None = None,
    stop_after: int | None = None,
) -> dict[str, Any] | None:
    """Train a run to its end, from wherever it stands; returns its summary.

    A complete run is left alone. `parent_weights` are a conversion's starting weights. `stop_after` ends the session
    after so many global steps, as an interruption would, and returns None. Raises ValueError for a corpus or
    configuration that does not fit, LeakError for a broken mask, NonFiniteError before a bad update, and StopRequested
    after SIGTERM, SIGUSR1 or Ctrl-C, with the state of the last step saved.
    """
    if folder.complete:
        return folder.summary()
    check_fit(run, corpus, placement, group)
    check_memory(run, placement, group.world_size, device_memory(choose_device(placement.device, group), group))
    with locked(folder.path) if group.is_main else contextlib.nullcontext():
        session = open_session(run, folder, corpus, placement, group, parent_weights)
        progress = resume(session)
        with (
            _watch(session, progress) as watch,
            PreemptionSignal(group, session.device) as request,
            Watchdog(placement.stall_seconds, run.name) as watchdog,
        ):
            for number in range(progress.phase, len(run.phases)):
                phase = run.phases[number]
                loader = phase.loader(corpus, run.seeds.order)
                progress = replace(progress, phase=number, step=progress.step if number == progress.phase else 0)
                make = partial(_micro_batches, session, phase, loader)
                for micro_batches in feed(make, range(progress.step, phase.steps), placement.workers):
                    progress = train_step(session, phase, loader.sources, micro_batches, progress, watch)
                    watchdog.step()
                    stopping = request.agreed()
                    if stopping or run.checkpoint.due(progress.step, phase.steps, phase.consumed):
                        save(session, phase, progress)
                    if stopping:
                        raise StopRequested(
                            f"{run.name}: {request.name or 'a signal to another process'} at step "
                            f"{progress.global_step}; saved, {AGAIN}",
                            interrupted=request.interrupted,
                        )
                    if stop_after is not None and progress.global_step >= stop_after:
                        return None
        return finish(session, progress)


def train_step(
    session: Session,
    phase: Phase,
    sources: list[str],
    micro_batches: list[tuple[Batch, Targets]],
    progress: Progress,
    watch: Monitor,
) -> Progress:
    """One step on a batch and its targets: the update and the books."""
    run, rows = session.run, phase.batches.before(progress.step)
    logged = (progress.step + 1) % session.placement.log_every == 0 or progress.step + 1 == phase.steps
    _seed_dropout(session, phase, progress.step)
    diagnosed = None
    if logged:
        diagnosed = diagnose(
            session.parallel_model, session.model, micro_batches[0], phase.view, run.precision, session.device
        )
    result = optimizer_step(
        session.parallel_model,
        session.optimizer,
        micro_batches,
        phase.view,
        phase.rate(progress.step),
        run.precision,
        session.group,
        session.device,
        identity=f"run {run.name}, global step {progress.global_step}, phase {phase.name}, step {progress.step}, "
        f"global rows {rows} to {phase.batches.before(progress.step + 1) - 1}",
        on_nonfinite=run.recipe.on_nonfinite,
        sources=len(sources),
    )
    progress = update_progress(run, progress, micro_batches, result, session.group, session.device, session.built)
    watch.step(_clock(run, progress), progress.global_step, result.loss_sum / max(1, result.loss_tokens))
    if diagnosed is not None:
        watch.record(training_row(phase, progress, result, sources, diagnosed()))
        progress = progress.row_written(watch.seconds)
    return progress


def _watch(session: Session, progress: Progress) -> Monitor:
    """The observers of a session that starts here."""
    run, group = session.run, session.group
    peak = peak_flops(session.device, run.precision) * group.world_size
    mark = Snapshot(time.perf_counter(), progress.tokens, progress.flops)
    clock = _clock(run, progress)
    trackers = session.placement.trackers
    return Monitor(session.folder, run.tokens, clock, mark, progress.seconds, group.is_main, peak, trackers)


def _micro_batches(session: Session, phase: Phase, loader: Loader, step: int) -> list[tuple[Batch, Targets]]:
    """This process's micro-batches of a step with their targets."""
    run, group = session.run, session.group
    count = session.placement.micro_batches(phase.batches.rows_of(step), group.world_size)
    micro_batches = []
    for number in range(count):
        batch = loader.batch(step, micro_batch=group.rank * count + number, micro_batches=group.world_size * count)
        micro_batches.append((batch, run.targets(batch, phase, step, session.vocabulary)))
    return micro_batches


def _clock(run: RunConfig, progress: Progress) -> int:
    """Tokens by the schedules' clock, row padding included: what the progress bar counts."""
    done = sum(phase.tokens for phase in run.phases[: progress.phase])
    return done + run.phases[progress.phase].consumed(progress.step)


def _seed_dropout(session: Session, phase: Phase, step: int) -> None:
    """Dropout, where configured, draws from its own stream keyed by step and process: resuming repeats it."""
    if session.run.model.attention_output_dropout:
        torch.manual_seed(derive(session.run.seeds.masks, "dropout", phase.name, step, session.group.rank))
