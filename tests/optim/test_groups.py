"""Parameter groups partition the model, and the configuration decides the update rule."""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import nn

from ettin_core.foundation.strict_config import build, plain
from ettin_core.model.config import ModelConfig
from ettin_core.model.transformer import Transformer
from ettin_core.optim import build as build_module
from ettin_core.optim.build import build_optimizer, parameter_groups
from ettin_core.optim.config import MuonConfig, OptimizerConfig
from ettin_core.optim.stable_adamw import StableAdamW
from tests.optim.models import CONFIGS, names

CONFIG: dict[str, Any] = {"name": "stable_adamw", "learning_rate": 1e-3, "weight_decay": 0.1}
CONF = Path(__file__).resolve().parents[2] / "conf"
SIZES = sorted(path.stem for path in (CONF / "size").glob("*.yaml"))
HIDDEN = ("query_key_value", "attention.output", "mlp.input", "mlp.output", "head.dense")


def shapes(size: str) -> Transformer:
    """A size's model without memory for its weights."""
    values = yaml.safe_load((CONF / "size" / f"{size}.yaml").read_text())
    fields = ("hidden_size", "num_layers", "num_heads", "intermediate_size")
    with torch.device("meta"):
        return Transformer(ModelConfig(values["vocab_size"] or 512, **{field: values[field] for field in fields}))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("rule", ["stable_adamw", "adamw", "muon"])
def test_groups_partition_the_model(rule: str, size: str) -> None:
    """Every parameter once, the tied embedding too; matrices decay and vectors do not; each rate is what is stated."""
    model = shapes(size)
    optimizer = build_optimizer(CONFIGS[rule], model)
    held = [name for group in optimizer.param_groups for name in names(model, group)]
    assert sorted(held) == sorted(name for name, _ in model.named_parameters())
    assert held.count("embedding.weight") == 1
    spared = {name for group in optimizer.param_groups if not group["weight_decay"] for name in names(model, group)}
    assert spared == {name for name in held if "norm" in name or name == "output_bias"}
    decays = {group["weight_decay"] for group in optimizer.param_groups}
    assert decays == {0.0, CONFIGS[rule].weight_decay}


@pytest.mark.parametrize("size", SIZES)
def test_muon_takes_the_hidden_matrices_and_nothing_else(size: str) -> None:
    model = shapes(size)
    groups = build_optimizer(CONFIGS["muon"], model).param_groups
    blocks = {name: group["blocks"] for group in groups if "momentum" in group for name in names(model, group)}
    assert set(blocks) == {f"{name}.weight" for name, _ in model.named_modules() if name.endswith(HIDDEN)}
    assert len(blocks) == 4 * model.config.num_layers + 1
    assert {name for name, number in blocks.items() if number == 3} == {
        f"layers.{layer}.attention.query_key_value.weight" for layer in range(model.config.num_layers)
    }
    assert {name for name, number in blocks.items() if number == 2} == {
        f"layers.{layer}.mlp.input.weight" for layer in range(model.config.num_layers)
    }
    assert all("betas" in group for group in groups if "momentum" not in group)


def test_groups_that_do_not_partition_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = nn.Linear(3, 4)
    for wrong in ([model.weight], [model.weight, model.bias, nn.Parameter(torch.ones(1))]):
        groups = [{"params": wrong, "weight_decay": 0.0}]
        monkeypatch.setattr(build_module, "parameter_groups", lambda model, decay, groups=groups: groups)
        with pytest.raises(AssertionError):
            build_optimizer(CONFIGS["adamw"], model)


@pytest.mark.parametrize("rule", ["stable_adamw", "adamw", "muon"])
def test_a_configuration_file_builds_its_rule(rule: str) -> None:
    text = (CONF / "optimizer" / f"{rule}.yaml").read_text()
    values = yaml.safe_load(text) | {"learning_rate": 1e-3, "weight_decay": 0.01}
    config = build(OptimizerConfig, values)
    assert config.name == rule and config.clip_norm is None and config.qk_clip is None
    assert build(OptimizerConfig, plain(config)) == config
    build_optimizer(config, nn.Linear(3, 4))


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
        (
            {"name": "adam"},
            "optimizer.name='adam' is not an optimiser; did you mean 'adamw'?",
        ),
        ({"learning_rate": 0.0}, "optimizer.learning_rate=0.0 is not positive"),
        ({"learning_rate": -1.0}, "optimizer.learning_rate=-1.0 is not positive"),
        ({"betas": (0.9,)}, "optimizer.betas=(0.9,) are not two numbers in [0, 1)"),
        ({"betas": (0.9, 1.0)}, "optimizer.betas=(0.9, 1.0) are not two numbers"),
        ({"betas": (-0.1, 0.9)}, "optimizer.betas=(-0.1, 0.9) are not two numbers"),
        ({"clip_norm": 0.0}, "optimizer.clip_norm=0.0 is not positive; use 1.0, or null for none"),
        ({"clip_norm": float("inf")}, "optimizer.clip_norm=inf is not positive"),
        ({"qk_clip": -1.0}, "optimizer.qk_clip=-1.0 is not positive; use 100, or null for none"),
        ({"qk_clip": float("nan")}, "optimizer.qk_clip=nan is not positive"),
        ({"name": "muon"}, "optimizer.muon=None is missing; use {momentum: 0.95}"),
        (
            {"muon": MuonConfig()},
            "optimizer.muon=MuonConfig(momentum=0.95, newton_schulz_steps=5, adamw_rate=1.0) is not used by",
        ),
    ],
)
def test_an_optimiser_that_makes_no_sense_is_refused(change: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError) as caught:
        OptimizerConfig(**CONFIG | change)
    assert str(caught.value).startswith(problem)
