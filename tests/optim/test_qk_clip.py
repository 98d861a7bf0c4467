"""QK-clip: after it no logit of the step's rows exceeds tau, and whatever was below tau is as it was."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import nn

from ettin_core.foundation.distributed import ProcessGroup
from ettin_core.model.attention_mask import row_attention_mask
from ettin_core.model.transformer import Transformer, rotary_angles, rotate
from ettin_core.optim.build import build_optimizer
from tests.optim.models import (
    CONFIGS,
    HEADS,
    LOUD,
    SHAPE,
    TAU,
    VIEW,
    WIDTH,
    by_head,
    clipping,
    loud_model,
    rows,
    small_model,
)


@dataclass
class Recorded:
    """What entered each layer's attention, and what its heads put out (B, S, A, D)."""

    states: list[torch.Tensor] = field(default_factory=list)
    heads: list[torch.Tensor] = field(default_factory=list)


def recorded(model: Transformer, batch: tuple[torch.Tensor, ...]) -> Recorded:
    """A forward pass with its insides."""
    seen = Recorded()

    def keep(store: list[torch.Tensor]) -> Callable[[nn.Module, tuple[torch.Tensor, ...]], None]:
        return lambda module, arguments: store.append(arguments[0].detach())

    handles = []
    for layer in model.layers:
        handles.append(layer.attention.query_key_value.register_forward_pre_hook(keep(seen.states)))  # type: ignore[union-attr]
        handles.append(layer.attention.output.register_forward_pre_hook(keep(seen.heads)))  # type: ignore[union-attr]
    model(*batch, VIEW)
    for handle in handles:
        handle.remove()
    seen.heads = [heads.unflatten(-1, (HEADS, WIDTH)) for heads in seen.heads]
    return seen


def largest_logits(model: Transformer, layer: int, states: torch.Tensor, batch: tuple[torch.Tensor, ...]) -> Any:
    """The largest visible attention logit of each head (A,), by explicit rotation and products of all pairs."""
    _, documents, positions = batch
    query, key = (torch.einsum("bsh,adh->basd", states.double(), by_head(model, layer)[i].double()) for i in (0, 1))
    angles = rotary_angles(positions, WIDTH, VIEW.rope_base_global)
    logits = rotate(query, angles) @ rotate(key, angles).mT / WIDTH**0.5
    window = None if SHAPE.is_global(layer) else SHAPE.local_window
    hidden = ~row_attention_mask(documents, VIEW.direction, window)[:, None]
    return logits.masked_fill(hidden, float("-inf")).amax((0, 2, 3))


def test_the_bound_is_never_below_the_largest_logit() -> None:
    model, batch = loud_model(), rows(4)
    update, clip = clipping(model)
    update.begin()
    seen = recorded(model, batch)
    for layer, states in enumerate(seen.states):
        logits = largest_logits(model, layer, states, batch)
        assert (logits <= clip.bounds[layer] * (1 + 1e-6)).all()
        assert (clip.bounds[layer] < 10 * logits.clamp(min=0.02)).all(), "and it is no empty promise"


def test_the_bound_is_the_stated_one() -> None:
    model, batch = loud_model(), rows(4)
    update, clip = clipping(model)
    update.begin()
    for layer, states in enumerate(recorded(model, batch).states):
        norms = torch.einsum("bsh,iadh->ibsad", states, by_head(model, layer)[:2]).square().sum(-1).sqrt()
        for head in range(HEADS):
            expected = max(float(norms[0, row, :, head].max() * norms[1, row, :, head].max()) for row in range(4))
            assert float(clip.bounds[layer, head]) == pytest.approx(expected / WIDTH**0.5, rel=1e-5)


def test_after_clipping_no_logit_exceeds_tau() -> None:
    model, batch = loud_model(), rows(4)
    update, clip = clipping(model)
    update.begin()
    seen = recorded(model, batch)
    before = [largest_logits(model, layer, states, batch) for layer, states in enumerate(seen.states)]
    above = clip.bounds > TAU
    assert [(int(layer), int(head)) for layer, head in above.nonzero()] == LOUD
    assert any((logits > TAU).any() for logits in before), "there was something to clip"
    measured = clip.bounds.clone()
    update.apply(1.0, 0.0, ProcessGroup())
    for layer, states in enumerate(seen.states):
        logits = largest_logits(model, layer, states, batch)
        assert (logits <= TAU * (1 + 1e-6)).all()
        torch.testing.assert_close(logits, before[layer] * (TAU / measured[layer]).clamp(max=1.0), rtol=1e-5, atol=1e-6)


def test_queries_and_keys_share_the_scaling_and_everything_else_is_untouched() -> None:
    model, start, batch = loud_model(), loud_model(), rows(4)
    update, clip = clipping(model)
    update.begin()
    model(*batch, VIEW)
    measured = clip.bounds.clone()
    update.apply(1.0, 0.0, ProcessGroup())
    for layer in range(SHAPE.num_layers):
        now, then = by_head(model, layer), by_head(start, layer)
        assert torch.equal(now[2], then[2]), "values"
        for head in range(HEADS):
            if (layer, head) in LOUD:
                torch.testing.assert_close(now[:2, head], then[:2, head] * (TAU / measured[layer, head]).sqrt())
            else:
                assert torch.equal(now[:2, head], then[:2, head])
    fused = "query_key_value"
    for (name, now), then in zip(model.named_parameters(), start.parameters(), strict=True):
        assert fused in name or torch.equal(now, then)


def test_other_heads_of_the_layer_put_out_the_same() -> None:
    model, batch = loud_model(), rows(4)
    before = recorded(model, batch).heads[0]
    update, _ = clipping(model)
    update.begin()
    model(*batch, VIEW)
    update.apply(1.0, 0.0, ProcessGroup())
    after = recorded(model, batch).heads[0]
    assert torch.equal(before[:, :, 0], after[:, :, 0]) and not torch.allclose(before[:, :, 1], after[:, :, 1])


def test_nothing_is_clipped_while_all_is_below_tau() -> None:
    model, start = loud_model(), loud_model()
    update, _ = clipping(model, tau=1e4)
    update.begin()
    model(*rows(4), VIEW)
    update.apply(1.0, 0.0, ProcessGroup())
    assert all(torch.equal(now, then) for now, then in zip(model.parameters(), start.parameters(), strict=True))


def test_without_it_no_hook_is_there() -> None:
    model = small_model()
    build_optimizer(CONFIGS["muon"], model)
    assert not any(module._forward_hooks for module in model.modules())
