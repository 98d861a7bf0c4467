"""Muon equals its published formula, moves every direction of a matrix alike, and leaves the rest to AdamW."""

import copy
from dataclasses import replace

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import fully_shard

from ettin_core.optim.build import build_optimizer
from ettin_core.optim.config import MuonConfig
from ettin_core.optim.muon import BLOCKS, BlockMuon
from tests.optim.models import CONFIGS, give_gradients, rate, small_model, train

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # Jordan et al. 2024
MOMENTUM, DECAY = 0.95, 0.1
BF16 = 0.04  # five steps in bf16 against double precision: relative distance of the results
SHAPES = {"square": (32, 32), "tall": (48, 32), "wide": (32, 48)}


def newton_schulz(matrix: torch.Tensor) -> torch.Tensor:
    """Five steps of X <- a X + (b A + c A A) X with A = X X^T, from X = M / |M|, in the precision of the matrix."""
    a, b, c = COEFFICIENTS
    wide = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    result = wide / wide.norm()
    for _ in range(5):
        gram = result @ result.T
        result = a * result + (b * gram + c * gram @ gram) @ result
    return result.T if matrix.shape[0] > matrix.shape[1] else result


def blocks_of(name: str) -> int:
    """The number of matrices stacked in a parameter of the transformer."""
    return next((number for suffix, number in BLOCKS.items() if name.endswith(f"{suffix}.weight")), 1)


def spread(shape: tuple[int, int]) -> torch.Tensor:
    """A matrix whose singular values fall evenly on a log scale from 1 to 1/20."""
    generator = torch.Generator().manual_seed(2)
    left, _, right = torch.linalg.svd(torch.randn(shape, generator=generator), full_matrices=False)
    return left @ torch.diag(torch.logspace(0, -1.3, min(shape))) @ right


def first_update(gradient: torch.Tensor, blocks: int = 1) -> torch.Tensor:
    """The first step's change of a zero matrix at rate 1, times -1."""
    parameter = nn.Parameter(torch.zeros_like(gradient))
    parameter.grad = gradient
    BlockMuon([{"params": [parameter], "blocks": blocks}], 1.0, 0.0, adjust_lr_fn="match_rms_adamw").step()
    return -parameter.detach()


def test_it_equals_the_published_formula_over_ten_steps() -> None:
    """Momentum, Nesterov, Newton-Schulz in double precision, decay, 0.2 sqrt(max(A, B)); block by block."""
    model = small_model()
    optimizer = build_optimizer(CONFIGS["muon"], model)
    hidden = {
        name: parameter for name, parameter in model.named_parameters() if "momentum" in _group(optimizer, parameter)
    }
    expected = {name: parameter.detach().double() for name, parameter in hidden.items()}
    momenta = {name: torch.zeros_like(parameter) for name, parameter in expected.items()}
    for step in range(10):
        before = {name: parameter.detach().clone() for name, parameter in hidden.items()}
        train(model, optimizer, step, step + 1)
        for name, parameter in hidden.items():
            assert parameter.grad is not None
            g = parameter.grad.double()
            momenta[name] = MOMENTUM * momenta[name] + g
            directions = (g + MOMENTUM * momenta[name]).chunk(blocks_of(name))
            change = torch.cat([0.2 * max(block.shape) ** 0.5 * newton_schulz(block) for block in directions])
            expected[name] = expected[name] * (1 - rate(step) * DECAY) - rate(step) * change
            moved = before[name].double() * (1 - rate(step) * DECAY) - parameter.detach().double()
            assert (moved / rate(step) - change).norm() < BF16 * change.norm(), name
            torch.testing.assert_close(
                optimizer.state[parameter]["momentum_buffer"].double(), (1 - MOMENTUM) * momenta[name]
            )
    for name, parameter in hidden.items():
        assert (parameter.detach().double() - expected[name]).norm() < 0.005 * expected[name].norm()


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_all_singular_values_of_an_update_are_near_one(shape: tuple[int, int]) -> None:
    """The published band of the coefficients, for gradients whose own singular values are a factor of 20 apart."""
    values = torch.linalg.svdvals(first_update(spread(shape)) / (0.2 * max(shape) ** 0.5))
    assert values.min() > 0.65 and values.max() < 1.25


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_an_update_has_the_size_of_one_of_adamw(shape: tuple[int, int]) -> None:
    assert float(first_update(spread(shape)).square().mean().sqrt()) == pytest.approx(0.2, rel=0.2)


@pytest.mark.parametrize("power", [-12, 12, 40])
def test_the_scale_of_the_gradient_does_not_matter(power: int) -> None:
    gradient = spread((32, 48))
    assert torch.equal(first_update(gradient * 2.0**power), first_update(gradient))


def test_the_update_turns_with_the_gradient() -> None:
    """Orthogonal changes of basis commute with it, which no rule that works entry by entry satisfies."""
    generator = torch.Generator().manual_seed(4)
    turn, _ = torch.linalg.qr(torch.randn(32, 32, generator=generator))
    gradient = spread((32, 48))
    change = first_update(gradient)
    assert (first_update(turn @ gradient) - turn @ change).norm() < BF16 * change.norm()


