"""Causal attention in rows of one document that goes on in several ways, so that what the ways share is computed once.

Branch 0 is the shared beginning, 1, 2, … are the ways, and -1 is padding. A query sees its branch and the beginning, at
the offset of their positions: exactly what it would see if its way alone followed the beginning. For inference.
"""

import functools

import torch

from ettin_core.model.attention_backends.interface import AttentionFn
from ettin_core.model.attention_backends.sdpa import fused
from ettin_core.model.attention_mask import attention_mask


def make_attention(
    branches: torch.Tensor,
    position_ids: torch.Tensor,
    window: int | None,
    scored_positions: torch.Tensor | None = None,
) -> AttentionFn:
    """The attention function of one layer kind for rows of `branches` and `position_ids`, (B, S) both.

    With `scored_positions` (B, R) it is made for the queries at these.
    """
    queries, at = branches, position_ids
    if scored_positions is not None:
        queries, at = branches.gather(1, scored_positions), position_ids.gather(1, scored_positions)
    offset = at[..., None] - position_ids[:, None, :]
    mask = attention_mask(queries, branches, offset, "causal", window)
    mask |= attention_mask(torch.zeros_like(queries), branches, offset, "causal", window)
    return functools.partial(fused, mask=mask[:, None])
