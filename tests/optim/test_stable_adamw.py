"""StableAdamW equals the published implementation and its formula, clips updates, and survives a checkpoint."""

from pathlib import Path

import optimi
import pytest
import torch
from torch import nn

from ettin_core.checkpoints import native
from ettin_core.optim import stable_adamw
from ettin_core.optim.stable_adamw import StableAdamW

BETAS, EPSILON, DECAY, PEAK = (0.9, 0.98), 1e-6, 3e-4, 3e-3
SHAPES = {"matrix": (7, 5), "vector": (9,), "block": (2, 3, 4)}


def start() -> dict[str, nn.Parameter]:
    """Three parameters, the same each time."""
    generator = torch.Generator().manual_seed(5)
    return {name: nn.Parameter(torch.randn(shape, generator=generator)) for name, shape in SHAPES.items()}


def gradient(name: str, step: int) -> torch.Tensor:
    """A gradient whose size jumps now and then, so that clipping acts in some steps and not in others."""
    generator = torch.Generator().manual_seed(100 * step + len(name))
    return torch.randn(SHAPES[name], generator=generator) * (30.0 if step % 7 == 6 else 0.02 * (step + 1))


def rate(step: int) -> float:
    """A warm-up, a plateau and a decay."""
    return PEAK * min(1.0, (step + 1) / 5) * (1.0 if step < 20 else 0.3)


def groups(parameters: dict[str, nn.Parameter]) -> list[dict[str, object]]:
    """The matrix and the block with weight decay, the vector without."""
    return [
        {"params": [parameters["matrix"], parameters["block"]], "weight_decay": DECAY},
        {"params": [parameters["vector"]], "weight_decay": 0.0},
    ]


def train(optimizer: torch.optim.Optimizer, parameters: dict[str, nn.Parameter], begin: int, end: int) -> None:
    """Steps begin..end with their gradients and rates."""
    for step in range(begin, end):
        for name, parameter in parameters.items():
            parameter.grad = gradient(name, step)
        for group in optimizer.param_groups:
            group["lr"] = rate(step)
        optimizer.step()


def ours(parameters: dict[str, nn.Parameter], foreach: bool | None = None) -> StableAdamW:
    """Our optimiser."""
    return StableAdamW(groups(parameters), PEAK, BETAS, EPSILON, foreach=foreach)


@pytest.mark.filterwarnings("ignore:Parameter `foreach`:DeprecationWarning")
@pytest.mark.parametrize("foreach", [False, True])
def test_it_equals_optimi_over_thirty_steps(foreach: bool) -> None:
    actual, expected = start(), start()
    reference = optimi.StableAdamW(
        groups(expected),
        lr=PEAK,
        betas=BETAS,
        eps=EPSILON,
        weight_decay=DECAY,
        decouple_lr=True,
        max_lr=PEAK,
        foreach=foreach,
    )
    optimizer = ours(actual)
    for step in range(30):
        train(optimizer, actual, step, step + 1)
        train(reference, expected, step, step + 1)
        for name in SHAPES:
            torch.testing.assert_close(actual[name], expected[name], rtol=1e-6, atol=1e-7)


def test_it_equals_the_written_formula() -> None:
    actual, plain = start(), {name: parameter.detach().double() for name, parameter in start().items()}
    optimizer = ours(actual)
    first = {name: torch.zeros(shape, dtype=torch.float64) for name, shape in SHAPES.items()}
    second = {name: torch.zeros(shape, dtype=torch.float64) for name, shape in SHAPES.items()}
    clipped = 0
    for step in range(30):
        train(optimizer, actual, step, step + 1)
        t = step + 1
        beta_1 = BETAS[0] * (1 - BETAS[0] ** (t - 1)) / (1 - BETAS[0] ** t)
        beta_2 = BETAS[1] * (1 - BETAS[1] ** (t - 1)) / (1 - BETAS[1] ** t)
        for name in SHAPES:
            g = gradient(name, step).double()
            first[name] = beta_1 * first[name] + (1 - beta_1) * g
            second[name] = beta_2 * second[name] + (1 - beta_2) * g**2
            surprise = float((g**2 / second[name].clamp(min=EPSILON**2)).mean().sqrt())
            clipped += surprise > 1.5
            now = rate(step) / max(1.0, surprise)
            decay = 0.0 if name == "vector" else DECAY
            plain[name] = plain[name] * (1 - now / PEAK * decay) - now * first[name] / (second[name].sqrt() + EPSILON)
            torch.testing.assert_close(actual[name].detach().double(), plain[name], rtol=1e-5, atol=1e-6)
    assert 0 < clipped < 45  # both branches were taken


