"""Reading few positions: the last layer answers for them alone, as it would among all."""

import pytest
import torch

from ettin_core.model.attention_backends import make_attention, make_attention_at, sdpa
from ettin_core.model.config import BACKENDS, DIRECTIONS, AttentionSpec, ModelConfig
from ettin_core.model.transformer import Transformer, pick


@pytest.mark.parametrize("backend", [name for name in BACKENDS if name != "flex"])
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("layers", [1, 4])
def test_states_at_read_positions_are_those_among_all(layers: int, direction: str, backend: str) -> None:
    config = ModelConfig(
        vocab_size=61, hidden_size=32, num_layers=layers, num_heads=2, intermediate_size=48, local_window=4
    )
    model = Transformer(config, seed=3, attention=backend).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(4.0) if parameter.ndim == 2 else None  # attention far from uniform
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(0, 61, (3, 30), generator=generator)
    documents = torch.zeros_like(tokens)
    documents[0, 17:] = 1  # two documents in a row
    documents[1, 21:] = -1  # padding
    positions = torch.arange(30).expand(3, -1).clone()
    positions[0, 17:] -= 17
    prefix_mask = positions < 6 if direction == "prefix" else None
    read = torch.tensor([[0, 16, 17, 29], [20, 3, 3, 0], [12, 13, 14, 15]])
    view = AttentionSpec(direction, rope_base_global=160_000.0)
    with torch.inference_mode():
        whole = model(tokens, documents, positions, view, prefix_mask)
        few = model(tokens, documents, positions, view, prefix_mask, read)
    assert few.shape == (3, 4, 32) and whole.std() > 0.3
    assert torch.allclose(few, pick(whole, read), atol=2e-5)


@pytest.mark.parametrize("lengths", [[30, 30], [30, 21]], ids=["one length", "padded"])
@pytest.mark.parametrize("direction", ["bidirectional", "causal"])
def test_masks_of_read_positions_are_made_for_some_queries_at_a_time(
    direction: str, lengths: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sdpa, "MASKED_PAIRS", 200)
    documents = torch.tensor([[0] * length + [-1] * (30 - length) for length in lengths])
    read = torch.arange(21).repeat(2, 1)
    query, key, value = torch.randn(3, 2, 2, 30, 8, generator=torch.Generator().manual_seed(1))
    whole = make_attention("reference", documents, direction, None)(query, key, value)[:, :, :21]
    few = make_attention_at(read, documents, direction)(query[:, :, :21], key, value)
    torch.testing.assert_close(few, whole, rtol=1e-5, atol=1e-6)


def test_reading_is_for_inference() -> None:
    model = Transformer(ModelConfig(61, 32, 1, 2, 48)).train()
    row = torch.zeros((1, 4), dtype=torch.int64)
    with pytest.raises(AssertionError):
        model(row, row, row, AttentionSpec("causal"), scored_positions=row[:, :1])
