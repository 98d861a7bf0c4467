"""Train a run to its end, alone or under torchrun, and record how it failed."""

import functools
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from tqdm import tqdm

from ettin_core.data.corpus import Corpus
from ettin_core.foundation.allocation import keep_freed_memory
from ettin_core.foundation.distributed import ProcessGroup, choose_device, join, leave
from ettin_core.foundation.errors import USER_ERRORS, BusyError, RunStopped
from ettin_core.foundation.exits import StopRequested
from ettin_core.foundation.storage import write_json
from ettin_core.model.leak_check import LeakError
from ettin_core.planning.conversion import parent_weights
from ettin_core.planning.step_model import expected_rate
from ettin_core.records.folders import RunFolder, folder_of
from ettin_core.studies.stale import KEEP, RETRAIN, run_changes, run_line, set_aside
from ettin_core.training.config import PlacementConfig, RunConfig
from ettin_core.training.expected_rate import ExpectedRate
from ettin_core.training.loop import train
from ettin_core.training.numerics import device_name
from ettin_core.training.step import NonFiniteError

Weights = Callable[[], dict[str, torch.Tensor] | None]


def trained(
    run: RunConfig,
    corpus: Corpus,
    placement: PlacementConfig,
    runs_dir: str,
    stale: str = KEEP,
    start: Weights | None = None,
    begin: Callable[[RunFolder], None] | None = None,
) -> str:
    """Train a run as `train_run` does; returns a line about it, and another if it was complete and is of other code."""
    folder = folder_of(run.name, Path(runs_dir))
    kept = folder.complete and (stale == KEEP or run_changes(run, folder) == [])
    train_run(run, corpus, placement, runs_dir, start, stale, begin)
    lines = [f"run {folder.path}{' was complete already' if kept else ''}", run_line(run, folder) if kept else None]
    return "\n".join(line for line in lines if line)


def train_run(
    run: RunConfig,
    corpus: Corpus,
    placement: PlacementConfig,
    runs_dir: str,
    start: Weights | None = None,
    stale: str = KEEP,
    begin: Callable[[RunFolder], None] | None = None,
) -> RunFolder:
    """Train a run (or continue it, or leave a complete one alone) and return its folder.

    `start` gives its starting weights (None: those of its parent, if it has one in this folder of runs). With
    `stale=retrain` a complete run that other code trained is set aside and trained again. `begin` writes a first part of
    the run into the folder, on the main process only.
    """
    folder = folder_of(run.name, Path(runs_dir))
    if folder.complete and stale == KEEP:
        return folder
    if placement.device != "cuda":
        _keep_freed_memory()
    group = join("gloo" if placement.device == "cpu" else None, placement.stall_seconds)
    try:
        if stale == RETRAIN:
            _set_aside_stale(run, folder, group)
        folder.failure_file.unlink(missing_ok=True)
        if begin is not None:
            if group.is_main:
                begin(folder)
            group.barrier()
        weights = start() if start else parent_weights(run, Path(runs_dir))
        train(run, folder, corpus, placement, group, weights, expected=_expected(run, placement, group))
    except BusyError as error:
        raise BusyError(f"{run.name} is being trained by another process; wait for it to end, or stop it") from error
    except (LeakError, NonFiniteError) as error:
        _note_failure(folder, error, group)
        raise RunStopped(str(error)) from error
    except (*USER_ERRORS, OSError, StopRequested):  # the run is not at fault; an OSError comes from the disk
        raise
    except Exception as error:
        _note_failure(folder, error, group)
        raise
    finally:
        leave()
    return folder


@functools.cache  # once for all runs of a process
def _keep_freed_memory() -> None:
    """Ask the allocator to keep what a step frees, and report it."""
    if keep_freed_memory():
        tqdm.write("memory that a step frees stays with the process for the next one (glibc's mallopt)", sys.stderr)


def _expected(run: RunConfig, placement: PlacementConfig, group: ProcessGroup) -> ExpectedRate | None:
    """The expected rate, reported on the main process; None on a CPU and on a GPU that the model does not know."""
    device = choose_device(placement.device, group)
    answer = expected_rate(run, placement, group.world_size, device_name(device)) if run.tokens else None
    if answer is None:
        return None
    rate, line = answer
    if group.is_main:
        tqdm.write(line, sys.stderr)
    return rate


def _set_aside_stale(run: RunConfig, folder: RunFolder, group: ProcessGroup) -> None:
    """Set a complete run of other code aside, on the main process only."""
    place = set_aside(run, folder) if group.is_main else None
    if place is not None:
        print(f"{folder.name} was trained by other code: set aside as {place}", flush=True)
    group.barrier()


def _note_failure(folder: RunFolder, error: Exception, group: ProcessGroup) -> None:
    """Record that the run itself fails, and was not killed or requested wrongly."""
    if group.is_main and folder.config_file.exists():
        write_json(
            folder.failure_file, {"reason": f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"}
        )
