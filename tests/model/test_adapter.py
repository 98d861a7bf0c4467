"""Low-rank adapters: what they add, what stays frozen, what merging them gives, and what training them costs."""

import sys

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from ettin_core.checkpoints.native import hash_tensors
from ettin_core.model.accounting import FlopCounter, adapter_parameter_count
from ettin_core.model.adapter import add_adapter, check_installed, trained, weights
from ettin_core.model.config import AdapterConfig, AttentionSpec, ModelConfig
from ettin_core.model.transformer import Transformer
from ettin_core.objectives.loss import summed_cross_entropy

CONFIG = ModelConfig(211, 64, 4, 2, 96, local_window=8)
ADAPTER = AdapterConfig(rank=3, alpha=12)
MATRICES = ["attention.query_key_value", "attention.output", "mlp.input", "mlp.output"]


def adapted(seed: int = 5) -> Transformer:
    model = Transformer(CONFIG, seed=1, attention="reference")
    add_adapter(model, ADAPTER, seed)
    return model


def logits(model: Transformer, direction: str = "causal") -> torch.Tensor:
    """Of two documents in a row longer than the window."""
    tokens = torch.randint(0, 211, (2, 40), generator=torch.Generator().manual_seed(3))
    documents = (torch.arange(40) >= 25).long().expand(2, -1)
    positions = torch.cat([torch.arange(25), torch.arange(15)]).expand(2, -1)
    with torch.no_grad():
        return model.logits(model(tokens, documents, positions, AttentionSpec(direction)))


def test_every_linear_map_is_adapted_and_nothing_else_is_trained() -> None:
    model = adapted()
    names = [f"layers.{layer}.{matrix}" for layer in range(4) for matrix in MATRICES] + ["head.dense"]
    wanted = {f"{name}.lora_{side}.default.weight" for name in names for side in "AB"}
    assert set(trained(model)) == wanted
    count = sum(parameter.numel() for parameter in trained(model).values())
    assert count == adapter_parameter_count(CONFIG, 3) == 3 * (4 * ((64 + 192) + 128 + (64 + 192) + (96 + 64)) + 128)


def test_the_start_is_the_same_function_and_the_same_bits_whatever_was_drawn_before() -> None:
    plain = Transformer(CONFIG, seed=1, attention="reference")
    torch.manual_seed(1)
    first = adapted()
    torch.manual_seed(2)
    second, third = adapted(), adapted(seed=6)
    assert torch.equal(logits(first), logits(plain))
    state = {name: value.clone() for name, value in trained(first).items()}
    assert all(torch.equal(value, state[name]) for name, value in trained(second).items())
    assert all(torch.equal(value, state[name]) == (".lora_B." in name) for name, value in trained(third).items())
    assert all(
        0.9 < value.abs().max() * value.shape[1] ** 0.5 <= 1 for name, value in state.items() if "lora_A" in name
    )
    committed = "54e95dea65e27986fbad6b68eabc26cd9c836f15874de5063a26fdef9edb7d9a"  # the same on every processor
    assert hash_tensors({name: value.detach() for name, value in state.items()}) == committed


@pytest.mark.parametrize("direction", ["causal", "bidirectional"])
def test_merged_weights_are_the_adapted_model(direction: str) -> None:
    model, plain = adapted(), Transformer(CONFIG, seed=1, attention="reference")
    before = logits(plain, direction)
    with torch.no_grad():
        for name, parameter in trained(model).items():
            if ".lora_B." in name:
                parameter.normal_(0, 0.05, generator=torch.Generator().manual_seed(len(name)))
    merged = Transformer(CONFIG, seed=9, attention="reference")
    merged.load_state_dict(weights(model))
    wanted = logits(model, direction)
    assert (wanted - before).abs().max() > 0.1
    torch.testing.assert_close(logits(merged, direction), wanted, rtol=1e-4, atol=2e-6)
    merged_weights, base = weights(model), plain.state_dict()
    assert {name for name in base if torch.equal(merged_weights[name], base[name])} == {
        name for name, value in base.items() if value.ndim == 1 or name == "embedding.weight"
    }


def test_a_model_without_an_adapter_is_its_own_state() -> None:
    model = Transformer(CONFIG)
    state = model.state_dict()
    assert weights(model).keys() == state.keys()
    assert all(value is not None and torch.equal(value, state[name]) for name, value in weights(model).items())


def test_flops_are_those_that_pytorch_counts() -> None:
    """With every key visible, as PyTorch counts dense products; the loss computes no gradient of the frozen output matrix."""
    length = 96
    config = ModelConfig(211, 64, 4, 2, 96, local_window=length)
    model = Transformer(config, attention="reference")
    add_adapter(model, ADAPTER, 0)
    tokens, documents = torch.arange(length)[None], torch.zeros(1, length, dtype=torch.long)
    lengths, ours = np.array([length]), FlopCounter(config, "bidirectional", ADAPTER.rank)
    scored = torch.arange(0, length, 3)
    with FlopCounterMode(display=False) as counted:
        states = model.head(model(tokens, documents, tokens, AttentionSpec("bidirectional"))[0, scored])
        loss, _ = summed_cross_entropy(states, model.embedding.weight, model.output_bias, tokens[0, scored])
        loss.backward()
    assert ours.training(lengths, len(scored)) == counted.get_total_flops()
    assert ours.scoring(len(scored)) + ours.training(lengths, 0) == ours.training(lengths, len(scored))
    assert ours.training(lengths, 9) < FlopCounter(config, "bidirectional").training(lengths, 9)


@pytest.mark.parametrize(("rank", "alpha", "message"), [(0, 16, "rank=0 is not pos"), (8, 0, "alpha=0 is not pos")])
def test_what_is_no_adapter_is_refused(rank: int, alpha: int, message: str) -> None:
    with pytest.raises(ValueError, match=f"adapter.{message}"):
        AdapterConfig(rank, alpha)


def test_without_peft_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    check_installed()
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ValueError, match=r"adapter='lora' needs a package; run pip install -c constraints.txt -e"):
        check_installed()
