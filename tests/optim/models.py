"""A small transformer and its steps, shared by the tests of update rules."""

from dataclasses import replace
from typing import Any

import torch
from torch import nn

from ettin_core.foundation.distributed import ProcessGroup
from ettin_core.model.config import AttentionSpec, ModelConfig
from ettin_core.model.transformer import Transformer
from ettin_core.optim.build import build_update
from ettin_core.optim.config import MuonConfig, OptimizerConfig
from ettin_core.optim.qk_clip import QKClip
from ettin_core.optim.update import Update

SHAPE = ModelConfig(128, 32, 4, 2, 48, local_window=16)
VIEW = AttentionSpec("bidirectional")
HEADS, WIDTH = SHAPE.num_heads, SHAPE.head_size
TAU = 2.0
LOUD = [(0, 1), (2, 0), (2, 1)]  # layer and head whose logits are made large
STABLE_ADAMW = OptimizerConfig("stable_adamw", 3e-3, 3e-4)
CONFIGS = {
    "stable_adamw": STABLE_ADAMW,
    "adamw": OptimizerConfig("adamw", 3e-3, 0.01),
    "muon": OptimizerConfig("muon", 3e-3, 0.1, muon=MuonConfig()),
    "muon_limited": OptimizerConfig("muon", 3e-3, 0.1, muon=MuonConfig(adamw_rate=0.5), clip_norm=0.5, qk_clip=0.05),
    "stable_adamw_limited": replace(STABLE_ADAMW, clip_norm=0.5, qk_clip=0.05),
}


def small_model() -> Transformer:
    """A small transformer of the project, the same each time."""
    return Transformer(SHAPE, seed=1, attention="reference")


def gradient(parameter: torch.Tensor, number: int, step: int) -> torch.Tensor:
    """A gradient for the parameter with this number, the same each time."""
    generator = torch.Generator().manual_seed(1000 * step + number)
    return torch.randn(parameter.shape, generator=generator) * 0.01 * (step + 1)


def give_gradients(model: nn.Module, step: int) -> float:
    """Give every parameter its gradient of a step; their global norm."""
    for number, parameter in enumerate(model.parameters()):
        parameter.grad = gradient(parameter, number, step)
    gradients = (parameter.grad for parameter in model.parameters())
    return float(torch.nn.utils.get_total_norm([gradient for gradient in gradients if gradient is not None]))


def rate(step: int) -> float:
    """A warm-up, then a constant."""
    return 3e-3 * min(1.0, (step + 1) / 4)


def train(model: nn.Module, optimizer: torch.optim.Optimizer, begin: int, end: int) -> None:
    """Steps begin..end with their gradients and rates, without a forward pass."""
    for step in range(begin, end):
        Update(optimizer).apply(give_gradients(model, step), rate(step), ProcessGroup())


def names(model: nn.Module, group: dict[str, Any]) -> list[str]:
    """Names of a group's parameters."""
    known = {id(parameter): name for name, parameter in model.named_parameters()}
    return [known[id(parameter)] for parameter in group["params"]]


def rows(count: int, length: int = 40) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Tokens, documents (two a row) and positions of some rows, the same each time."""
    tokens = torch.randint(SHAPE.vocab_size, (count, length), generator=torch.Generator().manual_seed(3))
    documents = (torch.arange(length) >= length // 3).long().expand(count, length).contiguous()
    positions = torch.where(documents == 0, torch.arange(length), torch.arange(length) - -(-length // 3))
    return tokens, documents, positions


def loud_model() -> Transformer:
    """A transformer in which some heads have logits above tau, most of them far."""
    model = small_model()
    with torch.no_grad():
        for layer, head in LOUD:
            by_head(model, layer)[:2, head] *= 12.0
    return model


def by_head(model: Transformer, layer: int) -> torch.Tensor:
    """Weights of queries, keys and values (3, A, D, H) of a layer, as a view."""
    weight: torch.Tensor = model.layers[layer].attention.query_key_value.weight  # type: ignore[union-attr, assignment]
    return weight.detach().unflatten(0, (3, HEADS, WIDTH))


def clipping(model: nn.Module, tau: float = TAU) -> tuple[Update, QKClip]:
    """An update that clips logits, and its clip."""
    update = build_update(OptimizerConfig("adamw", 1e-3, 0.0, qk_clip=tau), model)
    assert update.qk_clip is not None
    return update, update.qk_clip
