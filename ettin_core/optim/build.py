"""Optimiser from configuration, with parameter groups that are asserted to partition the model."""

import torch
from torch import nn

from ettin_core.optim.config import OptimizerConfig
from ettin_core.optim.muon import MuonWithAdamW
from ettin_core.optim.qk_clip import QKClip
from ettin_core.optim.stable_adamw import StableAdamW
from ettin_core.optim.update import Update


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
    return optimizer


def build_update(config: OptimizerConfig, model: nn.Module, top_rate: float | None = None) -> Update:
    """The optimiser of a run with what surrounds its step: clipping of gradients and of attention logits."""
    clip = None if config.qk_clip is None else QKClip(model, config.qk_clip)
    return Update(build_optimizer(config, model, top_rate), config.clip_norm, clip)


def _rule(config: OptimizerConfig, model: nn.Module, top_rate: float) -> torch.optim.Optimizer:
    betas = (config.betas[0], config.betas[1])
    if config.muon is not None:
        return MuonWithAdamW(model, config.learning_rate, config.weight_decay, betas, config.epsilon, config.muon)
    groups = parameter_groups(model, config.weight_decay)
    if config.name == "stable_adamw":
        return StableAdamW(groups, top_rate, betas, config.epsilon)
    fused = any(parameter.is_cuda for parameter in model.parameters()) or None
    return torch.optim.AdamW(groups, config.learning_rate, betas, config.epsilon, fused=fused)
