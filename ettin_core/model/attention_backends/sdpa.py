"""PyTorch's fused kernel with a dense mask; of a long row's local layer in blocks, each against the blocks it can reach.

Rows that are one document each need no mask in a global layer and one mask for all rows in a local one.
"""

import functools

import torch
import torch.nn.functional as F

from ettin_core.model.attention_backends.interface import AttentionFn
from ettin_core.model.attention_mask import attention_mask, row_attention_mask

MASKED_PAIRS = 2**24  # pairs of a query and a key whose mask is made at once


def whole(document_ids: torch.Tensor) -> bool:
    """Whether each row is one document from end to end. Unknown while a model is compiled, so False there."""
    return not torch.compiler.is_compiling() and bool((document_ids == document_ids[:, :1]).all())


def make_attention(
    document_ids: torch.Tensor, direction: str, window: int | None, prefix_mask: torch.Tensor | None
) -> AttentionFn:
    """See attention_backends.make_attention."""
    if window is not None and document_ids.shape[1] > 4 * window:
        return blocked(document_ids, direction, window, prefix_mask)
    if direction != "prefix" and whole(document_ids):
        if window is None or window >= document_ids.shape[1] - 1:
            return functools.partial(F.scaled_dot_product_attention, is_causal=direction == "causal")
        document_ids = document_ids[:1]  # one mask for all rows
    return functools.partial(fused, mask=row_attention_mask(document_ids, direction, window, prefix_mask)[:, None])


def make_attention_at(
    scored_positions: torch.Tensor,
    document_ids: torch.Tensor,
    direction: str,
    prefix_mask: torch.Tensor | None = None,
) -> AttentionFn:
    """The attention function of a global layer for the queries at `scored_positions` (B, R) of their rows only.

    Masks are made for some queries at a time, so that memory does not grow with R times S.
    """
    if direction == "bidirectional" and whole(document_ids):
        return F.scaled_dot_product_attention
    index = torch.arange(document_ids.shape[1], device=document_ids.device)
    size = max(1, MASKED_PAIRS // document_ids.numel())

    def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        parts = []
        for places, queries in zip(scored_positions.split(size, 1), query.split(size, 2), strict=True):
            offset = places[..., None] - index
            documents = document_ids.gather(1, places)
            mask = attention_mask(documents, document_ids, offset, direction, None, prefix_mask)
            parts.append(fused(queries, key, value, mask[:, None]))
        return torch.cat(parts, dim=2)

    return attend


def fused(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The kernel, with what may be seen as (B, 1, Q, K) bool."""
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask)


def blocked(document_ids: torch.Tensor, direction: str, window: int, prefix_mask: torch.Tensor | None) -> AttentionFn:
    """Local attention as dense attention of each block of `window` queries to the two or three blocks it can reach."""
    batch, length = document_ids.shape
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
    query_documents = F.pad(document_ids, (0, padding), value=-2).unflatten(1, (blocks, window)).flatten(0, 1)

    def of_keys(rows: torch.Tensor, filler: int) -> torch.Tensor:  # (B, S) -> (B * blocks, reach)
        padded = F.pad(rows, (window, padding + after), value=filler)
        return padded.unfold(1, 2 * window + after, window).flatten(0, 1)

    key_documents = of_keys(document_ids, -2)
    key_open = None if prefix_mask is None else of_keys(prefix_mask, False)
    query_index = torch.arange(window, device=document_ids.device) + window
    key_index = torch.arange(2 * window + after, device=document_ids.device)
    offset = query_index[:, None] - key_index[None, :]
    mask = attention_mask(query_documents, key_documents, offset, direction, window, key_open)[:, None]

    def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        output = fused(queries_in_blocks(query), keys_in_blocks(key), keys_in_blocks(value), mask)
        output = output.unflatten(0, (batch, blocks)).transpose(1, 2).flatten(2, 3)
        return output[:, :, :length]

    return attend
