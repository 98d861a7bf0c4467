"""PyTorch's fused kernel with a dense mask; of a long row's local layer in blocks, each against the blocks it can reach."""

import functools

import torch
import torch.nn.functional as F

from ettin_core.model.attention_backends.interface import Attend
from ettin_core.model.visibility import row_visibility, visible


def prepare(documents: torch.Tensor, direction: str, window: int | None, open_keys: torch.Tensor | None) -> Attend:
    """See attention_backends.prepare."""
    if window is not None and documents.shape[1] > 4 * window:
        return blocked(documents, direction, window, open_keys)
    return functools.partial(fused, mask=row_visibility(documents, direction, window, open_keys)[:, None])


def prepare_at(
    read: torch.Tensor,
    documents: torch.Tensor,
    direction: str,
    open_keys: torch.Tensor | None = None,
) -> Attend:
    """The attention function of few queries of a global layer, those at the positions `read` (B, R) of their rows."""
    offset = read[..., None] - torch.arange(documents.shape[1], device=documents.device)
    mask = visible(documents.gather(1, read), documents, offset, direction, None, open_keys)[:, None]
    return functools.partial(fused, mask=mask)


def fused(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The kernel, with what may be seen as (B, 1, Q, K) bool."""
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask)


def blocked(documents: torch.Tensor, direction: str, window: int, open_keys: torch.Tensor | None) -> Attend:
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
        output = fused(queries_in_blocks(query), keys_in_blocks(key), keys_in_blocks(value), mask)
        output = output.unflatten(0, (batch, blocks)).transpose(1, 2).flatten(2, 3)
        return output[:, :, :length]

    return attend
