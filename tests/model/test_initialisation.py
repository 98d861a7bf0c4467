"""The start: a function of the seed and each parameter's name, and nothing else."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from ettin_core.checkpoints.native import hash_tensors
from ettin_core.model import transformer
from ettin_core.model.accounting import parameters_by_group, parameters_of_shape
from ettin_core.model.config import AttentionSpec, ModelConfig
from ettin_core.model.leak_check import check_no_leak
from ettin_core.model.transformer import INITIAL_STD, Transformer

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ModelConfig(vocab_size=500, hidden_size=128, num_layers=4, num_heads=2, intermediate_size=192)
START = "0ba1b6566f2d4d36be438c56bbb61021a0bf3c74a3b4b63d7cd1a309b74129c5"
CUT_AT_TWO = 0.8796  # standard deviation of a unit normal cut at plus and minus two


def test_the_same_seed_gives_the_same_start_whatever_was_drawn_before() -> None:
    torch.manual_seed(1)
    first = Transformer(CONFIG, seed=21).state_dict()
    torch.manual_seed(2)
    torch.rand(10)
    second = Transformer(CONFIG, seed=21).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_the_start_does_not_depend_on_the_default_precision() -> None:
    first = Transformer(CONFIG, seed=21).state_dict()
    try:
        torch.set_default_dtype(torch.bfloat16)
        second = Transformer(CONFIG, seed=21).state_dict()
    finally:
        torch.set_default_dtype(torch.float32)
    assert all(torch.equal(first[name].bfloat16(), second[name]) for name in first)


def test_the_start_is_the_same_on_every_processor() -> None:
    """The committed weights, here and in a process whose torch and numpy use no vector instructions."""
    code = "from ettin_core.checkpoints.native import hash_tensors; from ettin_core.model.config import ModelConfig\n"
    code += f"from ettin_core.model.transformer import Transformer; print(hash_tensors(Transformer({CONFIG}, 21).state_dict()))"
    without = {"ATEN_CPU_CAPABILITY": "default", "NPY_DISABLE_CPU_FEATURES": "AVX2 FMA3 AVX512F AVX512_SKX"}
    environment = os.environ | without | {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}
    plain = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert plain.stdout.strip() == START, plain.stderr[-2000:]
    assert hash_tensors(Transformer(CONFIG, seed=21).state_dict()) == START


def test_another_seed_gives_another_start() -> None:
    first, second = (dict(Transformer(CONFIG, seed=seed).named_parameters()) for seed in (1, 2))
    assert all(not torch.equal(first[name], second[name]) for name in first if first[name].ndim == 2)


def test_a_parameter_does_not_depend_on_the_others() -> None:
    deeper = ModelConfig(vocab_size=500, hidden_size=128, num_layers=7, num_heads=2, intermediate_size=192)
    shallow, deep = (Transformer(config, seed=5).state_dict() for config in (CONFIG, deeper))
    written = ("attention.output.weight", "mlp.output.weight")  # their size depends on the depth
    shared = [name for name in shallow if shallow[name].ndim == 2 and not name.endswith(written)]
    assert len(shared) == 2 + 2 * 4
    assert all(torch.equal(shallow[name], deep[name]) for name in shared)


def test_no_two_parameters_share_their_numbers() -> None:
    matrices = [parameter.flatten() for parameter in Transformer(CONFIG).parameters() if parameter.ndim == 2]
    for index, left in enumerate(matrices):
        for right in matrices[:index]:
            length = min(len(left), len(right))
            correlation = torch.corrcoef(torch.stack([left[:length], right[:length]]))[0, 1].abs()
            assert correlation < 6 / length**0.5


@pytest.mark.parametrize("layers", [4, 28])
def test_sizes_of_the_draws(layers: int) -> None:
    config = ModelConfig(vocab_size=500, hidden_size=128, num_layers=layers, num_heads=2, intermediate_size=192)
    for name, parameter in Transformer(config, seed=9).named_parameters():
        if name == "output_bias":
            assert torch.equal(parameter, torch.zeros(500))
        elif "norm" in name:
            assert torch.equal(parameter, torch.ones(128))
        else:
            writes_to_residual = name.endswith(("attention.output.weight", "mlp.output.weight"))
            nominal = INITIAL_STD / (2 * layers) ** 0.5 if writes_to_residual else INITIAL_STD
            assert parameter.std().item() == pytest.approx(CUT_AT_TWO * nominal, rel=0.03), name
            assert parameter.abs().max() <= 2 * nominal * (1 + 1e-6), name
            assert abs(parameter.mean().item()) < 0.03 * nominal, name


def test_a_model_of_shapes_only_costs_nothing() -> None:
    with torch.device("meta"):
        model = Transformer(ModelConfig(50368, 1792, 28, 28, 3840))
    assert all(parameter.is_meta for parameter in model.parameters())


def test_a_norm_is_one_function_as_the_docs_show(monkeypatch: pytest.MonkeyPatch) -> None:
    page = (ROOT / "docs" / "extend" / "norm.md").read_text()
    [source] = re.findall(r"```python\n(.*?)```", page, re.S)
    module: dict[str, object] = {}
    exec(source, module)
    monkeypatch.setattr(transformer, "_norm", module["_norm"])
    model = Transformer(CONFIG)
    kinds = {type(part) for name, part in model.named_modules() if name.endswith("norm")}
    assert kinds == {nn.RMSNorm, nn.Identity} and parameters_by_group(model) == parameters_of_shape(CONFIG)
    check_no_leak(model, AttentionSpec("causal"))
