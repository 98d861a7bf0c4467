"""PyTorch's flex attention, compiled for GPUs: blocks that the mask hides are not computed."""

import functools
from collections.abc import Callable

import torch

from ettin_core.model.attention_backends.interface import AttentionFn


@functools.cache
def compiled_flex() -> tuple[Callable[..., torch.Tensor], Callable[..., object]]:
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    # Compiled once: wrapping again at each call runs into the recompilation limit.
    return torch.compile(flex_attention, dynamic=False), torch.compile(create_block_mask)


def make_attention(
    document_ids: torch.Tensor, direction: str, window: int | None, prefix_mask: torch.Tensor | None
) -> AttentionFn:
    attention, block_mask = compiled_flex()
    batch, length = document_ids.shape

    def rule(b: torch.Tensor, head: torch.Tensor, i: torch.Tensor, j: torch.Tensor) -> torch.Tensor:
        reach = document_ids[b, i] == document_ids[b, j]
        if direction == "causal":
            reach = reach & (j <= i)
        elif prefix_mask is not None:
            reach = reach & ((j <= i) | prefix_mask[b, j])
        if window is not None:
            reach = reach & (i - j <= window) & (j - i <= window)
        return reach

    mask = block_mask(rule, batch, None, length, length, device=document_ids.device)
    return functools.partial(attention, block_mask=mask)
