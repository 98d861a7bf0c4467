"""Attention as one reads it in a book: scores, mask, softmax, weighted values."""

import functools

import torch

from ettin_core.model.attention_backends.interface import AttentionFn
from ettin_core.model.attention_mask import row_attention_mask


def make_attention(
    document_ids: torch.Tensor, direction: str, window: int | None, prefix_mask: torch.Tensor | None
) -> AttentionFn:
    """See attention_backends.make_attention."""
    return functools.partial(attend, mask=row_attention_mask(document_ids, direction, window, prefix_mask)[:, None])


def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Queries, keys and values (B, A, S, D), and what may be seen (B, 1, S, S) bool, to (B, A, S, D)."""
    scores = (query @ key.transpose(-1, -2)).float() / query.shape[-1] ** 0.5
    weights = scores.masked_fill(~mask, float("-inf")).softmax(-1)
    return weights.to(value.dtype) @ value
