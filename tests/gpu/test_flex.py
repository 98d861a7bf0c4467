"""Flex attention on CUDA shows exactly the keys of the rule, and computes what the reference does, gradients included."""

import pytest
import torch

from ettin_core.model.attention_backends import AttentionFn, make_attention
from ettin_core.model.attention_mask import row_attention_mask
from ettin_core.model.config import DIRECTIONS
from tests.gpu.cases import distance, documents_of

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA: flex attention")]

HEADS, WIDTH = 2, 64
LENGTHS = [40, 384, 300]  # below, at and between multiples of flex's blocks of 128
WINDOWS = [None, 1, 16, 64, 128]
TOLERANCES = {torch.float32: 1e-5, torch.bfloat16: 1e-2}


def seen_keys(attend: AttentionFn, documents: torch.Tensor) -> torch.Tensor:
    """Which keys have weight (B, S, S): uniform attention over one-hot values, some keys at a time."""
    batch, length = documents.shape
    flat = torch.zeros(batch, 1, length, WIDTH, device=documents.device)
    seen = []
    for begin in range(0, length, WIDTH):
        value = torch.eye(length, device=documents.device)[:, begin : begin + WIDTH]
        value = torch.nn.functional.pad(value, (0, WIDTH - value.shape[1])).expand_as(flat).contiguous()
        seen.append(attend(flat, flat, value)[:, 0] > 0)
    return torch.cat(seen, dim=-1)[:, :, :length]


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_exactly_the_keys_of_the_rule_are_seen(
    direction: str, window: int | None, length: int, device: torch.device
) -> None:
    documents = documents_of(length).to(device)
    seen = seen_keys(make_attention("flex", documents, direction, window), documents)
    assert torch.equal(seen, row_attention_mask(documents, direction, window))


@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize("window", [None, 64])
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_values_and_gradients_are_those_of_the_reference(
    direction: str, window: int | None, dtype: torch.dtype, device: torch.device
) -> None:
    """Relative to fp32's reference on the same (rounded) states; one key too many moves a window of 65 by a tenth."""
    documents = documents_of(300).to(device)
    generator = torch.Generator().manual_seed(0)
    shape = (4, len(documents), HEADS, 300, WIDTH)
    *states, weights = torch.randn(shape, generator=generator).to(device, dtype).unbind()

    def run(backend: str, dtype: torch.dtype) -> list[torch.Tensor]:
        leaves = [state.detach().to(dtype).requires_grad_() for state in states]
        output = make_attention(backend, documents, direction, window)(*leaves)
        (output * weights.to(dtype)).sum().backward()
        return [output.detach(), *(leaf.grad for leaf in leaves if leaf.grad is not None)]

    found, expected = run("flex", dtype), run("reference", torch.float32)
    distances = [distance(one, other) for one, other in zip(found, expected, strict=True)]
    assert len(distances) == 4 and max(distances) < TOLERANCES[dtype], distances
