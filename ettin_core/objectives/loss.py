"""Cross-entropy summed over scored positions, without ever holding all logits.

Head states go in, a sum in nats comes out. Rows are taken in chunks, and each chunk's gradient is computed while its logits
exist (as in Liger, Hsu et al. 2024). So memory is one chunk of logits instead of all of them, and the softmax is computed
once. The caller divides by the global count of loss-bearing tokens.
"""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.autograd.function import once_differentiable

from ettin_core.objectives.config import CHUNK_ROWS

PIECE_ELEMENTS = 2**16  # of a gradient that is added to on a CPU
BLOCK_ELEMENTS = 2**20  # of logits on a CPU: what stays in its cache from one operation of the softmax to the next

UNSCORED = -1  # label of a position that adds nothing to loss and gradients; on a GPU only


class _SummedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, states: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, labels: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        rows = min(CHUNK_ROWS[states.device.type], max(1, len(states)))
        dtype = torch.get_autocast_dtype(states.device.type) if torch.is_autocast_enabled(states.device.type) else None
        compute_states, compute_weight = (states, weight) if dtype is None else (states.to(dtype), weight.to(dtype))
        total = torch.zeros((), dtype=torch.float32, device=states.device)
        each = torch.empty(len(states), 1, dtype=torch.float32, device=states.device)
        wanted = any(ctx.needs_input_grad)
        state_gradient = torch.empty_like(states) if ctx.needs_input_grad[0] else None
        weight_gradient = torch.zeros_like(weight, dtype=torch.float32) if ctx.needs_input_grad[1] else None
        bias_gradient = torch.zeros_like(bias, dtype=torch.float32) if ctx.needs_input_grad[2] else None
        buffer = torch.empty(rows, len(weight), dtype=compute_states.dtype, device=states.device)  # of a chunk's logits
        softmax = SOFTMAX[states.device.type]
        for begin in range(0, len(states), rows):
            chunk, target = compute_states[begin : begin + rows], labels[begin : begin + rows, None]
            losses, logits = each[begin : begin + rows], buffer[: len(chunk)]
            _logits(chunk, compute_weight, bias, logits)
            gradient = softmax(logits, bias, target, losses, wanted, bias_gradient)
            total += losses.sum()
            if state_gradient is not None:
                state_gradient[begin : begin + rows] = gradient @ compute_weight
            if weight_gradient is not None:
                _add_product(weight_gradient, gradient.T, chunk)
        if wanted:
            ctx.save_for_backward(state_gradient, weight_gradient, bias_gradient)
        each = each.squeeze(-1)
        ctx.mark_non_differentiable(each)
        return total, each

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *outputs: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        scale = outputs[0]
        return *(None if gradient is None else gradient * scale for gradient in ctx.saved_tensors), None


def _logits(states: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, out: torch.Tensor) -> None:
    """Write the logits (N, V) to `out`; where they are in fp32 the bias is part of the product, else it is left out."""
    if out.dtype == bias.dtype == torch.float32:
        torch.addmm(bias, states, weight.T, out=out)
    else:
        torch.mm(states, weight.T, out=out)


def softmax_in_cache(
    logits: torch.Tensor,
    bias: torch.Tensor,
    target: torch.Tensor,
    losses: torch.Tensor,
    wanted: bool,
    bias_gradient: torch.Tensor | None,
) -> torch.Tensor:
    """Turn a chunk's logits (N, V) into their gradient, in place and in blocks that stay in a CPU's cache.

    Writes the losses (N, 1) for the labels `target` (N, 1), and adds to the gradient of the bias. The gradient is computed only
    if it is `wanted`.
    """
    for some, block in _blocks(logits, bias):
        torch.log_softmax(block, -1, out=block)
        torch.neg(block.gather(-1, target[some]), out=losses[some])
        if wanted:  # softmax, then minus one at the label
            block.exp_()
            block.scatter_add_(-1, target[some], block.new_full((len(block), 1), -1.0))
            if bias_gradient is not None:
                bias_gradient += block.sum(0)
            if block.dtype != logits.dtype:
                logits[some] = block
    return logits


def _blocks(logits: torch.Tensor, bias: torch.Tensor) -> Iterator[tuple[slice, torch.Tensor]]:
    """Rows of logits (N, V) with their numbers, in fp32 and with the bias: the logits themselves where they are so."""
    rows = max(1, BLOCK_ELEMENTS // logits.shape[1])
    exact = logits.dtype == bias.dtype == torch.float32
    buffer = logits if exact else logits.new_empty(min(rows, len(logits)), logits.shape[1], dtype=torch.float32)
    for begin in range(0, len(logits), rows):
        some = slice(begin, min(begin + rows, len(logits)))
        yield some, logits[some] if exact else buffer[: some.stop - begin].copy_(logits[some]).add_(bias)


def softmax_in_one_pass(
    logits: torch.Tensor,
    bias: torch.Tensor,
    target: torch.Tensor,
    losses: torch.Tensor,
    wanted: bool,
    bias_gradient: torch.Tensor | None,
) -> torch.Tensor:
    """The same, compiled for a GPU: logits in bf16 are never copied to fp32 in memory. Labels may be UNSCORED."""
    by_row, gradient = _compiled()(logits, bias if logits.dtype != torch.float32 else None, target)
    losses.copy_(by_row)
    if wanted and bias_gradient is not None:
        bias_gradient += gradient.sum(0, dtype=torch.float32)
    return gradient


@functools.cache
def _compiled() -> Callable[..., tuple[torch.Tensor, torch.Tensor]]:
    return torch.compile(losses_and_gradient)


def losses_and_gradient(
    logits: torch.Tensor, bias: torch.Tensor | None, target: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Losses (N, 1) and the gradient (N, V) of logits, in their type, as one expression; `bias` is added if there is one."""
    exact = logits.float() if bias is None else logits.float() + bias
    normaliser, scored = exact.logsumexp(-1, keepdim=True), target != UNSCORED
    losses = torch.where(scored, normaliser - exact.gather(-1, target.clamp(min=0)), 0.0)
    at_label = torch.arange(logits.shape[1], device=logits.device) == target
    return losses, torch.where(scored, (exact - normaliser).exp() - at_label.float(), 0.0).to(logits.dtype)


SOFTMAX = {"cpu": softmax_in_cache, "cuda": softmax_in_one_pass}


def _add_product(total: torch.Tensor, left: torch.Tensor, right: torch.Tensor) -> None:
    """Add a product of matrices in place; in fp32 as one operation, else in pieces that stay in a CPU's cache."""
    if left.dtype == total.dtype:
        total.addmm_(left, right)
        return
    product = left @ right
    rows = max(1, PIECE_ELEMENTS // total.shape[1]) if total.device.type == "cpu" else len(total)
    for some, added in zip(total.split(rows), product.split(rows), strict=True):
        some.add_(added.float())


def summed_cross_entropy(
    states: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, labels: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The sum over N positions of -log softmax(states @ weight.T + bias)[label], in nats, fp32; and each of them (N,).

    states (N, H), weight (V, H), bias (V,), labels (N,) int64 (on a GPU also UNSCORED). Zero positions give exactly
    zero. Gradients flow through the sum alone.
    """
    return _SummedCrossEntropy.apply(states, weight, bias, labels)
