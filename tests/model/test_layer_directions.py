"""A direction for each layer: the ends of the range are the two directions, and what is between leaks only where it may."""

import pytest
import torch

from ettin_core.model.config import AttentionSpec, ModelConfig
from ettin_core.model.transformer import Transformer

CONFIG = ModelConfig(vocab_size=61, hidden_size=32, num_layers=4, num_heads=2, intermediate_size=48, local_window=4)
CAUSAL, BOTH = "causal", "bidirectional"


@pytest.fixture(scope="module")
def model() -> Transformer:
    """Larger weights than initial ones, so that attention is far from uniform."""
    model = Transformer(CONFIG, seed=5, attention="sdpa")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(4.0) if parameter.ndim == 2 else None
    return model.eval()


def states(model: Transformer, view: AttentionSpec, changed: int | None = None) -> torch.Tensor:
    """Final states (S, H) of one row of 30 tokens, one of which may be changed."""
    tokens = torch.arange(30)[None] * 7 % CONFIG.vocab_size
    if changed is not None:
        tokens[0, changed] += 1
    with torch.no_grad():
        return model(tokens, torch.zeros_like(tokens), torch.arange(30)[None], view)[0]


@pytest.mark.parametrize("direction", [CAUSAL, BOTH])
@pytest.mark.parametrize("ignored", [CAUSAL, BOTH])
def test_one_direction_in_every_layer_is_that_direction(model: Transformer, direction: str, ignored: str) -> None:
    by_layer = AttentionSpec(ignored, rope_base_global=160_000.0, layers=(direction,) * 4)
    assert torch.equal(states(model, by_layer), states(model, AttentionSpec(direction, rope_base_global=160_000.0)))


@pytest.mark.parametrize("layers", [(CAUSAL, CAUSAL, CAUSAL, BOTH), (CAUSAL, BOTH, CAUSAL, CAUSAL)])
def test_only_layers_without_a_mask_see_the_future(model: Transformer, layers: tuple[str, ...]) -> None:
    view = AttentionSpec(CAUSAL, layers=layers)
    moved = (states(model, view, changed=20) != states(model, view)).any(-1)
    reach = 0 if layers[3] == BOTH else 16  # the global layer reaches every token, the local one its window of 4
    assert moved.nonzero().flatten().tolist() == list(range(reach, 30))


@pytest.mark.parametrize("bad", [(CAUSAL,) * 3, (CAUSAL,) * 5])
def test_directions_of_another_model_are_refused(model: Transformer, bad: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="are not 4"):
        states(model, AttentionSpec(CAUSAL, layers=bad))


def test_an_unknown_direction_of_a_layer_is_refused() -> None:
    with pytest.raises(ValueError, match="direction='sideways'"):
        AttentionSpec(CAUSAL, layers=(CAUSAL, "sideways"))
