"""The start-up self-test passes what is right and refuses every planted fault, in the dense and the blocked way."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from ettin_core.model import attention_backends, transformer
from ettin_core.model import attention_mask as mask_module
from ettin_core.model.attention_backends import reference, sdpa, tiles
from ettin_core.model.attention_mask import attention_mask
from ettin_core.model.config import DIRECTIONS, AttentionSpec, ModelConfig
from ettin_core.model.leak_check import LeakError, check_no_leak
from ettin_core.model.transformer import Transformer

SHAPES = {
    "narrow window": ModelConfig(61, 32, 4, 2, 48, local_window=4),
    "one layer": ModelConfig(61, 32, 1, 2, 48, local_window=4),
    "published window": ModelConfig(300, 64, 4, 1, 96),
    "every second layer global": ModelConfig(61, 32, 5, 2, 48, local_window=3, global_every=2),
}


OPPOSITE = {"bidirectional": "causal", "causal": "bidirectional", "prefix": "causal"}
Rule = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, str, int | None, torch.Tensor | None], torch.Tensor]

# Each fault is the visibility rule with one argument bent: (query documents, key documents, offset, direction, window,
# open keys).
FAULTS: dict[str, Rule] = {
    "window one wider": lambda q, k, offset, direction, w, o=None: attention_mask(
        q, k, offset, direction, w and w + 1, o
    ),
    "window one narrower": lambda q, k, offset, direction, w, o=None: attention_mask(
        q, k, offset, direction, w and w - 1, o
    ),
    "documents ignored": lambda q, k, offset, direction, w, o=None: attention_mask(
        q.clamp(max=0), k.clamp(max=0), offset, direction, w, o
    ),
    "next token seen": lambda q, k, offset, direction, w, o=None: attention_mask(q, k, offset + 1, direction, w, o),
    "direction exchanged": lambda q, k, offset, direction, w, o=None: attention_mask(
        q, k, offset, OPPOSITE[direction], w, o
    ),
}


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("attention", ["reference", "sdpa", "tiles"])
def test_a_right_model_passes(attention: str, shape: str, direction: str) -> None:
    model = Transformer(SHAPES[shape], attention=attention)
    check_no_leak(model, AttentionSpec(direction))
    assert model.training  # as it was found


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_weights_of_any_size_pass(direction: str) -> None:
    """Peaked attention hides keys behind rounding; that is not a wrong mask."""
    model = Transformer(SHAPES["narrow window"])
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "query_key_value" in name:
                parameter.mul_(40.0)
    check_no_leak(model, AttentionSpec(direction))


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("way", ["dense", "blocked only"])
def test_a_planted_fault_is_refused(fault: str, direction: str, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The blocked way is tried at the published window, where a short probe row would never be cut into blocks."""
    rule = FAULTS[fault]

    def faulty_rows(
        documents: torch.Tensor, direction: str, window: int | None, prefix_mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        index = torch.arange(documents.shape[1])
        return rule(documents, documents, index[:, None] - index[None, :], direction, window, prefix_mask)

    if way == "dense":
        monkeypatch.setattr(reference, "row_attention_mask", faulty_rows)
    else:
        monkeypatch.setattr(sdpa, "attention_mask", rule)
    model = Transformer(SHAPES["narrow window"], attention="reference")
    if way == "blocked only":
        model = Transformer(SHAPES["published window"], attention="sdpa")
    with pytest.raises(LeakError):
        check_no_leak(model, AttentionSpec(direction))
    assert model.training


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_the_rule_itself_is_refused(fault: str, direction: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one rule that every mask is made by is bent: so nothing made by it shows the fault."""
    rule = FAULTS[fault]
    monkeypatch.setattr(mask_module, "attention_mask", rule)
    monkeypatch.setattr(sdpa, "attention_mask", rule)
    for shape, attention in (("narrow window", "reference"), ("published window", "sdpa")):
        with pytest.raises(LeakError):
            check_no_leak(Transformer(SHAPES[shape], attention=attention), AttentionSpec(direction))


TileRows = Callable[[torch.Tensor, str, int | None], list[tiles.Tile]]


def moved(tile: tiles.Tile, first: int, last: int) -> tiles.Tile:
    """A tile whose keys begin and end elsewhere, within the row."""
    return replace(tile, keys=slice(max(0, tile.keys.start + first), tile.keys.stop + last))


# Each fault is the cutting of tiles with one thing wrong.
TILINGS: dict[str, Callable[[TileRows], TileRows]] = {
    "documents ignored": lambda tile_rows: (
        lambda documents, direction, window: tile_rows(documents.clamp(max=0), direction, window)
    ),
    "one key before is seen": lambda tile_rows: lambda *asked: [moved(tile, -1, 0) for tile in tile_rows(*asked)],
    "one key is missing": lambda tile_rows: (
        lambda *asked: [
            moved(tile, 1, 0) if tile.pairs > tile.queries.stop - tile.queries.start else tile
            for tile in tile_rows(*asked)
        ]
    ),
    "window ends early": lambda tile_rows: (
        lambda documents, direction, window: tile_rows(documents, direction, window and window - 1)
    ),
}


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("fault", TILINGS)
def test_tiles_cut_wrongly_are_refused(fault: str, direction: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiles, "tile_rows", TILINGS[fault](tiles.tile_rows))
    with pytest.raises(LeakError):
        check_no_leak(Transformer(SHAPES["narrow window"], attention="tiles"), AttentionSpec(direction))


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault != "documents ignored"])
def test_masks_of_tiles_that_are_wrong_are_refused(fault: str, direction: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Documents are no matter of their masks: a tile lies within one."""
    monkeypatch.setattr(tiles, "attention_mask", FAULTS[fault])
    with pytest.raises(LeakError):
        check_no_leak(Transformer(SHAPES["narrow window"], attention="tiles"), AttentionSpec(direction))


def test_every_backend_that_auto_may_take_is_tested(monkeypatch: pytest.MonkeyPatch) -> None:
    """The probe row is too short for tiles to pay; a training row need not be."""
    model = Transformer(SHAPES["narrow window"])
    monkeypatch.setattr(tiles, "tile_rows", TILINGS["one key before is seen"](tiles.tile_rows))
    with pytest.raises(LeakError, match="attention=tiles"):
        check_no_leak(model, AttentionSpec("causal"))
    assert model.attention_backend == "auto"


@pytest.mark.parametrize("shape", ["narrow window", "every second layer global"])
def test_a_misplaced_global_layer_is_refused(shape: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as bent:
        bent.setattr(ModelConfig, "is_global", lambda self, layer: layer % self.global_every == 1)
        with pytest.raises(LeakError, match="layer 0 .global, causal"):
            check_no_leak(Transformer(SHAPES[shape]), AttentionSpec("causal"))
    with monkeypatch.context() as bent:  # the last layer is local
        bent.setattr(ModelConfig, "is_global", lambda self, layer: layer == 0)
        with pytest.raises(LeakError, match=r"layer [23] .global, causal"):
            check_no_leak(Transformer(SHAPES[shape]), AttentionSpec("causal"))


@pytest.mark.parametrize("bent", [-1, 1])
def test_a_window_that_the_model_alone_bends_is_refused(bent: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rule and backends are right; what the forward pass asks of them is not."""

    def asked(backend: str, documents: torch.Tensor, direction: str, window: int | None, *rest: Any) -> Any:
        return attention_backends.make_attention(backend, documents, direction, window and window + bent, *rest)

    monkeypatch.setattr(transformer, "make_attention", asked)
    with pytest.raises(LeakError, match="layer 1 .local, bidirectional"):
        check_no_leak(Transformer(SHAPES["narrow window"]), AttentionSpec("bidirectional"))


def test_a_fault_in_the_whole_model_alone_is_refused() -> None:
    """What training will call is what is tested: here a compiled model would mix neighbours."""
    model = Transformer(SHAPES["narrow window"])

    def mixing(*arguments: Any) -> torch.Tensor:
        states: torch.Tensor = model(*arguments)
        return states + states.roll(-1, dims=1)

    with pytest.raises(LeakError, match="direction=causal: changing token"):
        check_no_leak(model, AttentionSpec("causal"), mixing)


def test_a_model_that_ignores_its_input_is_refused() -> None:
    model = Transformer(SHAPES["narrow window"])
    with pytest.raises(LeakError, match="did not move its own output"):
        check_no_leak(model, AttentionSpec("causal"), lambda tokens, *rest: torch.zeros(*tokens.shape, 32))


def test_weights_that_are_not_numbers_are_refused() -> None:
    model = Transformer(SHAPES["narrow window"])
    with torch.no_grad():
        model.final_norm.weight.fill_(float("nan"))
    with pytest.raises(LeakError, match="not finite"):
        check_no_leak(model, AttentionSpec("causal"))


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_a_compiled_model_is_tested_as_it_will_run(direction: str) -> None:
    model = Transformer(SHAPES["narrow window"])
    calls: list[int] = []

    def counting(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Callable[..., Any]:
        calls.append(len(inputs))
        return graph.forward

    check_no_leak(model, AttentionSpec(direction), torch.compile(model, backend=counting))
    assert calls, "the compiled model was not called"
