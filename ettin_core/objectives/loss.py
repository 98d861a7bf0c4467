"""Cross-entropy summed over scored positions, without ever holding all logits.

Head states go in, a sum in nats comes out. Rows are taken in chunks, and each chunk's gradient is computed while its logits
exist. So memory is one chunk of logits instead of all of them, and the softmax is computed once. The caller divides by
the global count of loss-bearing tokens.
"""

from typing import Any

import torch
from torch.autograd.function import once_differentiable

from ettin_core.objectives.config import CHUNK_ROWS


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
        buffer = torch.empty(rows, len(weight), dtype=torch.float32, device=states.device)  # of every chunk's logits
        for begin in range(0, len(states), rows):
            chunk, target = compute_states[begin : begin + rows], labels[begin : begin + rows, None]
            logits = _logits(chunk, compute_weight, bias, buffer[: len(chunk)])
            torch.log_softmax(logits, -1, out=logits)
            torch.neg(logits.gather(-1, target), out=each[begin : begin + rows])
            total += each[begin : begin + rows].sum()
            if wanted:
                gradient = logits.exp_()  # softmax, then minus one at the label
                gradient.scatter_add_(-1, target, torch.full_like(target, -1, dtype=gradient.dtype))
                if bias_gradient is not None:
                    bias_gradient += gradient.sum(0)
                gradient = gradient.to(compute_weight.dtype)
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


def _logits(states: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
    """The logits (N, V) in fp32, written to `out`; the bias is part of the product where that is in fp32."""
    if states.dtype == bias.dtype == out.dtype:
        return torch.addmm(bias, states, weight.T, out=out)
    return torch.add(states @ weight.T, bias, out=out)


def _add_product(total: torch.Tensor, left: torch.Tensor, right: torch.Tensor) -> None:
    """Add a product of matrices in place; in fp32 product and sum are one operation."""
    if left.dtype == total.dtype:
        total.addmm_(left, right)
    else:
        total += left @ right


def summed_cross_entropy(
    states: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, labels: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The sum over N positions of -log softmax(states @ weight.T + bias)[label], in nats, fp32; and each of them (N,).

    states (N, H), weight (V, H), bias (V,), labels (N,) int64. Zero positions give exactly zero. Gradients flow through the
    sum alone.
    """
    return _SummedCrossEntropy.apply(states, weight, bias, labels)
