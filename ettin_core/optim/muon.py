"""Muon for the hidden matrices and AdamW for everything else, both torch's own, joined as one optimiser.

Muon (Jordan et al. 2024; Liu et al. 2025, arXiv 2502.16982, eq. 4): the step of a matrix (A, B) is its Nesterov momentum
with all singular values pushed towards 1 by Newton-Schulz, times rate * 0.2 sqrt(max(A, B)). A root mean square of 0.2 is
about that of an AdamW step, so one learning rate serves both (torch's adjust_lr_fn="match_rms_adamw"). Weight decay is
multiplied by the rate in both. torch runs Newton-Schulz in bf16 whatever the precision of the weights. So the last bit of a
gradient, which depends on the number of processes, can move an update by bf16's resolution.
"""

from collections.abc import Callable, MutableMapping
from typing import Any

import torch
from torch import nn

from ettin_core.foundation.distributed import is_divided
from ettin_core.foundation.errors import invalid
from ettin_core.optim.config import MuonConfig

BLOCKS = {"query_key_value": 3, "mlp.input": 2}  # matrices of the model that are several, stacked by rows


class BlockMuon(torch.optim.Muon):
    """torch's Muon, for which a matrix of a group is `blocks` matrices stacked by rows, each with its own update.

    Queries, keys and values are three maps that the model computes in one product, and so are the two halves of the gated
    MLP. As one matrix, orthogonality would be asked of rows that never meet and the update of one map would depend on the
    gradient of another; Liu et al. and Kimi K2 keep these matrices apart. State stays per parameter, as torch's.
    """

    def _init_group(
        self,
        group: MutableMapping[str, Any],
        params_with_grad: list[torch.Tensor],
        grads: list[torch.Tensor],
        muon_momentum_bufs: list[torch.Tensor],
    ) -> bool:
        whole: tuple[list[torch.Tensor], ...] = ([], [], [])
        complex_numbers = super()._init_group(group, *whole)
        for tensors, blocks in zip(whole, (params_with_grad, grads, muon_momentum_bufs), strict=True):
            for tensor in tensors:
                blocks.extend(tensor.unflatten(0, (group["blocks"], -1)).unbind())  # views: torch updates them in place
        return complex_numbers


class MuonWithAdamW(torch.optim.Optimizer):
    """Both update rules over one list of groups and one state: `momentum_buffer`, or AdamW's `step` and two moments.

    A group that names its `blocks` is Muon's. A group's `rate` is its share of the learning rate.
    """

    def __init__(
        self,
        model: nn.Module,
        learning_rate: float,
        weight_decay: float,
        betas: tuple[float, float],
        epsilon: float,
        config: MuonConfig,
    ) -> None:
        """Raises ValueError for weights divided over processes: a whole matrix is needed to orthogonalise it."""
        if any(is_divided(parameter) for parameter in model.parameters()):
            raise invalid("optimizer.name", "muon", "needs matrices that are not divided", "use placement.parallel=ddp")
        self.muon = BlockMuon(
            hidden_groups(model, weight_decay),
            learning_rate,
            momentum=config.momentum,
            ns_steps=config.newton_schulz_steps,
            adjust_lr_fn="match_rms_adamw",
        )
        rest = other_groups(model, weight_decay, config.adamw_rate)
        self.adamw = torch.optim.AdamW(rest, learning_rate * config.adamw_rate, betas, epsilon)
        super().__init__([*self.muon.param_groups, *self.adamw.param_groups], {})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        assert closure is None, "MuonWithAdamW takes no closure"
        for part, is_muon in ((self.muon, True), (self.adamw, False)):
            part.param_groups = [group for group in self.param_groups if ("blocks" in group) == is_muon]
            part.state = self.state
            part.step()


def hidden_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Weights of linear maps, grouped by the number of matrices each of them is."""
    groups: dict[int, list[torch.Tensor]] = {}
    for name, parameter in _hidden(model).items():
        blocks = next((number for suffix, number in BLOCKS.items() if name.endswith(f"{suffix}.weight")), 1)
        groups.setdefault(blocks, []).append(parameter)
    return [
        {"params": groups[blocks], "weight_decay": weight_decay, "rate": 1.0, "blocks": blocks}
        for blocks in sorted(groups)
    ]


def other_groups(model: nn.Module, weight_decay: float, rate: float) -> list[dict[str, Any]]:
    """Parameters that are not weights of linear maps: matrices (the tied embedding) with decay, vectors without."""
    hidden = _hidden(model)
    rest = [parameter for name, parameter in model.named_parameters() if parameter.requires_grad and name not in hidden]
    matrices, vectors = (
        [parameter for parameter in rest if parameter.ndim > 1],
        [parameter for parameter in rest if parameter.ndim <= 1],
    )
    return [
        {"params": matrices, "weight_decay": weight_decay, "rate": rate},
        {"params": vectors, "weight_decay": 0.0, "rate": rate},
    ]


def _hidden(model: nn.Module) -> dict[str, torch.Tensor]:
    linear = {id(module.weight) for module in model.modules() if isinstance(module, nn.Linear)}
    named = model.named_parameters()
    return {name: weight for name, weight in named if id(weight) in linear and weight.requires_grad}
