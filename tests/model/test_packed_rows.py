"""A document's outputs do not depend on what shares its row, its batch, or the way attention is computed."""

import pytest
import torch
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

from ettin_core.model.attention_backends import flex
from ettin_core.model.config import AttentionSpec, ModelConfig
from ettin_core.model.transformer import Transformer

CONFIG = ModelConfig(vocab_size=61, hidden_size=32, num_layers=4, num_heads=2, intermediate_size=48, local_window=4)
LENGTHS = (23, 1, 6, 30)


def build(attention: str) -> Transformer:
    """Larger weights than initial ones, so that attention is far from uniform."""
    model = Transformer(CONFIG, seed=3, attention=attention)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(4.0) if parameter.ndim == 2 else parameter.add_(0.1 * torch.arange(len(parameter)).sin())
    return model


def packed_row(padding: int = 7) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """One row of all documents and some padding: tokens, documents, positions, each (1, S)."""
    numbers = torch.repeat_interleave(torch.arange(len(LENGTHS)), torch.tensor(LENGTHS))
    documents = torch.cat([numbers, torch.full((padding,), -1)])
    positions = torch.cat([torch.arange(length) for length in (*LENGTHS, padding)])
    tokens = torch.randint(CONFIG.vocab_size, documents.shape, generator=torch.Generator().manual_seed(0))
    return tokens[None], documents[None], positions[None]


@pytest.mark.parametrize("direction", ["bidirectional", "causal"])
@pytest.mark.parametrize("attention", ["reference", "sdpa", "tiles"])
def test_packed_documents_equal_documents_alone(attention: str, direction: str) -> None:
    model, view = build(attention), AttentionSpec(direction, rope_base_global=160_000.0)
    tokens, documents, positions = packed_row()
    with torch.no_grad():
        packed = model(tokens, documents, positions, view)[0]
        for number, length in enumerate(LENGTHS):
            inside = documents[0] == number
            alone = model(
                tokens[:, inside], torch.zeros(1, length, dtype=torch.long), torch.arange(length)[None], view
            )[0]
            torch.testing.assert_close(packed[inside], alone, rtol=1e-5, atol=1e-5)


@pytest.mark.filterwarnings("ignore:.*flex_attention called without torch.compile")
@pytest.mark.parametrize("direction", ["bidirectional", "causal"])
@pytest.mark.parametrize("attention", ["auto", "sdpa", "tiles", "flex"])
def test_the_whole_model_does_not_depend_on_the_backend(
    attention: str, direction: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flex, "compiled_flex", lambda: (flex_attention, create_block_mask))
    view = AttentionSpec(direction)
    rows = packed_row()
    with torch.no_grad():
        expected, output = (build(name)(*rows, view) for name in ("reference", attention))
    assert expected.std() > 0.5
    torch.testing.assert_close(output, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("direction", ["bidirectional", "causal"])
@pytest.mark.parametrize("attention", ["sdpa", "tiles"])
def test_gradients_of_the_whole_model_do_not_depend_on_the_backend(attention: str, direction: str) -> None:
    tokens, documents, positions = packed_row()
    real = documents[0] >= 0
    gradients = []
    for name in ("reference", attention):
        model = build(name)
        states = model(tokens, documents, positions, AttentionSpec(direction))[0, real]
        torch.nn.functional.cross_entropy(model.logits(states), tokens[0, real]).backward()
        gradients.append({name: parameter.grad for name, parameter in model.named_parameters()})
    for name, expected in gradients[0].items():
        assert expected is not None and expected.abs().sum() > 0, name
        torch.testing.assert_close(gradients[1][name], expected, rtol=1e-3, atol=1e-5)
