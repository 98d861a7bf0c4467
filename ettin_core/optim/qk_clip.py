"""QK-clip (Kimi K2, arXiv 2507.20534, section 2.1 and algorithm 1): heads whose attention logits exceed tau are scaled down.

The report takes a head's largest logit of the batch. Fused kernels never show theirs, and recomputing it costs a product
of all pairs of positions; the bound taken here, by Cauchy-Schwarz, costs one pass over queries and keys:

    max over rows of (max_i |q_i|) (max_j |k_j|) / sqrt(D)

Rotary positions turn queries and keys without changing their norms, so those before the rotation serve. It is a maximum
over rows, so it does not depend on how the batch is divided into micro-batches and processes. It is at least the largest
logit, so the same tau limits heads more than in the report, never less: in small runs with logits of about 10 the bounds were
1.4 to 2.5 times these. As there, what is measured in a step's forward passes scales the weights after its update.

torch.compile traces the hooks into the model's graph without a break; were they missed, `apply` would raise ValueError.
"""

from functools import partial

import torch
from torch import nn

from ettin_core.foundation.distributed import ProcessGroup, is_divided
from ettin_core.foundation.errors import invalid

UNSEEN = -1.0


class QKClip:
    """Measures the attention modules of a model (those with a `query_key_value` and `num_heads`) through forward hooks."""

    def __init__(self, model: nn.Module, tau: float) -> None:
        self.tau = tau
        self.modules = [module for module in model.modules() if hasattr(module, "query_key_value")]
        self.projections: list[nn.Linear] = [module.query_key_value for module in self.modules]  # type: ignore[misc]
        self.num_heads = int(self.modules[0].num_heads)  # type: ignore[arg-type]
        shape = (len(self.modules), self.num_heads)
        self.bounds = torch.full(shape, UNSEEN, device=self.projections[0].weight.device)
        for layer, projection in enumerate(self.projections):
            projection.register_forward_hook(partial(self._measure, layer))

    def reset(self) -> None:
        """Begin a step: nothing has been measured."""
        self.bounds.fill_(UNSEEN)

    @torch.no_grad()
    def _measure(self, layer: int, module: nn.Module, arguments: object, output: torch.Tensor) -> None:
        parts = output.unflatten(-1, (3, self.num_heads, -1))  # (B, S, 3, A, D)
        norms = torch.linalg.vector_norm(parts[:, :, :2], dim=-1, dtype=torch.float32)
        query, key = norms.amax(1).unbind(1)  # (B, A) each
        bound = (query * key).amax(0) / parts.shape[-1] ** 0.5
        self.bounds[layer] = torch.maximum(self.bounds[layer], bound)

    @torch.no_grad()
    def apply(self, group: ProcessGroup) -> None:
        """Scale query and key weights of each head by sqrt(min(1, tau / bound)), the bound being that of this step's rows.

        Raises ValueError if a layer was not measured, as in a model that was compiled without the hooks.
        """
        everyone = self.bounds.new_zeros(group.world_size, *self.bounds.shape)
        everyone[group.rank] = self.bounds
        bounds = group.sum(everyone).amax(0)  # zeros in the rows of other processes: the sum gathers
        if bool((bounds < 0).any()):
            raise invalid("optimizer.qk_clip", self.tau, "sees no attention", "use placement.compile=false")
        factors = (self.tau / bounds).clamp(max=1.0).sqrt()
        for projection, factor in zip(self.projections, factors, strict=True):
            _scale_heads(projection.weight, factor)


def _scale_heads(weight: torch.Tensor, factor: torch.Tensor) -> None:
    """Scale each head's rows of queries and keys in (3 A D, H); a factor of 1 leaves them bitwise as they are."""
    width = weight.shape[0] // (3 * len(factor))
    rows = torch.stack([factor, factor, torch.ones_like(factor)]).repeat_interleave(width, dim=1).reshape(-1, 1)
    if is_divided(weight):
        from torch.distributed.tensor import distribute_tensor  # a second to import, for divided weights only

        rows = distribute_tensor(rows, weight.device_mesh, weight.placements)
    weight.mul_(rows)
