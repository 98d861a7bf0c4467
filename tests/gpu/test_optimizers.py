"""Every update rule moves the weights on CUDA as on the CPU."""

import pytest
import torch

from ettin_core.checkpoints import native
from ettin_core.foundation.distributed import ProcessGroup
from ettin_core.optim.build import build_optimizer
from ettin_core.optim.update import Update
from tests.gpu.cases import distance
from tests.optim.models import CONFIGS, VIEW, gradient, rate, rows, small_model

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA: foreach updates")]

STEPS = 3


def stepped(rule: str, device: torch.device) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """What a few steps with the same gradients add to each weight, and the optimiser's state, on the CPU."""
    model, start = small_model().to(device), small_model().state_dict()
    optimizer = build_optimizer(CONFIGS[rule], model)
    for step in range(STEPS):
        Update(optimizer).begin()
        with torch.no_grad():
            model(*(part.to(device) for part in rows(2)), VIEW)  # shows qk_clip its logits
        for number, parameter in enumerate(model.parameters()):
            parameter.grad = gradient(parameter, number, step).to(device)
        norm = torch.nn.utils.get_total_norm([one.grad for one in model.parameters() if one.grad is not None])
        Update(optimizer).apply(float(norm), rate(step), ProcessGroup())
    moved = {name: one.cpu() - start[name] for name, one in model.state_dict().items()}
    return moved, {name: one.cpu() for name, one in native.optimizer_tensors(optimizer, model).items()}


@pytest.mark.parametrize("rule", CONFIGS)
def test_steps_on_cuda_are_those_on_the_cpu(rule: str, device: torch.device) -> None:
    """Muon orthogonalises in bf16, whose last bit depends on the order of a sum; everything else is fp32."""
    (moved, state), (expected, expected_state) = stepped(rule, device), stepped(rule, torch.device("cpu"))
    assert state.keys() == expected_state.keys() and min(float(one.norm()) for one in expected.values()) > 0
    for name, one in expected.items():
        matrix = rule.startswith("muon") and one.ndim > 1 and name != "embedding.weight"
        assert distance(moved[name], one) < (3e-2 if matrix else 1e-4), name
    for name, one in expected_state.items():
        torch.testing.assert_close(state[name], one, rtol=1e-5, atol=1e-7)
