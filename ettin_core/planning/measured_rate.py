"""Tokens per second measured on this machine, by a few steps of a run's model, for sizes without a published rate."""

import time

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
from ettin_core.training.phases import Phase
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
    threads = torch.get_num_threads()
    torch.set_num_threads(placement.threads)
    try:
        phase = max(run.phases, key=lambda phase: phase.tokens)
        tokens, seconds = _steps(run, phase, placement, device)
    finally:
        torch.set_num_threads(threads)
    source = f"an estimate, from {seconds:.1f} s of this model's steps here, on {device.type}, rows full"
    return Throughput(tokens / seconds, source)


def _steps(run: RunConfig, phase: Phase, placement: PlacementConfig, device: torch.device) -> tuple[int, float]:
    """Tokens and seconds of steps after the first, which is slower than the others."""
    model = Transformer(run.model, attention=placement.attention).to(device)
    state = TrainState(LossModule(model), build_update(run.optimizer, model), ProcessGroup(), device)
    settings = StepSettings(phase.attention, 1e-6, run.precision)
    component = run.objective.under(run.direction)[0]
    batch = _batch(run, phase)
    masking = Masking(phase.mask_rate, run.objective.mask_share, run.objective.random_share, run.objective.scored_share)
    targets = component_targets(component, batch, Vocabulary(run.model.vocab_size, SPECIAL), masking, 0)
    micro = MicroBatch(batch, targets)
    begin, steps = 0.0, 0
    while not begin or time.perf_counter() - begin < SECONDS:
        optimizer_step(state, [micro], settings)
        if not begin:
            begin = time.perf_counter()
        else:
            steps += 1
    return steps * batch.tokens.size, time.perf_counter() - begin


def _batch(run: RunConfig, phase: Phase) -> Batch:
    """Rows that one document of random tokens fills."""
    rows = min(phase.batch_rows, max(1, MOST_TOKENS // phase.context))
    shape = (rows, phase.context)
    ids = 5 + below(1, np.arange(rows * phase.context, dtype=np.uint64), run.model.vocab_size - 5).reshape(shape)
    ids[:, 0] = SPECIAL.bos
    numbers = np.arange(rows)
    positions = np.broadcast_to(np.arange(phase.context), shape).copy()
    return Batch(ids.astype(np.int64), np.zeros(shape, dtype=np.int64), positions, numbers, np.zeros_like(numbers))
