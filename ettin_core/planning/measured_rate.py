"""Tokens per second measured on this machine, by a few steps of a run's model, for sizes without a published rate."""

import contextlib
import time
from collections.abc import Callable, Iterator

import numpy as np
import torch

from ettin_core.data.loader import Batch
from ettin_core.data.tokenizer import SpecialTokens
from ettin_core.foundation.distributed import ProcessGroup, choose_device
from ettin_core.foundation.randomness import below
from ettin_core.model.accounting import parameter_count
from ettin_core.model.transformer import Transformer
from ettin_core.objectives.assign import component_targets
from ettin_core.objectives.targets import Masking, Vocabulary
from ettin_core.optim.build import build_update
from ettin_core.planning.throughput import Throughput
from ettin_core.training.config import PlacementConfig, RunConfig
from ettin_core.training.loss_module import LossModule, MicroBatch
from ettin_core.training.step import StepSettings, TrainState, optimizer_step

SECONDS = 2.0
MOST_PARAMETERS = 50_000_000  # a step of a larger model takes longer than that on a CPU
MOST_TOKENS = 4096  # of a step
SPECIAL = SpecialTokens(unknown=0, bos=1, eos=2, pad=3, mask=4)


def measured(run: RunConfig, placement: PlacementConfig) -> Throughput | None:
    """Tokens per second of one process, from about two seconds of its longest phase's steps on full rows of random tokens.

    None for a model too large to finish a step in time, and where the placement's device is missing.
    """
    if placement.device == "cuda" and not torch.cuda.is_available():
        return None
    device = choose_device(placement.device, ProcessGroup())
    if device.type == "cpu" and parameter_count(run.model) > MOST_PARAMETERS:
        return None
    with using_threads(placement.threads):
        step = step_of(run, placement, device, MOST_TOKENS)
        step()  # the first is slower than the others
        tokens, begin, seconds = 0, time.perf_counter(), 0.0
        while not tokens or seconds < SECONDS:
            tokens += step()
            seconds = time.perf_counter() - begin
    source = f"an estimate, from {seconds:.1f} s of this model's steps here, on {device.type}, rows full"
    return Throughput(tokens / seconds, source)


@contextlib.contextmanager
def using_threads(threads: int) -> Iterator[None]:
    """Let torch compute with a number of threads within the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def step_of(
    run: RunConfig, placement: PlacementConfig, device: torch.device, most_tokens: int, longest: int | None = None
) -> Callable[[], int]:
    """A function that takes one whole step of a run's model and update, and returns its number of tokens.

    The step has one micro-batch of about `most_tokens` tokens, one row at least: rows of the longest phase, cut to `longest`
    tokens (None: as they are), each filled by one document of random tokens.
    """
    phase = max(run.phases, key=lambda phase: phase.tokens)
    model = Transformer(run.model, attention=placement.attention).to(device)
    state = TrainState(LossModule(model), build_update(run.optimizer, model), ProcessGroup(), device)
    settings = StepSettings(phase.attention, 1e-6, run.precision)
    component = run.objective.under(run.direction)[0]
    context = min(phase.context, longest or phase.context)
    batch = _batch(min(phase.batch_rows, max(1, most_tokens // context)), context, run.model.vocab_size)
    masking = Masking(phase.mask_rate, run.objective.mask_share, run.objective.random_share, run.objective.scored_share)
    targets = component_targets(component, batch, Vocabulary(run.model.vocab_size, SPECIAL), masking, 0)

    def step() -> int:
        optimizer_step(state, [MicroBatch(batch, targets)], settings)
        return batch.tokens.size

    return step


def _batch(rows: int, context: int, vocab_size: int) -> Batch:
    """Rows that one document of random tokens fills."""
    shape = (rows, context)
    ids = 5 + below(1, np.arange(rows * context, dtype=np.uint64), vocab_size - 5).reshape(shape)
    ids[:, 0] = SPECIAL.bos
    numbers = np.arange(rows)
    positions = np.broadcast_to(np.arange(context), shape).copy()
    return Batch(ids.astype(np.int64), np.zeros(shape, dtype=np.int64), positions, numbers, np.zeros_like(numbers))
