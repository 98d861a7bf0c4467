"""The largest attention logit of every layer: the first sign of attention that is about to blow up (Dehghani et al. 2023).

Fused kernels never show their logits, so a forward pass with a probe computes them once more, some queries at a time.
"""

from dataclasses import dataclass, field

import torch

from ettin_core.model.attention_backends.interface import AttentionFn
from ettin_core.model.attention_mask import attention_mask

QUERIES = 256  # whose logits are held at once


@dataclass
class LogitProbe:
    """Set as `model.probe`, it records the largest logit q·k/sqrt(D) between visible tokens, layer by layer."""

    largest: list[torch.Tensor] = field(default_factory=list)

    def wrap(
        self,
        attend: AttentionFn,
        document_ids: torch.Tensor,
        direction: str,
        window: int | None,
        prefix_mask: torch.Tensor | None = None,
    ) -> AttentionFn:
        """The attention function `attend` of one layer kind for rows laid out as `document_ids` (B, S), with recording."""

        def recording(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
            self.largest.append(largest_logit(query, key, document_ids, direction, window, prefix_mask))
            return attend(query, key, value)

        return recording


@torch.no_grad()
def largest_logit(
    query: torch.Tensor,
    key: torch.Tensor,
    document_ids: torch.Tensor,
    direction: str,
    window: int | None,
    prefix_mask: torch.Tensor | None = None,
) -> torch.Tensor:
    """The largest logit of queries and keys (B, A, S, D) between visible tokens, padding left out, a scalar in fp32."""
    index = torch.arange(document_ids.shape[1], device=document_ids.device)
    largest = torch.full((), float("-inf"), device=query.device)
    for begin in range(0, len(index), QUERIES):
        some = slice(begin, begin + QUERIES)
        offset = index[some, None] - index[None, :]
        seen = attention_mask(document_ids[:, some], document_ids, offset, direction, window, prefix_mask)
        seen &= document_ids[:, some, None] >= 0
        logits = (query[:, :, some] @ key.transpose(-1, -2)).float() / query.shape[-1] ** 0.5
        largest = torch.maximum(largest, logits.masked_fill(~seen[:, None], float("-inf")).amax())
    return largest
