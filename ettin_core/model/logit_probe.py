"""The largest attention logit of every layer: the first sign of attention that is about to blow up (Dehghani et al. 2023).

Fused kernels never show their logits, so a forward pass with a probe computes them once more, some queries at a time.
"""

from dataclasses import dataclass, field

import torch

from ettin_core.model.attention_backends.interface import Attend
from ettin_core.model.visibility import visible

QUERIES = 256  # whose logits are held at once


@dataclass
class LogitProbe:
    """Set as `model.probe`, it notes the largest logit q·k/sqrt(D) between visible tokens, layer by layer."""

    largest: list[torch.Tensor] = field(default_factory=list)

    def watching(
        self,
        attend: Attend,
        documents: torch.Tensor,
        direction: str,
        window: int | None,
        open_keys: torch.Tensor | None = None,
    ) -> Attend:
        """The attention function `attend` of one layer kind for rows laid out as `documents` (B, S), watched."""

        def watched(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
            self.largest.append(largest_logit(query, key, documents, direction, window, open_keys))
            return attend(query, key, value)

        return watched


@torch.no_grad()
def largest_logit(
    query: torch.Tensor,
    key: torch.Tensor,
    documents: torch.Tensor,
    direction: str,
    window: int | None,
    open_keys: torch.Tensor | None = None,
) -> torch.Tensor:
    """The largest logit of queries and keys (B, A, S, D) between visible tokens that are no padding, a scalar in fp32."""
    index = torch.arange(documents.shape[1], device=documents.device)
    largest = torch.full((), float("-inf"), device=query.device)
    for begin in range(0, len(index), QUERIES):
        some = slice(begin, begin + QUERIES)
        offset = index[some, None] - index[None, :]
        seen = visible(documents[:, some], documents, offset, direction, window, open_keys)
        seen &= documents[:, some, None] >= 0
        logits = (query[:, :, some] @ key.transpose(-1, -2)).float() / query.shape[-1] ** 0.5
        largest = torch.maximum(largest, logits.masked_fill(~seen[:, None], float("-inf")).amax())
    return largest
