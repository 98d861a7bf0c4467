"""The training loop: phases, steps, checkpoints. Read `train` top to bottom."""

import contextlib
import time
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from ettin_core.data.corpus import Corpus
from ettin_core.data.loader import Loader
from ettin_core.data.prefetch import feed
from ettin_core.foundation.distributed import ProcessGroup, choose_device
from ettin_core.foundation.exits import AGAIN, StopRequested
from ettin_core.foundation.folders import locked
from ettin_core.foundation.randomness import derive
from ettin_core.records.folders import RunFolder
from ettin_core.training.checkpointing import finish, resume, save
from ettin_core.training.config import PlacementConfig, RunConfig
from ettin_core.training.diagnostics import probed
from ettin_core.training.expected_rate import ExpectedRate
from ettin_core.training.hardware import peak_flops
from ettin_core.training.loss_module import MicroBatch
from ettin_core.training.memory import check_memory, device_memory, micro_batch_count
from ettin_core.training.monitor import Monitor, Snapshot
from ettin_core.training.pending import PendingSteps
from ettin_core.training.phases import Phase
from ettin_core.training.preemption import PreemptionSignal, Watchdog
from ettin_core.training.progress import Progress, training_row, update_progress
from ettin_core.training.setup import Session, check_fit, open_session
from ettin_core.training.step import StepSettings, begin_step


def train(
    run: RunConfig,
    folder: RunFolder,
    corpus: Corpus,
    placement: PlacementConfig,
    group: ProcessGroup,
    parent_weights: dict[str, torch.Tensor] | None = None,
    stop_after: int | None = None,
    expected: ExpectedRate | None = None,
) -> dict[str, Any] | None:
    """Train a run to its end, from its last checkpoint; returns its summary, also of a run that is complete already.

    `parent_weights` are a conversion's starting weights. `stop_after` ends the session after that many global steps, as
    an interruption would, and returns None. Of a rate below the `expected` one the cause is reported.
    Raises ValueError if corpus or configuration do not fit, LeakError for a broken mask, and NonFiniteError before a bad
    update. Raises StopRequested after SIGTERM, SIGUSR1 or Ctrl-C, with the last step saved.
    """
    if folder.complete:
        return folder.summary()
    check_fit(run, corpus, placement, group)
    check_memory(run, placement, group.world_size, device_memory(choose_device(placement.device, group), group))
    with locked(folder.path) if group.is_main else contextlib.nullcontext():
        session = open_session(run, folder, corpus, placement, group, parent_weights)
        progress, pending = resume(session), PendingSteps(run)
        with (
            _monitor(session, progress, expected) as monitor,
            PreemptionSignal(group) as request,
            Watchdog(placement.stall_seconds, run.name) as watchdog,
        ):
            for number in range(progress.phase, len(run.phases)):
                phase = run.phases[number]
                loader = phase.loader(corpus, run.seeds.order)
                progress = replace(progress, phase=number, step=progress.step if number == progress.phase else 0)
                make = partial(_micro_batches, session, phase, loader)
                for micro_batches in monitor.watched(feed(make, range(progress.step, phase.steps), placement.workers)):
                    progress = train_step(session, phase, loader.sources, micro_batches, progress, pending, monitor)
                    watchdog.step()
                    stopping = request.agreed()
                    if stopping or run.checkpoint.due(progress.step, phase.steps, phase.consumed):
                        progress, _ = pending.read(progress)  # raises before a state that "stop" forbids is saved
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
    micro_batches: list[MicroBatch],
    progress: Progress,
    pending: PendingSteps,
    monitor: Monitor,
) -> Progress:
    """One step on the micro-batches of this process: the update, then progress and records.

    Results are read for a row of records, and after every step whose update the host has waited for.
    """
    run = session.run
    logged = (progress.step + 1) % session.placement.log_every == 0 or progress.step + 1 == phase.steps
    rate, guard = phase.rate(progress.step), run.recipe.on_nonfinite
    settings = StepSettings(phase.attention, rate, run.precision, guard, len(sources))
    _seed_dropout(session, phase, progress.step)
    with probed(logged, session.state, session.model, micro_batches[0], settings) as probe:
        step = begin_step(session.state, micro_batches, settings, pending.last)
    pending.add(step, phase, progress)
    progress = update_progress(run, progress, micro_batches, step.loss_tokens, session.group, session.built)
    result = None
    if logged or not session.update.guards_itself:
        progress, result = pending.read(progress)
    loss = None if result is None else result.loss_sum / max(1, result.loss_tokens)
    monitor.step(_clock(run, progress), progress.global_step, loss)
    if logged:
        assert result is not None
        monitor.record(training_row(phase, progress, result, sources, probe.diagnosis))
        progress = progress.row_written(monitor.seconds)
    return progress


def _monitor(session: Session, progress: Progress, expected: ExpectedRate | None) -> Monitor:
    """The monitor of a session that starts at this progress."""
    run, group = session.run, session.group
    peak = peak_flops(session.device, run.precision) * group.world_size
    start = Snapshot(time.perf_counter(), progress.tokens, progress.flops)
    clock = _clock(run, progress)
    trackers = session.placement.trackers
    return Monitor(session.folder, run.tokens, clock, start, progress.seconds, group.is_main, peak, trackers, expected)


def _micro_batches(session: Session, phase: Phase, loader: Loader, step: int) -> list[MicroBatch]:
    """This process's micro-batches of a step with their targets."""
    run, group = session.run, session.group
    count = micro_batch_count(run, session.placement, phase.batches.rows_of(step), phase.context, group.world_size)
    micro_batches = []
    for number in range(count):
        batch = loader.batch(step, micro_batch=group.rank * count + number, micro_batches=group.world_size * count)
        micro_batches.append(MicroBatch(batch, run.targets(batch, phase, step, session.vocabulary)))
    return micro_batches


def _clock(run: RunConfig, progress: Progress) -> int:
    """Tokens by the schedules' clock, row padding included: what the progress bar counts."""
    done = sum(phase.tokens for phase in run.phases[: progress.phase])
    return done + run.phases[progress.phase].consumed(progress.step)


def _seed_dropout(session: Session, phase: Phase, step: int) -> None:
    """Dropout, where configured, draws from its own stream keyed by step and process: resuming repeats it."""
    if session.run.model.attention_output_dropout:
        torch.manual_seed(derive(session.run.seeds.masks, "dropout", phase.name, step, session.group.rank))