@pytest.mark.parametrize("blocks", [2, 3])
def test_stacked_matrices_are_as_if_they_were_apart(blocks: int) -> None:
    """Bitwise torch's Muon on parameters of their own, over steps with momentum and decay."""
    generator = torch.Generator().manual_seed(6)
    stacked = nn.Parameter(torch.randn(blocks * 16, 24, generator=generator))
    apart = [nn.Parameter(part.detach().clone()) for part in stacked.chunk(blocks)]
    settings = {"lr": 0.02, "weight_decay": 0.1, "momentum": 0.9, "adjust_lr_fn": "match_rms_adamw"}
    ours = BlockMuon([{"params": [stacked], "blocks": blocks}], **settings)  # type: ignore[arg-type]
    theirs = torch.optim.Muon(apart, **settings)  # type: ignore[arg-type]
    for _ in range(5):
        stacked.grad = torch.randn(stacked.shape, generator=generator)
        for part, gradient in zip(apart, stacked.grad.chunk(blocks), strict=True):
            part.grad = gradient.clone()
        ours.step()
        theirs.step()
    assert torch.equal(stacked, torch.cat([part.detach() for part in apart]))
    assert not torch.equal(first_update(stacked.grad, blocks), first_update(stacked.grad, 1))  # type: ignore[arg-type]


def test_the_gradient_of_queries_does_not_move_keys_and_values() -> None:
    model, altered = small_model(), small_model()
    for each, factor in ((model, 1.0), (altered, -3.0)):
        give_gradients(each, 0)
        fused = each.layers[1].attention.query_key_value.weight  # type: ignore[union-attr]
        fused.grad[:32] *= factor  # type: ignore[index, operator]
        build_optimizer(CONFIGS["muon"], each).step()
    left, right = (each.layers[1].attention.query_key_value.weight for each in (model, altered))  # type: ignore[union-attr]
    assert torch.equal(left[32:], right[32:]) and not torch.equal(left[:32], right[:32])  # type: ignore[index]


def test_what_is_not_hidden_is_torchs_adamw() -> None:
    """Embedding, norms and output bias, bitwise, at their own share of the rate."""
    config = replace(CONFIGS["muon"], muon=MuonConfig(adamw_rate=0.5))
    model = small_model()
    optimizer = build_optimizer(config, model)
    reference = copy.deepcopy(model)
    linear = {f"{name}.weight" for name, module in reference.named_modules() if isinstance(module, nn.Linear)}
    rest = {name: parameter for name, parameter in reference.named_parameters() if name not in linear}
    groups = [
        {"params": [rest["embedding.weight"]], "weight_decay": 0.1},
        {"params": [parameter for name, parameter in rest.items() if name != "embedding.weight"], "weight_decay": 0.0},
    ]
    theirs = torch.optim.AdamW(groups, 1.0, (config.betas[0], config.betas[1]), config.epsilon)
    for step in range(8):
        train(model, optimizer, step, step + 1)
        give_gradients(reference, step)
        for group in theirs.param_groups:
            group["lr"] = 0.5 * rate(step)
        theirs.step()
    ours = dict(model.named_parameters())
    assert len(rest) > 3 and all(torch.equal(ours[name], parameter) for name, parameter in rest.items())


def test_a_parameter_without_a_gradient_is_left_alone() -> None:
    model = small_model()
    optimizer = build_optimizer(CONFIGS["muon"], model)
    give_gradients(model, 0)
    model.embedding.weight.grad = model.head.dense.weight.grad = None
    optimizer.step()
    start = small_model()
    assert torch.equal(model.embedding.weight, start.embedding.weight)
    assert torch.equal(model.head.dense.weight, start.head.dense.weight)
    assert not torch.equal(model.output_bias, start.output_bias)


def test_its_own_state_dict_continues_bitwise() -> None:
    """torch's way of saving an optimiser replaces groups and state; both rules must see the new ones."""
    straight, stopped = small_model(), small_model()
    train(straight, build_optimizer(CONFIGS["muon"], straight), 0, 6)
    before = build_optimizer(CONFIGS["muon"], stopped)
    train(stopped, before, 0, 3)
    after = build_optimizer(CONFIGS["muon"], stopped)
    after.load_state_dict(copy.deepcopy(before.state_dict()))
    train(stopped, after, 3, 6)
    assert all(torch.equal(a, b) for a, b in zip(straight.parameters(), stopped.parameters(), strict=True))


def test_weights_divided_over_processes_are_refused() -> None:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        model = small_model()
        fully_shard(model)
        with pytest.raises(
            ValueError, match="optimizer.name='muon' needs matrices that are not divided; use placement"
        ):
            build_optimizer(CONFIGS["muon"], model)
    finally:
        dist.destroy_process_group()


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"momentum": 1.0}, "optimizer.muon.momentum=1.0 is not in [0, 1)"),
        ({"momentum": -0.1}, "optimizer.muon.momentum=-0.1 is not in [0, 1)"),
        ({"newton_schulz_steps": 0}, "optimizer.muon.newton_schulz_steps=0 is not between 1 and 99"),
        ({"newton_schulz_steps": 100}, "optimizer.muon.newton_schulz_steps=100 is not between 1 and 99"),
        ({"adamw_rate": 0.0}, "optimizer.muon.adamw_rate=0.0 is not positive"),
        ({"adamw_rate": float("nan")}, "optimizer.muon.adamw_rate=nan is not positive"),
    ],
)
def test_settings_that_make_no_sense_are_refused(change: dict, problem: str) -> None:
    with pytest.raises(ValueError) as caught:
        MuonConfig(**change)
    assert str(caught.value).startswith(problem)


def _group(optimizer: torch.optim.Optimizer, parameter: torch.Tensor) -> dict:
    return next(group for group in optimizer.param_groups if any(item is parameter for item in group["params"]))
