"""Optimiser from configuration, with parameter groups that are proved to partition the model."""

from dataclasses import dataclass

import torch
from torch import nn

from ettin_core.foundation.errors import invalid
from ettin_core.optim.muon import MuonConfig, MuonWithAdamW
from ettin_core.optim.qk_clip import QKClip
from ettin_core.optim.stable_adamw import StableAdamW

NAMES = ("stable_adamw", "adamw", "muon")


@dataclass(frozen=True)
class OptimizerConfig:
    """The update rule. `learning_rate` is what the factors of the phases multiply; weight decay spares norms and biases.

    stable_adamw scales weight decay by (rate / the run's top rate), so that a conversion, which begins with a fresh
    optimiser at half the rate, decays as much as its parent did (Weller et al. 2025, as published); adamw and muon scale
    it by the rate itself (torch's convention). `muon` is
    given for muon and for nothing else; `betas` and `epsilon` are then those of its AdamW. `clip_norm` limits the global
    norm of the gradient, `qk_clip` each head's attention logits (optim.qk_clip); neither is published, both work with
    every update rule. Raises ValueError for values that make no sense.
    """

    name: str
    learning_rate: float
    weight_decay: float
    betas: tuple[float, ...] = (0.9, 0.98)
    epsilon: float = 1e-6
    muon: MuonConfig | None = None
    clip_norm: float | None = None
    qk_clip: float | None = None

    def __post_init__(self) -> None:
        if self.name not in NAMES:
            raise invalid("optimizer.name", self.name, "is not an optimiser", f"use one of {', '.join(NAMES)}")
        for name, example in (("learning_rate", "1e-3"), ("epsilon", "1e-6")):
            if not 0 < getattr(self, name) < float("inf"):
                raise invalid(f"optimizer.{name}", getattr(self, name), "is not positive", f"use about {example}")
        for name, example in (("clip_norm", "1.0"), ("qk_clip", "100")):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise invalid(f"optimizer.{name}", value, "is not positive", f"use {example}, or null for none")
        if not 0 <= self.weight_decay < float("inf"):
            raise invalid("optimizer.weight_decay", self.weight_decay, "is negative", "use 0 or more")
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise invalid("optimizer.betas", self.betas, "are not two numbers in [0, 1)", "use [0.9, 0.98]")
        if self.name == "muon" and self.muon is None:
            raise invalid("optimizer.muon", None, "is missing", "use {momentum: 0.95}")
        if self.name != "muon" and self.muon is not None:
            raise invalid("optimizer.muon", self.muon, f"means nothing to {self.name}", "use null, or optimizer=muon")


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Matrices (the tied embedding included) with decay, vectors without."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    decayed = [parameter for parameter in trained if parameter.ndim > 1]
    spared = [parameter for parameter in trained if parameter.ndim <= 1]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": spared, "weight_decay": 0.0}]


def build_optimizer(config: OptimizerConfig, model: nn.Module, top_rate: float | None = None) -> torch.optim.Optimizer:
    """The optimiser of a run over all its phases; asserted to hold each trained parameter of the model exactly once.

    `top_rate` is the highest learning rate of the run (None: `config.learning_rate`), by which stable_adamw measures the
    rate that scales weight decay.
    """
    optimizer = _rule(config, model, top_rate or config.learning_rate)
    held = sorted(id(parameter) for group in optimizer.param_groups for parameter in group["params"])
    assert held == sorted(id(parameter) for parameter in model.parameters() if parameter.requires_grad)
    optimizer.defaults["clip_norm"] = config.clip_norm
    optimizer.defaults["qk_clip"] = None if config.qk_clip is None else QKClip(model, config.qk_clip)
    return optimizer


def _rule(config: OptimizerConfig, model: nn.Module, top_rate: float) -> torch.optim.Optimizer:
    betas = (config.betas[0], config.betas[1])
    if config.muon is not None:
        return MuonWithAdamW(model, config.learning_rate, config.weight_decay, betas, config.epsilon, config.muon)
    groups = parameter_groups(model, config.weight_decay)
    if config.name == "stable_adamw":
        return StableAdamW(groups, top_rate, betas, config.epsilon)
    return torch.optim.AdamW(groups, config.learning_rate, betas, config.epsilon)
