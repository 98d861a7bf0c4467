"""The compiled head on CUDA is torch's cross-entropy, padded or not, and never holds the logits in fp32."""

import pytest
import torch
import torch.nn.functional as F

from ettin_core.objectives.loss import UNSCORED, summed_cross_entropy
from tests.gpu.cases import distance
from tests.objectives.test_loss import example, gradients, reference, total

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA: Triton kernels")]

ROUNDING = {"fp32": 1e-4, "bf16": 2e-2}


@pytest.mark.parametrize("precision", ROUNDING)
@pytest.mark.parametrize(("rows", "padding"), [(1, 0), (100, 28), (4096, 0), (5000, 120)])
def test_value_and_gradients(rows: int, padding: int, precision: str, device: torch.device) -> None:
    tensors = example(rows, 64, 1000)
    exact = reference(*tensors)
    expected = gradients(exact, tensors)
    states, weight, bias = (tensor.detach().to(device).requires_grad_() for tensor in tensors[:3])
    labels = F.pad(tensors[3], (0, padding), value=UNSCORED).to(device)
    with torch.autocast("cuda", dtype=torch.bfloat16, enabled=precision == "bf16"):
        value, each = summed_cross_entropy(F.pad(states, (0, 0, 0, padding)), weight, bias, labels)
    assert float(value) == pytest.approx(float(exact), rel=ROUNDING[precision]) and not each[rows:].any()
    found = torch.autograd.grad(value, (states, weight, bias))
    for one, other in zip(found, expected, strict=True):
        assert distance(one.cpu(), other) < ROUNDING[precision]


def test_memory_is_two_chunks_of_bf16_logits(device: torch.device) -> None:
    rows, vocabulary = 8192, 50_368
    states = torch.randn(rows, 64, device=device, requires_grad=True)
    weight = torch.randn(vocabulary, 64, device=device, requires_grad=True)
    bias, labels = torch.zeros(vocabulary, device=device), torch.arange(rows, device=device)
    for _ in range(2):  # the first compiles
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        with torch.autocast("cuda", dtype=torch.bfloat16):
            total(states, weight, bias, labels).backward()
    chunk = 4096 * vocabulary * 2
    assert torch.cuda.max_memory_allocated(device) - before < 2.5 * chunk
