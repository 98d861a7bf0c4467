"""One optimiser step: accumulate, normalise once by the global count of scored tokens, guard, update.

Its numbers stay on the device until they are read, so a GPU need not wait for the host between two steps.
"""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import nn

from ettin_core.foundation.distributed import ProcessGroup, full_tensor
from ettin_core.model.config import AttentionSpec
from ettin_core.optim.update import Update
from ettin_core.training.loss_module import MicroBatch, tensors, to_device
from ettin_core.training.parallel import defer_gradient_sync


class NonFiniteError(RuntimeError):
    """Loss or gradient is not a finite number; the update was not made. Carries the batch's identity."""


@dataclass(frozen=True)
class TrainState:
    """What a step changes, and where it runs: the loss module as wrapped for the group, and its update."""

    parallel_model: nn.Module
    update: Update
    group: ProcessGroup
    device: torch.device


@dataclass(frozen=True)
class StepSettings:
    """`attention` gives the phase's spec of a direction; rows come from `num_sources` sources.

    `on_nonfinite`: "stop" raises NonFiniteError, "skip" leaves the update out.
    """

    attention: Callable[[str], AttentionSpec]
    learning_rate: float
    precision: str = "fp32"
    on_nonfinite: str = "stop"
    num_sources: int = 1


@dataclass(frozen=True)
class StepResult:
    """Global results of a step: summed loss in nats, scored tokens, gradient norm, whether its update was skipped.

    `source_losses` and `source_tokens` give the first two by the number of the source.
    """

    loss_sum: float
    loss_tokens: int
    gradient_norm: float
    skipped: bool = False
    source_losses: tuple[float, ...] = ()
    source_tokens: tuple[int, ...] = ()


@dataclass(frozen=True)
class PendingStep:
    """A step of `loss_tokens` scored tokens that the device may still be computing.

    `numbers` (2 + 2 S,) float64 are summed loss, gradient norm, and losses and tokens by source. `left_out` () bool says
    whether the update was left out, because a number was not finite or, under "stop", one of an earlier step was not.
    """

    numbers: torch.Tensor
    left_out: torch.Tensor
    loss_tokens: int
    on_nonfinite: str

    def read(self) -> StepResult:
        """The results; waits for the device. Raises NonFiniteError for an update left out under "stop"."""
        loss, norm, left_out, *by_source = torch.cat((self.numbers[:2], self.left_out[None], self.numbers[2:])).tolist()
        if left_out and self.on_nonfinite == "stop":
            raise NonFiniteError(f"loss={loss} gradient_norm={norm}")
        losses, tokens = by_source[: len(by_source) // 2], by_source[len(by_source) // 2 :]
        counts = tuple(int(count) for count in tokens)
        return StepResult(loss, self.loss_tokens, norm, bool(left_out), tuple(losses), counts)


class LossSums:
    """Sums of the losses of this process's micro-batches: of all, and by source, in float64."""

    def __init__(self, num_sources: int, device: torch.device) -> None:
        self.total = torch.zeros((), dtype=torch.float64, device=device)
        self.by_source = torch.zeros(2, num_sources, dtype=torch.float64, device=device)

    @torch.no_grad()
    def add(self, micro: MicroBatch, loss: torch.Tensor, per_token: torch.Tensor) -> None:
        """Add a micro-batch: its summed loss, and the losses (N,) of its scored positions, padded or not."""
        self.total += loss.detach()
        per_token = per_token[: len(micro.targets.labels)]
        rows = micro.targets.scored_positions // micro.batch.tokens.shape[1]
        (source,) = to_device([micro.batch.sources[rows]], self.by_source.device)
        counted = torch.stack((per_token.double(), torch.ones_like(per_token, dtype=torch.float64)))
        self.by_source.index_add_(1, source, counted)

    def reduce(self, group: ProcessGroup) -> tuple[torch.Tensor, torch.Tensor]:
        """Sums over all processes: of all (), and by source (2 S,)."""
        total, by_source = group.sum(torch.cat((self.total[None], self.by_source.flatten()))).tensor_split((1,))
        return total[0], by_source


@contextlib.contextmanager
def autocast(precision: str, device: torch.device) -> Iterator[None]:
    """bf16 matrix products with fp32 weights, norms and residual stream; or plain fp32."""
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16"):
        yield


def optimizer_step(state: TrainState, micro_batches: list[MicroBatch], settings: StepSettings) -> StepResult:
    """One update from this process's micro-batches of the global batch, and its results.

    The loss is summed over the global batch and divided once by its number of scored tokens, so the numbers of
    micro-batches and processes do not matter. A loss or gradient that is not finite changes nothing.
    """
    return begin_step(state, micro_batches, settings).read()


def begin_step(
    state: TrainState, micro_batches: list[MicroBatch], settings: StepSettings, earlier: PendingStep | None = None
) -> PendingStep:
    """Begin an update; `earlier` is the step before if it has not been read.

    Where the optimiser can leave an update out by itself (`Update.guards_itself`), the host does not wait for the device.
    """
    group, device = state.group, state.device
    (scored,) = group.sum_integers([sum(len(micro.targets.labels) for micro in micro_batches)])
    scale = group.world_size / max(1, scored)  # DDP averages over processes; this makes it a sum
    sums = LossSums(settings.num_sources, device)
    state.update.begin()
    for number, micro in enumerate(micro_batches):
        with defer_gradient_sync(state.parallel_model, defer=number + 1 < len(micro_batches)):
            with autocast(settings.precision, device):
                attention = settings.attention(micro.targets.direction)
                loss, per_token = state.parallel_model(*tensors(micro, device), attention)
            (loss * scale).backward()
        sums.add(micro, loss, per_token)
    parameters = state.parallel_model.parameters()
    norm = global_norm([parameter.grad for parameter in parameters if parameter.grad is not None])
    total, by_source = sums.reduce(group)
    left_out = ~(total.isfinite() & norm.isfinite())
    if earlier is not None and settings.on_nonfinite == "stop":
        left_out = left_out | earlier.left_out  # the weights stay those before the first update left out
    if state.update.guards_itself:
        state.update.apply(norm, settings.learning_rate, group, found_inf=left_out.float())
    elif not bool(left_out):  # the host waits for the device
        state.update.apply(norm, settings.learning_rate, group)
    numbers = torch.cat((torch.stack((total, norm)), by_source))
    return PendingStep(numbers, left_out, scored, settings.on_nonfinite)


def global_norm(gradients: list[torch.Tensor]) -> torch.Tensor:
    """The 2-norm () float64 of all gradients as one vector; under FSDP all processes must call it.

    Summed in fp64: on a CPU torch's fp32 norm adds squares in sequence, and loses a thousandth of 26 million equal ones. It
    loses less of a part than of the whole, so the norm would depend on how the weights are divided.
    """
    norms = [torch.linalg.vector_norm(gradient, dtype=torch.float64) for gradient in gradients]
    return full_tensor(torch.linalg.vector_norm(torch.stack(norms)))
