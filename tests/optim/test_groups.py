"""Parameter groups partition the model, and the configuration decides the update rule."""

from typing import Any

import pytest
import torch
from torch import nn

from ettin_core.model.config import ModelConfig
from ettin_core.model.transformer import Transformer
from ettin_core.optim.build import OptimizerConfig, build_optimizer, parameter_groups
from ettin_core.optim.stable_adamw import StableAdamW

CONFIG: dict[str, Any] = {"name": "stable_adamw", "learning_rate": 1e-3, "weight_decay": 0.1}


@pytest.fixture(scope="module")
def model() -> Transformer:
    """A small transformer of the project."""
    return Transformer(ModelConfig(128, 32, 4, 2, 48, local_window=16), seed=1)


def names(model: nn.Module, group: dict[str, Any]) -> set[str]:
    """Names of a group's parameters."""
    known = {id(parameter): name for name, parameter in model.named_parameters()}
    return {known[id(parameter)] for parameter in group["params"]}


def test_groups_partition_the_parameters(model: Transformer) -> None:
    decayed, spared = (names(model, group) for group in parameter_groups(model, 0.1))
    assert decayed | spared == {name for name, _ in model.named_parameters()}
    assert not decayed & spared
    assert sum(len(group["params"]) for group in parameter_groups(model, 0.1)) == len(decayed) + len(spared)  # type: ignore[arg-type, misc]


def test_norms_and_biases_have_no_decay_and_matrices_have(model: Transformer) -> None:
    decayed, spared = parameter_groups(model, 0.1)
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.1, 0.0)
    assert all("norm" in name or "bias" in name for name in names(model, spared))
    assert not any("norm" in name or "bias" in name for name in names(model, decayed))
    assert any("norm" in name for name in names(model, spared))
    assert any("bias" in name for name in names(model, spared))


def test_the_tied_embedding_is_one_parameter_with_decay(model: Transformer) -> None:
    decayed = names(model, parameter_groups(model, 0.1)[0])
    assert len([name for name in decayed if "embed" in name]) == 1


def test_frozen_parameters_are_left_out() -> None:
    model = nn.Linear(3, 4)
    model.bias.requires_grad_(False)
    assert [len(group["params"]) for group in parameter_groups(model, 0.1)] == [1, 0]  # type: ignore[arg-type]


def test_the_published_optimiser_is_built() -> None:
    model = nn.Linear(3, 4)
    optimizer = build_optimizer(OptimizerConfig(**CONFIG, betas=(0.8, 0.9), epsilon=1e-5), model)
    assert isinstance(optimizer, StableAdamW)
    for group, decay in zip(optimizer.param_groups, (0.1, 0.0), strict=True):
        assert (group["lr"], group["peak"], group["betas"], group["eps"]) == (1e-3, 1e-3, (0.8, 0.9), 1e-5)
        assert group["weight_decay"] == decay


def test_adamw_is_torchs() -> None:
    model = nn.Linear(3, 4)
    optimizer = build_optimizer(OptimizerConfig(**CONFIG | {"name": "adamw"}), model)
    assert type(optimizer) is torch.optim.AdamW
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.1, 0.0]
    assert {(group["lr"], group["betas"], group["eps"]) for group in optimizer.param_groups} == {
        (1e-3, (0.9, 0.98), 1e-6)
    }


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"name": "adam"}, "optimizer.name='adam' is not an optimiser; use one of stable_adamw, adamw"),
        ({"learning_rate": 0.0}, "optimizer.learning_rate=0.0 is not positive"),
        ({"learning_rate": -1.0}, "optimizer.learning_rate=-1.0 is not positive"),
        ({"betas": (0.9,)}, "optimizer.betas=(0.9,) are not two numbers in [0, 1)"),
        ({"betas": (0.9, 1.0)}, "optimizer.betas=(0.9, 1.0) are not two numbers"),
        ({"betas": (-0.1, 0.9)}, "optimizer.betas=(-0.1, 0.9) are not two numbers"),
    ],
)
def test_an_optimiser_that_makes_no_sense_is_refused(change: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError) as caught:
        OptimizerConfig(**CONFIG | change)
    assert str(caught.value).startswith(problem)
