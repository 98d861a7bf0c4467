"""Gradient clipping acts above its norm and nowhere else, and one schedule drives groups that keep their own share."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from ettin_core.foundation.distributed import ProcessGroup
from ettin_core.optim.build import build_optimizer, build_update
from ettin_core.optim.update import Update
from tests.optim.models import CONFIGS, STABLE_ADAMW, give_gradients, small_model

LIMIT = 0.5


def gradients(model: nn.Module) -> torch.Tensor:
    """All gradients in one vector."""
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters() if parameter.grad is not None])


def clipped(scale: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradients of a global norm `scale` times the limit, before and after a step that clips."""
    model = small_model()
    update = build_update(replace(STABLE_ADAMW, clip_norm=LIMIT), model)
    norm = give_gradients(model, 0)
    for parameter in model.parameters():
        assert parameter.grad is not None
        parameter.grad *= scale * LIMIT / norm
    before = gradients(model).clone()
    update.apply(float(before.norm()), 1e-3, ProcessGroup())
    return before, gradients(model)


@pytest.mark.parametrize("scale", [1.5, 30.0, 1e6])
def test_a_longer_gradient_gets_the_norm_and_keeps_its_direction(scale: float) -> None:
    before, after = clipped(scale)
    assert LIMIT * 0.9999 < float(after.norm()) <= LIMIT
    assert float(torch.cosine_similarity(before, after, dim=0)) == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("scale", [0.0, 0.01, 0.999])
def test_a_shorter_gradient_is_untouched(scale: float) -> None:
    before, after = clipped(scale)
    assert torch.equal(before, after)


def test_it_is_torchs_clipping() -> None:
    before, after = clipped(7.0)
    parameter = nn.Parameter(torch.zeros_like(before))
    parameter.grad = before
    torch.nn.utils.clip_grad_norm_([parameter], LIMIT)
    torch.testing.assert_close(after, parameter.grad, rtol=1e-6, atol=0.0)


@pytest.mark.parametrize("name", ["stable_adamw", "adamw", "muon"])
def test_without_a_limit_nothing_is_clipped(name: str) -> None:
    model = small_model()
    optimizer = build_optimizer(CONFIGS[name], model)
    norm = give_gradients(model, 500)
    before = gradients(model).clone()
    Update(optimizer).apply(norm, 1e-3, ProcessGroup())
    assert norm > 10 and torch.equal(before, gradients(model))


def test_each_group_takes_its_share_of_the_rate() -> None:
    model = small_model()
    for name, shares in (("stable_adamw", {1.0}), ("muon", {1.0}), ("muon_limited", {1.0, 0.5})):
        optimizer = build_optimizer(replace(CONFIGS[name], qk_clip=None), model)
        assert {group["lr"] for group in optimizer.param_groups} == {3e-3 * share for share in shares}
        for learning_rate in (0.0, 1e-3, 2e-3):
            give_gradients(model, 0)
            Update(optimizer).apply(1.0, learning_rate, ProcessGroup())
            assert {group["lr"] for group in optimizer.param_groups} == {learning_rate * share for share in shares}


def test_an_optimiser_from_elsewhere_steps_as_ever() -> None:
    parameter = nn.Parameter(torch.ones(2))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    parameter.grad = torch.ones(2)
    Update(optimizer).apply(1.0, 0.25, ProcessGroup())
    assert parameter.tolist() == [0.75, 0.75]
    Update(optimizer).begin()
    assert parameter.grad is None