@pytest.mark.parametrize("piece", [1, 4, 9, 35])
def test_pieces_leave_no_trace(piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clip is of the whole tensor, however it is cut."""
    whole, cut = start(), start()
    train(ours(whole), whole, 0, 30)
    monkeypatch.setattr(stable_adamw, "PIECE", piece)
    train(ours(cut), cut, 0, 30)
    for name in SHAPES:
        torch.testing.assert_close(cut[name], whole[name], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("bucket", [1, 60, 10**6])
def test_many_tensors_at_once_are_tensor_by_tensor(bucket: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a GPU does, on the CPU; gradients are left as they are."""
    monkeypatch.setattr(stable_adamw, "BUCKET", bucket)
    actual, expected = start(), start()
    together, apart = ours(actual, foreach=True), ours(expected)
    for step in range(30):
        train(together, actual, step, step + 1)
        train(apart, expected, step, step + 1)
        for name in SHAPES:
            torch.testing.assert_close(actual[name], expected[name], rtol=1e-6, atol=1e-7)
            assert torch.equal(actual[name].grad, expected[name].grad)
    for name in SHAPES:
        states = together.state[actual[name]], apart.state[expected[name]]
        assert states[0].keys() == states[1].keys() and states[0]["step"] == states[1]["step"] == 30
        torch.testing.assert_close(*(state["second"] for state in states), rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("left_out", [(0,), (0, 1), (4, 5, 11)])
def test_an_update_with_the_flag_changes_nothing(left_out: tuple[int, ...]) -> None:
    """Weights, moments and counts are bitwise those of a run that never had these gradients, which are not numbers."""
    flagged, clean = start(), start()
    with_flag, without = ours(flagged, foreach=True), ours(clean, foreach=True)
    for step in range(12):
        with_flag.found_inf = torch.tensor(float(step in left_out))
        for name, parameter in flagged.items():
            parameter.grad = gradient(name, step) * (float("nan") if step in left_out else 1.0)
        with_flag.step()
        if step not in left_out:
            for name, parameter in clean.items():
                parameter.grad = gradient(name, step)
            without.step()
    for name in SHAPES:
        assert torch.equal(flagged[name], clean[name])
        ours_, theirs = with_flag.state[flagged[name]], without.state[clean[name]]
        assert all(torch.equal(ours_[slot], theirs[slot]) for slot in theirs)


def test_a_tensor_that_is_not_contiguous_is_updated_too() -> None:
    plain, turned = nn.Parameter(torch.ones(4, 6)), nn.Parameter(torch.ones(6, 4).T)
    for parameter in (plain, turned):
        parameter.grad = gradient("matrix", 0)[:4].repeat(1, 2)[:, :6]
        StableAdamW([parameter], 0.1, weight_decay=0.1).step()
    torch.testing.assert_close(turned, plain)


def test_the_first_step_is_one_rate_long() -> None:
    parameter = nn.Parameter(torch.zeros(4))
    parameter.grad = torch.tensor([1.0, -2.0, 100.0, -0.5])
    StableAdamW([parameter], 0.1).step()
    assert parameter.tolist() == pytest.approx([-0.1, 0.1, -0.1, 0.1], rel=1e-5)


@pytest.mark.parametrize("size", [1e2, 1e4, 1e8])
def test_a_huge_gradient_moves_no_further_than_an_ordinary_one(size: float) -> None:
    parameter = nn.Parameter(torch.zeros(100))
    optimizer = StableAdamW([parameter], 0.01)
    for step in range(50):
        parameter.grad = torch.randn(100, generator=torch.Generator().manual_seed(step))
        optimizer.step()
    before = parameter.detach().clone()
    parameter.grad = torch.full((100,), size)
    optimizer.step()
    moved = (parameter.detach() - before).norm() / 100**0.5
    # without the clip the step is about 0.007 from (1 - beta_1) / sqrt(1 - beta_2); with it a seventh of that
    assert moved < 0.0015


def test_weight_decay_follows_the_rate_over_the_peak() -> None:
    parameter = nn.Parameter(torch.full((3,), 2.0))
    optimizer = StableAdamW([parameter], 0.5, weight_decay=0.1)
    optimizer.param_groups[0]["lr"] = 0.25
    parameter.grad = torch.zeros(3)
    optimizer.step()
    assert parameter.tolist() == pytest.approx([2.0 * (1 - 0.5 * 0.1)] * 3, rel=1e-6)


def test_a_rate_of_zero_changes_nothing_but_the_moments() -> None:
    parameters = start()
    optimizer = ours(parameters)
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    for name, parameter in parameters.items():
        parameter.grad = gradient(name, 0)
    optimizer.step()
    assert all(torch.equal(parameters[name], before) for name, before in start().items())
    assert int(optimizer.state[parameters["matrix"]]["step"]) == 1


def test_a_parameter_without_a_gradient_is_left_alone() -> None:
    parameters = start()
    optimizer = ours(parameters)
    parameters["matrix"].grad = gradient("matrix", 0)
    optimizer.step()
    assert torch.equal(parameters["vector"], start()["vector"])
    assert not torch.equal(parameters["matrix"], start()["matrix"])
    assert list(optimizer.state) == [parameters["matrix"]]


def test_the_state_survives_a_checkpoint_bitwise(tmp_path: Path) -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.ParameterDict(start())

    straight, stopped, resumed = Model(), Model(), Model()

    def optimizer_of(model: Model) -> tuple[StableAdamW, dict[str, nn.Parameter]]:
        parameters = {name: model.inner[name] for name in SHAPES}
        return ours(parameters), parameters

    optimizer, parameters = optimizer_of(straight)
    train(optimizer, parameters, 0, 20)

    before, parameters = optimizer_of(stopped)
    train(before, parameters, 0, 9)
    tensors = native.optimizer_tensors(before, stopped)
    native.save(tmp_path, "step9", stopped.state_dict(), tensors, {"global_step": 9}, "run")

    checkpoint = native.load(tmp_path / "step9", "run")
    resumed.load_state_dict(checkpoint.model)
    after, parameters = optimizer_of(resumed)
    native.restore_optimizer(after, resumed, checkpoint.optimizer)
    again = native.optimizer_tensors(after, resumed)
    assert (
        again.keys() == tensors.keys() == {f"inner.{n}/{slot}" for n in SHAPES for slot in ("step", "first", "second")}
    )
    for name in tensors:
        assert again[name].dtype == tensors[name].dtype and torch.equal(again[name], tensors[name])
    train(after, parameters, 9, 20)
    for name in SHAPES:
        assert torch.equal(resumed.inner[name], straight.inner[name])
