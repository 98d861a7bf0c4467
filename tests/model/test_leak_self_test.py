"""The start-up self-test passes what is right and refuses every planted fault, in the dense and the blocked way."""

import pytest
import torch

from ettin_core.model import attention_backends
from ettin_core.model.config import DIRECTIONS, ModelConfig, View
from ettin_core.model.leak_test import LeakError, check_no_leak
from ettin_core.model.transformer import Transformer
from ettin_core.model.visibility import visible

SHAPES = {
    "narrow window": ModelConfig(61, 32, 4, 2, 48, local_window=4),
    "one layer": ModelConfig(61, 32, 1, 2, 48, local_window=4),
    "published window": ModelConfig(300, 64, 4, 1, 96),
    "every second layer global": ModelConfig(61, 32, 5, 2, 48, local_window=3, global_every=2),
}


def wider(
    query: torch.Tensor, key: torch.Tensor, offset: torch.Tensor, direction: str, window: int | None
) -> torch.Tensor:
    return visible(query, key, offset, direction, None if window is None else window + 1)


def narrower(
    query: torch.Tensor, key: torch.Tensor, offset: torch.Tensor, direction: str, window: int | None
) -> torch.Tensor:
    return visible(query, key, offset, direction, None if window is None else window - 1)


def across_documents(
    query: torch.Tensor, key: torch.Tensor, offset: torch.Tensor, direction: str, window: int | None
) -> torch.Tensor:
    return visible(query.clamp(-2, 0), key.clamp(-2, 0), offset, direction, window)


def next_token(
    query: torch.Tensor, key: torch.Tensor, offset: torch.Tensor, direction: str, window: int | None
) -> torch.Tensor:
    return visible(query, key, offset + 1, direction, window)


def other_direction(
    query: torch.Tensor, key: torch.Tensor, offset: torch.Tensor, direction: str, window: int | None
) -> torch.Tensor:
    return visible(query, key, offset, "causal" if direction == "bidirectional" else "bidirectional", window)


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("attention", ["reference", "sdpa"])
def test_a_right_model_passes(attention: str, shape: str, direction: str) -> None:
    model = Transformer(SHAPES[shape], attention=attention)
    check_no_leak(model, View(direction))
    assert model.training  # as it was found


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_weights_of_any_size_pass(direction: str) -> None:
    """Peaked attention hides keys behind rounding; that is not a wrong mask."""
    model = Transformer(SHAPES["narrow window"])
    with torch.no_grad():
        for layer in model.layers:
            layer.attention.query_key_value.weight.mul_(40.0)
    check_no_leak(model, View(direction))


@pytest.mark.parametrize(
    ("fault", "direction"),
    [
        (wider, "bidirectional"),
        (wider, "causal"),
        (narrower, "bidirectional"),
        (narrower, "causal"),
        (across_documents, "bidirectional"),
        (across_documents, "causal"),
        (next_token, "causal"),
        (other_direction, "bidirectional"),
        (other_direction, "causal"),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
@pytest.mark.parametrize("way", ["dense", "blocked only"])
def test_a_planted_fault_is_refused(fault: object, direction: str, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def faulty_rows(documents: torch.Tensor, direction: str, window: int | None) -> torch.Tensor:
        index = torch.arange(documents.shape[1])
        return fault(documents, documents, index[:, None] - index[None, :], direction, window)  # type: ignore[operator]

    if way == "dense":
        monkeypatch.setattr(attention_backends, "row_visibility", faulty_rows)
    else:
        monkeypatch.setattr(attention_backends, "visible", fault)
    model = Transformer(SHAPES["narrow window"], attention="reference" if way == "dense" else "sdpa")
    with pytest.raises(LeakError):
        check_no_leak(model, View(direction))
    assert model.training


def test_a_fault_in_the_whole_model_alone_is_refused() -> None:
    """What training will call is what is tested: here a compiled model would mix neighbours."""
    model = Transformer(SHAPES["narrow window"])

    def mixing(*arguments: object) -> torch.Tensor:
        states = model(*arguments)
        return states + states.roll(-1, dims=1)

    with pytest.raises(LeakError, match="direction=causal: changing token"):
        check_no_leak(model, View("causal"), mixing)


def test_a_model_that_ignores_its_input_is_refused() -> None:
    model = Transformer(SHAPES["narrow window"])
    with pytest.raises(LeakError, match="did not move its own output"):
        check_no_leak(model, View("causal"), lambda tokens, *rest: torch.zeros(*tokens.shape, 32))
