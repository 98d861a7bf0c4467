"""PyTorch's flex attention, compiled for GPUs: a rule of visibility, and nothing computed for blocks that it hides."""

import functools
from collections.abc import Callable

import torch

from ettin_core.model.attention_backends.interface import Attend


@functools.cache
def compiled_flex() -> tuple[Callable[..., torch.Tensor], Callable[..., object]]:
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    # Compiled once: wrapping again at each call runs into the recompilation limit.
    return torch.compile(flex_attention, dynamic=False), torch.compile(create_block_mask)


def prepare(documents: torch.Tensor, direction: str, window: int | None, open_keys: torch.Tensor | None) -> Attend:
    attention, block_mask = compiled_flex()
    batch, length = documents.shape

    def rule(b: torch.Tensor, head: torch.Tensor, i: torch.Tensor, j: torch.Tensor) -> torch.Tensor:
        reach = documents[b, i] == documents[b, j]
        if direction == "causal":
            reach = reach & (j <= i)
        elif open_keys is not None:
            reach = reach & ((j <= i) | open_keys[b, j])
        if window is not None:
            reach = reach & (i - j <= window) & (j - i <= window)
        return reach

    mask = block_mask(rule, batch, None, length, length, device=documents.device)
    return functools.partial(attention, block_mask=mask)
