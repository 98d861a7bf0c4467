"""The chunked loss is cross-entropy: value, gradients, chunk edges, nothing to score, and lower precision."""

import pytest
import torch
import torch.nn.functional as F

from ettin_core.objectives import loss
from ettin_core.objectives.loss import summed_cross_entropy

Tensors = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]


def example(rows: int, width: int = 16, vocabulary: int = 50, scale: float = 1.0) -> Tensors:
    """States, weight, bias and labels."""
    generator = torch.Generator().manual_seed(rows + vocabulary)
    states = torch.randn(rows, width, generator=generator) * scale
    weight = torch.randn(vocabulary, width, generator=generator)
    bias = torch.randn(vocabulary, generator=generator)
    labels = torch.randint(vocabulary, (rows,), generator=generator)
    for tensor in (states, weight, bias):
        tensor.requires_grad_()
    return states, weight, bias, labels


def total(*tensors: torch.Tensor) -> torch.Tensor:
    """The sum alone."""
    return summed_cross_entropy(*tensors)[0]  # type: ignore[arg-type]


def reference(states: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """What it must equal."""
    return F.cross_entropy(F.linear(states, weight, bias), labels, reduction="sum")


def gradients(value: torch.Tensor, tensors: Tensors, scale: float = 1.0) -> list[torch.Tensor]:
    """Gradients of scale * value."""
    return list(torch.autograd.grad(value * scale, tensors[:3]))


def check_equal(tensors: Tensors, scale: float = 1.0) -> None:
    """Value and all gradients equal torch's, to fp32 rounding."""
    ours, theirs = total(*tensors), reference(*tensors)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    for left, right in zip(gradients(ours, tensors, scale), gradients(theirs, tensors, scale), strict=True):
        torch.testing.assert_close(left, right, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("rows", [1, 2, 33])
def test_value_and_gradients_equal_torch(rows: int) -> None:
    check_equal(example(rows))


@pytest.mark.parametrize("rows", [1, 6, 7, 8, 13, 14, 15, 70])
def test_edges_of_chunks_leave_no_trace(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(loss.CHUNK_ROWS, "cpu", 7)
    monkeypatch.setattr(loss, "BLOCK_ELEMENTS", 3 * 50)
    check_equal(example(rows))


@pytest.mark.parametrize("rows", [1, 6, 7, 8, 70])
@pytest.mark.parametrize("padding", [0, 1, 9])
def test_the_expression_for_a_gpu_is_the_same_with_padding(
    rows: int, padding: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Uncompiled, on the CPU, in chunks: padded positions, whatever their states, add exactly nothing."""
    states, weight, bias, labels = example(rows)
    expected = total(states, weight, bias, labels)
    monkeypatch.setitem(loss.CHUNK_ROWS, "cpu", 7)
    monkeypatch.setitem(loss.SOFTMAX, "cpu", loss.softmax_in_one_pass)
    monkeypatch.setattr(loss, "_compiled", lambda: loss.losses_and_gradient)
    more = torch.cat([states, torch.full((padding, 16), 3.0)])
    value, each = summed_cross_entropy(more, weight, bias, F.pad(labels, (0, padding), value=loss.UNSCORED))
    torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-5)
    assert not each[rows:].any()
    tensors = (states, weight, bias)
    for left, right in zip(torch.autograd.grad(value, tensors), torch.autograd.grad(expected, tensors), strict=True):
        torch.testing.assert_close(left, right, rtol=1e-5, atol=1e-5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = total(states, weight, bias, labels)
    torch.testing.assert_close(low, expected, rtol=2**-7, atol=0.0)
    for left, right in zip(
        torch.autograd.grad(low, tensors), gradients(reference(*tensors, labels), (*tensors, labels)), strict=True
    ):
        assert (left - right).norm() < 2**-6 * right.norm()


def test_blocks_and_pieces_move_no_bit_of_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    tensors = example(64, width=32)
    outcomes = []
    for size in (2**20, 3 * 50):
        monkeypatch.setattr(loss, "BLOCK_ELEMENTS", size)
        monkeypatch.setattr(loss, "PIECE_ELEMENTS", size)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            value = total(*tensors)
        outcomes.append([value, *gradients(value, tensors)])
    whole, blocks = outcomes
    assert all(torch.equal(left, right) for left, right in zip(whole[:3], blocks[:3], strict=True))
    torch.testing.assert_close(whole[3], blocks[3], rtol=1e-6, atol=1e-6)  # the bias: sums of rows, in another order


def test_the_real_chunk_size_is_crossed() -> None:
    check_equal(example(loss.CHUNK_ROWS["cpu"] + 30, width=4, vocabulary=50))


@pytest.mark.parametrize("scale", [0.25, -3.0])
def test_the_gradient_of_what_follows_is_carried_through(scale: float) -> None:
    check_equal(example(9), scale)


def test_every_label_may_be_the_same() -> None:
    states, weight, bias, labels = example(9)
    check_equal((states, weight, bias, torch.full_like(labels, 3)))


def test_large_logits_do_not_overflow() -> None:
    tensors = example(9, scale=200.0)
    ours = total(*tensors)
    assert torch.isfinite(ours)
    torch.testing.assert_close(ours, reference(*tensors), rtol=1e-5, atol=1e-5)
    assert all(torch.isfinite(gradient).all() for gradient in gradients(ours, tensors))


def test_zero_positions_give_exactly_zero() -> None:
    tensors = example(0)
    value = total(*tensors)
    assert value.item() == 0.0
    states, weight, bias = gradients(value, tensors)
    assert states.shape == (0, 16) and not weight.any() and not bias.any()


def test_the_sum_over_parts_is_the_sum() -> None:
    states, weight, bias, labels = example(40)
    parts = [total(states[i : i + 10], weight, bias, labels[i : i + 10]) for i in range(0, 40, 10)]
    torch.testing.assert_close(sum(parts), total(states, weight, bias, labels), rtol=1e-6, atol=0.0)


def test_a_uniform_guess_costs_log_of_the_vocabulary() -> None:
    states, weight, bias, labels = example(8)
    value = total(states, torch.zeros_like(weight), torch.zeros_like(bias), labels)
    torch.testing.assert_close(value, 8 * torch.tensor(50.0).log(), rtol=1e-6, atol=0.0)


def test_inputs_are_left_as_they_were() -> None:
    tensors = example(9)
    before = [tensor.detach().clone() for tensor in tensors]
    gradients(total(*tensors), tensors)
    assert all(torch.equal(left, right) for left, right in zip(tensors, before, strict=True))


def test_gradients_agree_with_finite_differences() -> None:
    tensors = example(3, width=2, vocabulary=4)
    exact = gradients(total(*tensors), tensors)
    for number, gradient in enumerate(exact):
        for place in range(gradient.numel()):
            values = []
            for step in (1e-2, -1e-2):
                moved = [tensor.detach().clone() for tensor in tensors]
                moved[number].view(-1)[place] += step
                values.append(total(moved[0], moved[1], moved[2], moved[3]).item())
            assert (values[0] - values[1]) / 2e-2 == pytest.approx(gradient.view(-1)[place].item(), abs=1e-3)


def test_bf16_autocast_stays_within_its_precision() -> None:
    tensors = example(64, width=32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        ours = total(*tensors)
    assert ours.dtype == torch.float32
    exact = reference(*tensors)
    torch.testing.assert_close(ours, exact, rtol=2**-8, atol=0.0)
    for left, right in zip(gradients(ours, tensors), gradients(exact, tensors), strict=True):
        assert left.dtype == torch.float32
        assert (left - right).norm() < 2**-6 * right.norm()


def test_autocast_really_computes_in_bf16() -> None:
    tensors = example(64, width=32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        ours = total(*tensors)
        theirs = F.cross_entropy(F.linear(tensors[0], tensors[1]).float() + tensors[2], tensors[3], reduction="sum")
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    assert ours.item() != total(*tensors).item()


def test_bf16_states_get_bf16_gradients() -> None:
    states, weight, bias, labels = example(9)
    low = states.detach().bfloat16().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = total(low, weight, bias, labels)
    assert torch.autograd.grad(value, low)[0].dtype == torch.bfloat16


def test_nothing_is_kept_when_no_gradient_is_wanted() -> None:
    states, weight, bias, labels = (tensor.detach() for tensor in example(9))
    value = total(states, weight, bias, labels)
    assert not value.requires_grad
    torch.testing.assert_close(value, reference(states, weight, bias, labels), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("rows", [1, 10, 1024, 1500])
def test_each_position_has_its_own_loss(rows: int) -> None:
    states, weight, bias, labels = example(rows)
    value, each = summed_cross_entropy(states, weight, bias, labels)
    expected = F.cross_entropy(F.linear(states, weight, bias), labels, reduction="none")
    torch.testing.assert_close(each, expected.detach(), rtol=1e-5, atol=1e-5)
    assert not each.requires_grad and value.requires_grad
