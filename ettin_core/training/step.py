"""One optimiser step: accumulate, normalise once by the global count of loss-bearing tokens, guard, update."""

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import nn

from ettin_core.data.loader import Batch
from ettin_core.foundation.distributed import ProcessGroup, full_tensor
from ettin_core.model.config import AttentionSpec
from ettin_core.objectives.targets import Targets
from ettin_core.optim.update import begin_step, finish_step
from ettin_core.training.loss_module import tensors
from ettin_core.training.parallel import defer_gradient_sync


class NonFiniteError(RuntimeError):
    """Loss or gradient is not a finite number; raised before the optimiser step, with the batch's identity."""


@dataclass(frozen=True)
class StepResult:
    """Global results of a step: summed loss in nats, loss-bearing tokens, gradient norm, whether its update was skipped.

    `source_losses` and `source_tokens` are the first two by number of the source.
    """

    loss_sum: float
    loss_tokens: int
    gradient_norm: float
    skipped: bool = False
    source_losses: tuple[float, ...] = ()
    source_tokens: tuple[int, ...] = ()


@contextlib.contextmanager
def autocast(precision: str, device: torch.device) -> Iterator[None]:
    """bf16 matrix products with fp32 weights, norms and residual stream; or plain fp32."""
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16"):
        yield


def optimizer_step(
    parallel_model: nn.Module,
    optimizer: torch.optim.Optimizer,
    micro_batches: list[tuple[Batch, Targets]],
    view: Callable[[str], AttentionSpec],
    learning_rate: float,
    precision: str,
    group: ProcessGroup,
    device: torch.device,
    identity: str,
    on_nonfinite: str = "stop",
    sources: int = 1,
) -> StepResult:
    """Update the weights from this process's `parts` of the global batch, whose rows come from so many `sources`; `view` is
    the phase's view of a direction.

    The gradient is that of (sum of losses over the global batch) / (global count of loss-bearing tokens), whatever the
    number of parts and processes. A loss or gradient that is not finite changes nothing: under `on_nonfinite` "stop" it
    raises NonFiniteError, under "skip" the result says so.
    """
    counts = torch.tensor(
        [sum(len(targets.labels) for _, targets in micro_batches)], dtype=torch.float64, device=device
    )
    loss_tokens = int(group.sum(counts).item())
    scale = group.world_size / max(1, loss_tokens)  # DDP averages over processes; this makes it a sum
    loss_sum = torch.zeros((), dtype=torch.float64, device=device)
    source_sums = torch.zeros(2, sources, dtype=torch.float64, device=device)
    begin_step(optimizer)
    for number, part in enumerate(micro_batches):
        with defer_gradient_sync(parallel_model, stay=number + 1 < len(micro_batches)):
            with autocast(precision, device):
                loss, each = parallel_model(*tensors(*part, device), view(part[1].direction))
            (loss * scale).backward()
        loss_sum += loss.detach()
        _add_by_source(source_sums, part, each)
    gradient_norm = global_norm(
        [parameter.grad for parameter in parallel_model.parameters() if parameter.grad is not None]
    )
    losses, tokens = group.sum(source_sums).tolist()
    result = StepResult(
        float(group.sum(loss_sum)),
        loss_tokens,
        gradient_norm,
        False,
        tuple(losses),
        tuple(int(count) for count in tokens),
    )
    if not math.isfinite(result.loss_sum) or not math.isfinite(result.gradient_norm):
        if on_nonfinite == "skip":
            return replace(result, skipped=True)
        raise NonFiniteError(
            f"loss={result.loss_sum} gradient_norm={result.gradient_norm} at {identity}: stopped before the update. "
            "Look at the batch with experiments.view_batch; lower the learning rate, lengthen the warm-up, or leave such "
            "updates out with recipe.on_nonfinite=skip."
        )
    finish_step(optimizer, gradient_norm, learning_rate, group)
    return result


def global_norm(gradients: list[torch.Tensor]) -> float:
    """The 2-norm of all gradients as one vector; under FSDP all processes must call it.

    Summed in fp64: torch's fp32 norm adds the squares of a tensor one after the other on a CPU, and of 26 million equal ones
    loses a thousandth. It loses less of a part than of the whole, so the norm would depend on how the weights are divided.
    """
    norms = [torch.linalg.vector_norm(gradient, dtype=torch.float64) for gradient in gradients]
    return float(full_tensor(torch.linalg.vector_norm(torch.stack(norms))))


@torch.no_grad()
def _add_by_source(sums: torch.Tensor, part: tuple[Batch, Targets], each: torch.Tensor) -> None:
    """Add the losses `each` (N,) of a part's scored positions, and their number, to `sums` (2, sources) float64."""
    batch, targets = part
    source = torch.from_numpy(batch.sources[targets.scored_positions // batch.tokens.shape[1]]).to(sums.device)
    sums.index_add_(1, source, torch.stack((each.double(), torch.ones_like(each, dtype=torch.float64))))
