"""Merged weights: by hand, as mergekit computes them, and back to a parent bit for bit."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ettin_core.checkpoints.merging import MERGES, merged
from ettin_core.checkpoints.native import hash_tensors
from ettin_core.training.parents import METHODS

Weights = dict[str, torch.Tensor]
# Models of one layer, base, first and second, and what mergekit 0.1.5 made of them with weights 0.6 and 0.4, density 0.5.
MERGEKIT = load_file(Path(__file__).parent / "fixtures" / "mergekit.safetensors")


def part(name: str) -> Weights:
    """One of the models in the file of mergekit's results."""
    return {key.removeprefix(f"{name}/"): value for key, value in MERGEKIT.items() if key.startswith(f"{name}/")}


@pytest.fixture
def models() -> list[Weights]:
    """Two models with zeros of both signs."""
    torch.manual_seed(5)
    pair = [{"matrix": torch.randn(6, 4), "vector": torch.randn(3)} for _ in range(2)]
    pair[0]["vector"][1], pair[1]["vector"][1] = -0.0, 0.0
    pair[0]["matrix"][0, 0], pair[1]["matrix"][0, 0] = 0.0, -0.0
    return pair


def test_each_method_that_can_be_asked_for_is_there() -> None:
    assert MERGES.keys() == METHODS.keys()


def test_ties_by_hand() -> None:
    """Density 1/2 keeps two of four changes. Signs: only the first; elected plus (3 > 2); minus (4 > 1); none."""
    base = torch.tensor([1.0, 1.0, 1.0, 1.0])
    first = base + torch.tensor([4.0, 3.0, 1.0, -0.5])  # keeps 4 and 3
    second = base + torch.tensor([0.5, -2.0, -4.0, 0.25])  # keeps -2 and -4
    result = merged("ties", [{"w": first}, {"w": second}], [0.5, 0.5], {"w": base}, 0.5)["w"]
    assert result.tolist() == [1 + 4, 1 + 3, 1 - 4, 1]
    both = merged("ties", [{"w": first}, {"w": second}], [0.75, 0.25], {"w": base}, 1.0)["w"]
    changes = [(0.75 * 4 + 0.25 * 0.5), 3, -4, -0.5]  # the weighted mean where signs agree; 0.75 < 1 elects minus
    assert torch.allclose(both, base + torch.tensor(changes))


@pytest.mark.parametrize("method", ["ties", "task_arithmetic", "slerp"])
def test_mergekit_computes_the_same(method: str) -> None:
    base = part("base") if METHODS[method].base else None
    ours = merged(method, [part("first"), part("second")], [0.6, 0.4], base, 0.5)
    theirs = part(method)
    assert ours.keys() == theirs.keys() and len(theirs) == 12
    for name, tensor in ours.items():
        assert torch.allclose(tensor, theirs[name], atol=1e-6, rtol=1e-5), name
        assert not torch.allclose(tensor, part("first")[name], atol=1e-4), name


@pytest.mark.parametrize("method", ["weighted", "slerp", "task_arithmetic"])
def test_weights_of_one_and_zero_give_a_parent_back_bit_for_bit(method: str, models: list[Weights]) -> None:
    base = {name: torch.ones_like(tensor) for name, tensor in models[0].items()} if METHODS[method].base else None
    for chosen, weights in enumerate(([1.0, 0.0], [0.0, 1.0])):
        assert hash_tensors(merged(method, models, weights, base)) == hash_tensors(models[chosen])
    if base is not None:
        assert hash_tensors(merged(method, models, [0.0, 0.0], base)) == hash_tensors(base)


@pytest.mark.parametrize("method", ["average", "slerp"])
def test_the_order_of_two_equal_parents_does_not_matter(method: str, models: list[Weights]) -> None:
    ways = [merged(method, order, [0.5, 0.5]) for order in (models, models[::-1])]
    assert all(torch.equal(ways[0][name], ways[1][name]) for name in models[0])
    assert not torch.equal(ways[0]["matrix"], models[0]["matrix"])


def test_slerp_keeps_the_norm_that_the_mean_loses() -> None:
    first, second = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    arc = merged("slerp", [{"w": first}, {"w": second}], [0.5, 0.5])["w"]
    mean = merged("average", [{"w": first}, {"w": second}], [0.5, 0.5])["w"]
    assert arc.norm() == pytest.approx(1) and mean.norm() == pytest.approx(0.5**0.5)
    zero = merged("slerp", [{"w": first}, {"w": torch.zeros(2)}], [0.5, 0.5])["w"]
    assert zero.tolist() == [0.5, 0.0]


def test_a_merge_is_rounded_once() -> None:
    """In float32 the sum of a large and many small numbers would lose the small ones."""
    models = [{"w": torch.tensor([value])} for value in (1e8, *[1.0] * 7)]
    assert merged("average", models, [1 / 8] * 8)["w"].item() == torch.tensor((1e8 + 7) / 8).item()
