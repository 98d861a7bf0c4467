"""AdamW equals its published formula, and does not see the scale of the gradient."""

import pytest
import torch
from torch import nn

from ettin_core.foundation.distributed import ProcessGroup
from ettin_core.optim.build import build_optimizer
from ettin_core.optim.config import OptimizerConfig
from ettin_core.optim.update import Update
from tests.optim.models import gradient, rate

CONFIG = OptimizerConfig("adamw", 3e-3, 0.1, (0.9, 0.98), 1e-8)


def trained(scale: float = 1.0) -> nn.Linear:
    """A map after twenty steps."""
    model = start()
    optimizer = build_optimizer(CONFIG, model)
    for step in range(20):
        for number, parameter in enumerate(model.parameters()):
            parameter.grad = gradient(parameter, number, step) * scale
        Update(optimizer).apply(1.0, rate(step), ProcessGroup())
    return model


def start() -> nn.Linear:
    """A map, the same each time."""
    torch.manual_seed(0)
    return nn.Linear(5, 7)


def test_it_equals_the_published_formula() -> None:
    """Loshchilov and Hutter 2019, algorithm 2, in double precision; decay times the rate, on the matrix only."""
    ours = trained()
    for number, (name, parameter) in enumerate(start().named_parameters()):
        value = parameter.detach().double()
        first, second = torch.zeros_like(value), torch.zeros_like(value)
        for step in range(20):
            g = gradient(parameter, number, step).double()
            first, second = 0.9 * first + 0.1 * g, 0.98 * second + 0.02 * g * g
            value = value * (1 - rate(step) * (0.1 if name == "weight" else 0.0))
            corrected = first / (1 - 0.9 ** (step + 1)), second / (1 - 0.98 ** (step + 1))
            value = value - rate(step) * corrected[0] / (corrected[1].sqrt() + 1e-8)
        torch.testing.assert_close(getattr(ours, name).detach().double(), value, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("scale", [1e-2, 1e4])
def test_the_scale_of_the_gradient_does_not_matter(scale: float) -> None:
    for ours, scaled in zip(trained().parameters(), trained(scale).parameters(), strict=True):
        torch.testing.assert_close(ours, scaled, rtol=1e-4, atol=1e-6)
