"""Ways to compute the same attention: a readable reference, PyTorch's fused kernel, blocks for local layers, flex on GPUs.

A backend prepares its masks once per forward pass (they depend on the row layout, not on the layer) and is then called by
every layer with queries, keys and values of shape (B, A, S, D). The equality of all backends is tested.
"""

import functools
from collections.abc import Callable

import torch
import torch.nn.functional as F

from ettin_core.foundation.errors import invalid
from ettin_core.model.visibility import row_visibility, visible

Attend = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
BACKENDS = ("auto", "reference", "sdpa", "flex")


def prepare(
    backend: str, documents: torch.Tensor, direction: str, window: int | None, open_keys: torch.Tensor | None = None
) -> Attend:
    """The attention function of one layer kind (`window` None: global) for rows laid out as `documents` (B, S).

    `open_keys` (B, S) bool belongs to a prefix direction (see model/visibility.py).

    `auto` takes flex on CUDA, and on CPU the fused kernel, in blocks where a local layer's row is long enough to gain.
    """
    if backend == "auto":
        backend = "flex" if documents.is_cuda else "sdpa"
    if backend == "flex":
        return _flex(documents, direction, window, open_keys)
    if backend == "sdpa" and window is not None and documents.shape[1] > 4 * window:
        return _blocked(documents, direction, window, open_keys)
    mask = row_visibility(documents, direction, window, open_keys)[:, None]
    if backend == "sdpa":
        return functools.partial(_fused, mask=mask)
    if backend == "reference":
        return functools.partial(_reference, mask=mask)
    raise invalid("attention", backend, "is not an attention backend", f"use one of {', '.join(BACKENDS)}")


def prepare_at(
    read: torch.Tensor,
    documents: torch.Tensor,
    direction: str,
    open_keys: torch.Tensor | None = None,
) -> Attend:
    """The attention function of few queries of a global layer, those at the positions `read` (B, R) of their rows."""
    offset = read[..., None] - torch.arange(documents.shape[1], device=documents.device)
    mask = visible(documents.gather(1, read), documents, offset, direction, None, open_keys)[:, None]
    return functools.partial(_fused, mask=mask)


def _fused(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask)


def _reference(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    scores = (query @ key.transpose(-1, -2)).float() / query.shape[-1] ** 0.5
    weights = scores.masked_fill(~mask, float("-inf")).softmax(-1)
    return weights.to(value.dtype) @ value


def _blocked(documents: torch.Tensor, direction: str, window: int, open_keys: torch.Tensor | None) -> Attend:
    """Local attention as dense attention of each block of `window` queries to the two or three blocks it can reach."""
    batch, length = documents.shape
    blocks = -(-length // window)
    padding = blocks * window - length
    after = 0 if direction == "causal" else window

    def queries_in_blocks(tensor: torch.Tensor) -> torch.Tensor:  # (B, A, S, D) -> (B * blocks, A, window, D)
        tensor = F.pad(tensor, (0, 0, 0, padding)).unflatten(2, (blocks, window))
        return tensor.transpose(1, 2).flatten(0, 1)

    def keys_in_blocks(tensor: torch.Tensor) -> torch.Tensor:  # (B, A, S, D) -> (B * blocks, A, reach, D)
        tensor = F.pad(tensor, (0, 0, window, padding + after)).unfold(2, 2 * window + after, window)
        return tensor.permute(0, 2, 1, 4, 3).flatten(0, 1)

    # Padding gets document -2, which no token and no row padding carries; a padded query sees itself, so no row is empty.
    query_documents = F.pad(documents, (0, padding), value=-2).unflatten(1, (blocks, window)).flatten(0, 1)

    def of_keys(rows: torch.Tensor, filler: int) -> torch.Tensor:  # (B, S) -> (B * blocks, reach)
        padded = F.pad(rows, (window, padding + after), value=filler)
        return padded.unfold(1, 2 * window + after, window).flatten(0, 1)

    key_documents = of_keys(documents, -2)
    key_open = None if open_keys is None else of_keys(open_keys, False)
    query_index = torch.arange(window, device=documents.device) + window
    key_index = torch.arange(2 * window + after, device=documents.device)
    offset = query_index[:, None] - key_index[None, :]
    mask = visible(query_documents, key_documents, offset, direction, window, key_open)[:, None]

    def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        output = _fused(queries_in_blocks(query), keys_in_blocks(key), keys_in_blocks(value), mask)
        output = output.unflatten(0, (batch, blocks)).transpose(1, 2).flatten(2, 3)
        return output[:, :, :length]

    return attend


@functools.cache
def _compiled_flex() -> tuple[Callable[..., torch.Tensor], Callable[..., object]]:
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    # Compiled once: wrapping again at each call runs into the recompilation limit.
    return torch.compile(flex_attention, dynamic=False), torch.compile(create_block_mask)


def _flex(documents: torch.Tensor, direction: str, window: int | None, open_keys: torch.Tensor | None) -> Attend:
    attention, block_mask = _compiled_flex()
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
