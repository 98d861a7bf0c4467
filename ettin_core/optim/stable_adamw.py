"""StableAdamW (Wortsman et al. 2023) with fully decoupled weight decay, the published optimiser.

AdamW whose step is shortened, tensor by tensor, when the gradient is larger than its running second moment expects. The
decay is relative to the highest learning rate of the run, and both betas carry their bias correction.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.optim import Optimizer

PIECE = 2**16  # elements: an update's six arrays of this length stay in the cache from one operation to the next


class StableAdamW(Optimizer):
    """StableAdamW; state per parameter: `step` (int tensor), `first` and `second` moments."""

    def __init__(
        self,
        parameters: Iterable[Any],
        learning_rate: float,
        betas: tuple[float, float] = (0.9, 0.98),
        epsilon: float = 1e-6,
        weight_decay: float = 0.0,
    ) -> None:
        """`learning_rate` is the highest of the run: weight decay is scaled by the current rate over this one."""
        defaults = {"lr": learning_rate, "peak": learning_rate, "betas": betas, "eps": epsilon}
        super().__init__(parameters, defaults | {"weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        assert closure is None, "StableAdamW takes no closure"
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, parameter.grad, group)

    def _update(self, parameter: torch.Tensor, gradient: torch.Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if not state:
            state["step"] = torch.zeros((), dtype=torch.int64)
            state["first"], state["second"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
        state["step"] += 1
        step = int(state["step"])
        beta_1, beta_2 = (beta * (1 - beta ** (step - 1)) / (1 - beta**step) for beta in group["betas"])
        first, second, epsilon = state["first"], state["second"], group["eps"]
        pieces, excess = _pieces(parameter, gradient, first, second), []
        for _, some, mean, square in pieces:
            mean.lerp_(some, 1 - beta_1)
            square.mul_(beta_2).addcmul_(some, some, value=1 - beta_2)
            excess.append((some.square() / square.clamp(min=epsilon**2)).sum())
        surprise = (sum(excess[1:], excess[0]) / parameter.numel()).sqrt()
        rate = group["lr"] / surprise.clamp(min=1.0)  # stays on the device: no synchronisation per tensor
        for weights, _, mean, square in pieces:
            if group["weight_decay"]:
                weights.mul_(1 - rate / group["peak"] * group["weight_decay"])
            weights.sub_((mean / square.sqrt().add_(epsilon)).mul_(rate))


def _pieces(*tensors: torch.Tensor) -> list[tuple[torch.Tensor, ...]]:
    """Tensors of one shape in pieces that stay in a CPU's cache between the operations; elsewhere one piece, as they are."""
    if tensors[0].device.type != "cpu" or not all(
        type(tensor.data) is torch.Tensor and tensor.is_contiguous() for tensor in tensors
    ):
        return [tensors]
    return list(zip(*(tensor.view(-1).split(PIECE) for tensor in tensors), strict=True))
