"""Optimiser from configuration, with parameter groups that are proved to partition the model."""

from dataclasses import dataclass

import torch
from torch import nn

from ettin_core.foundation.errors import invalid
from ettin_core.optim.stable_adamw import StableAdamW

NAMES = ("stable_adamw", "adamw")


@dataclass(frozen=True)
class OptimizerConfig:
    """The update rule. `learning_rate` is the peak over all phases; weight decay spares norms and biases.

    stable_adamw scales weight decay by (rate / peak), adamw by the rate itself (torch's convention).
    """

    name: str
    learning_rate: float
    weight_decay: float
    betas: tuple[float, ...] = (0.9, 0.98)
    epsilon: float = 1e-6

    def __post_init__(self) -> None:
        if self.name not in NAMES:
            raise invalid("optimizer.name", self.name, "is not an optimiser", f"use one of {', '.join(NAMES)}")
        for name, example in (("learning_rate", "1e-3"), ("epsilon", "1e-6")):
            if not 0 < getattr(self, name) < float("inf"):
                raise invalid(f"optimizer.{name}", getattr(self, name), "is not positive", f"use about {example}")
        if not 0 <= self.weight_decay < float("inf"):
            raise invalid("optimizer.weight_decay", self.weight_decay, "is negative", "use 0 or more")
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise invalid("optimizer.betas", self.betas, "are not two numbers in [0, 1)", "use [0.9, 0.98]")


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Matrices (the tied embedding included) with decay, vectors without; asserted to cover each parameter once."""
    named = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    decayed = [parameter for _, parameter in named if parameter.ndim > 1]
    spared = [parameter for _, parameter in named if parameter.ndim <= 1]
    assert len({id(parameter) for parameter in decayed + spared}) == len(named) == len(decayed) + len(spared)
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": spared, "weight_decay": 0.0}]


def build_optimizer(config: OptimizerConfig, model: nn.Module) -> torch.optim.Optimizer:
    """The optimiser of a run over all its phases."""
    groups = parameter_groups(model, config.weight_decay)
    betas = (config.betas[0], config.betas[1])
    if config.name == "stable_adamw":
        return StableAdamW(groups, config.learning_rate, betas, config.epsilon)
    return torch.optim.AdamW(groups, config.learning_rate, betas, config.epsilon)
