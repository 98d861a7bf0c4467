"""Diagnostics of logged steps: how far an update moves the weights, how large attention logits grow.

They are computed beside a step and never change it.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from ettin_core.foundation.distributed import full_tensor
from ettin_core.model.accounting import parameter_group
from ettin_core.model.adapter import trained
from ettin_core.model.config import AttentionSpec
from ettin_core.model.logit_probe import LogitProbe
from ettin_core.model.transformer import Transformer
from ettin_core.objectives.assign import subset
from ettin_core.objectives.targets import Targets
from ettin_core.training.loss_module import MicroBatch, tensors
from ettin_core.training.step import StepSettings, TrainState, autocast


@dataclass(frozen=True)
class Diagnosis:
    """The largest attention logit of each layer on the first row of a batch, and the size of its update by group."""

    attention_logits: list[float]
    update_ratios: dict[str, float]


@dataclass
class Probe:
    """Holds the diagnosis of a step after it (None: the step is not diagnosed)."""

    diagnosis: Diagnosis | None = None


@contextmanager
def probed(
    enabled: bool, state: TrainState, model: Transformer, micro: MicroBatch, settings: StepSettings
) -> Iterator[Probe]:
    """Diagnose the step that is taken inside the block, if `enabled`. All processes must enter it.

    `micro` is the step's first micro-batch. A copy of the trained weights (under FSDP, of each process's share) is held
    during the step.
    """
    probe = Probe()
    if not enabled:
        yield probe
        return
    # The copy comes first: a forward pass leaves FSDP's weights gathered, and they are compared share by share.
    before = {name: parameter.detach().clone() for name, parameter in trained(model).items()}
    with autocast(settings.precision, state.device):
        logits = attention_logits(state.parallel_model, model, micro, settings.attention, state.device)
    yield probe
    probe.diagnosis = Diagnosis(logits, update_ratios(model, before))


@torch.no_grad()
def update_ratios(model: nn.Module, before: dict[str, torch.Tensor]) -> dict[str, float]:
    """|weights after - before| / |weights before| by group of trained parameters, 2-norms; all processes must call it.

    About 1e-3 is healthy for the matrices of a model in the middle of its training (a rule of thumb).
    """
    moved: dict[str, float] = {}
    weight: dict[str, float] = {}
    for name, parameter in trained(model).items():
        group = parameter_group(name)
        moved[group] = moved.get(group, 0.0) + _square(parameter - before[name])
        weight[group] = weight.get(group, 0.0) + _square(before[name])
    return {group: (moved[group] / weight[group]) ** 0.5 if weight[group] else 0.0 for group in sorted(moved)}


def _square(tensor: torch.Tensor) -> float:
    return float(full_tensor(torch.linalg.vector_norm(tensor, dtype=torch.float64))) ** 2


@torch.no_grad()
def attention_logits(
    parallel_model: nn.Module,
    model: Transformer,
    micro: MicroBatch,
    attention: Callable[[str], AttentionSpec],
    device: torch.device,
) -> list[float]:
    """The largest attention logit of each layer on the first row of a batch, with the objective's inputs.

    Under DDP and FSDP all processes must call it; each gets the logits of its first row.
    """
    batch, targets = micro
    first, inside = subset(batch, np.arange(1)), targets.scored_positions < batch.tokens.shape[1]
    prefix_mask = None if targets.prefix_mask is None else targets.prefix_mask[:1]
    shown = Targets(
        targets.inputs[:1], targets.scored_positions[inside], targets.labels[inside], targets.direction, prefix_mask
    )
    model.probe = LogitProbe()
    training = parallel_model.training
    parallel_model.eval()  # no dropout, so that no stream of random numbers moves
    try:
        parallel_model(*tensors(MicroBatch(first, shown), device), attention(targets.direction))
        return [float(value) for value in model.probe.largest]
    finally:
        model.probe = None
        parallel_model.train(training)
