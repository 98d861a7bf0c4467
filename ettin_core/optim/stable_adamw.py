"""StableAdamW (Wortsman et al. 2023) with fully decoupled weight decay, the published optimiser.

AdamW whose step is shortened, tensor by tensor, when the gradient is larger than its running second moment expects. The
decay is relative to the highest learning rate of the run, and both betas carry their bias correction.

There are two implementations. A CPU goes tensor by tensor, through the cache. A GPU takes many tensors in each operation
(torch's foreach) and never asks the host: the count of steps is on the device, and so is the flag that leaves an update out.
"""

import inspect
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch.optim import Optimizer

from ettin_core.foundation.distributed import local_part, sum_of_parts

PIECE = 2**16  # elements: an update's six arrays of this length stay in the cache from one operation to the next
BUCKET = 2**27  # elements that are updated together on a GPU: three temporary arrays of 0.5 GiB at most


class StableAdamW(Optimizer):
    """StableAdamW; state per parameter: `step` (int tensor), `first` and `second` moments.

    With `foreach` it has torch's protocol for gradient scaling: where its attribute `found_inf` () float32 is 1, weights and
    state stay as they are.
    """

    # torch imports its compiler, for a second and a half, to keep it away from these; nothing compiles them here.
    add_param_group = inspect.unwrap(Optimizer.add_param_group)
    zero_grad = inspect.unwrap(Optimizer.zero_grad)
    state_dict = inspect.unwrap(Optimizer.state_dict)
    load_state_dict = inspect.unwrap(Optimizer.load_state_dict)

    def __init__(
        self,
        parameters: Iterable[Any],
        learning_rate: float,
        betas: tuple[float, float] = (0.9, 0.98),
        epsilon: float = 1e-6,
        weight_decay: float = 0.0,
        foreach: bool | None = None,
    ) -> None:
        """`learning_rate` is the highest of the run: weight decay is scaled by the current rate over this one.

        `foreach` updates all parameters of a group at once, and each of them needs a gradient (None: on a GPU).
        """
        defaults = {"lr": learning_rate, "peak": learning_rate, "betas": betas, "eps": epsilon}
        super().__init__(parameters, defaults | {"weight_decay": weight_decay})
        on_gpu = any(parameter.is_cuda for group in self.param_groups for parameter in group["params"])
        self._step_supports_amp_scaling = on_gpu if foreach is None else foreach
        self.found_inf: torch.Tensor | None = None

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        assert closure is None, "StableAdamW takes no closure"
        for group in self.param_groups:
            if self._step_supports_amp_scaling:
                for bucket in _buckets(group["params"]):
                    self._update_together(bucket, group)
                continue
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, parameter.grad, group)

    def _state(self, parameter: torch.Tensor) -> dict[str, torch.Tensor]:
        state = self.state[parameter]
        if not state:
            device = parameter.device if self._step_supports_amp_scaling else "cpu"
            state["step"] = torch.zeros((), dtype=torch.int64, device=device)
            state["first"], state["second"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
        return state

    def _update_together(self, parameters: list[torch.Tensor], group: dict[str, Any]) -> None:
        """Update parameters with the same count of steps; a part of each, where they are divided over processes."""
        states, epsilon = [self._state(parameter) for parameter in parameters], group["eps"]
        steps = [state["step"] for state in states]
        kept = torch.ones_like(steps[0], dtype=torch.float64) if self.found_inf is None else 1 - self.found_inf.double()
        torch._foreach_add_(steps, [kept.long()] * len(steps))
        count = steps[0].double().clamp(min=1)
        betas = [beta * (1 - beta ** (count - 1)) / (1 - beta**count) for beta in group["betas"]]
        new_1, new_2 = ((1 - beta) * kept for beta in betas)  # weights of this gradient: zero in an update left out
        weights = [local_part(parameter) for parameter in parameters]
        given = [parameter.grad for parameter in parameters if parameter.grad is not None]  # all: see _buckets
        gradients = [local_part(gradient).masked_fill(kept == 0, 0.0) for gradient in given]
        first, second = ([local_part(state[name]) for state in states] for name in ("first", "second"))
        torch._foreach_mul_(first, (1 - new_1).float())
        torch._foreach_add_(first, torch._foreach_mul(gradients, new_1.float()))
        torch._foreach_mul_(gradients, gradients)
        torch._foreach_mul_(second, (1 - new_2).float())
        torch._foreach_add_(second, torch._foreach_mul(gradients, new_2.float()))
        torch._foreach_div_(gradients, torch._foreach_clamp_min(second, epsilon**2))
        sums = sum_of_parts(torch.stack(torch._foreach_norm(gradients, 1, dtype=torch.float64)), parameters[0])
        means = torch._foreach_div(list(sums.unbind()), [parameter.numel() for parameter in parameters])
        rates = group["lr"] / torch.stack(means).sqrt().clamp(min=1.0) * kept
        if group["weight_decay"]:
            torch._foreach_mul_(weights, list((1 - rates / group["peak"] * group["weight_decay"]).float().unbind()))
        torch._foreach_add_(denominators := torch._foreach_sqrt(second), epsilon)
        moves = torch._foreach_div(first, denominators)
        torch._foreach_mul_(moves, list(rates.float().unbind()))
        torch._foreach_sub_(weights, moves)

    def _update(self, parameter: torch.Tensor, gradient: torch.Tensor, group: dict[str, Any]) -> None:
        state = self._state(parameter)
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


def _buckets(parameters: list[torch.Tensor]) -> Iterator[list[torch.Tensor]]:
    """Parameters in their order, about BUCKET elements at a time."""
    bucket: list[torch.Tensor] = []
    for parameter in parameters:
        assert parameter.grad is not None, "foreach updates all parameters of a group"
        if bucket and sum(map(torch.numel, bucket)) + parameter.numel() > BUCKET:
            yield bucket
            bucket = []
        bucket.append(parameter)
    if bucket:
        yield bucket


def _pieces(*tensors: torch.Tensor) -> list[tuple[torch.Tensor, ...]]:
    """Tensors of one shape in pieces that stay in a CPU's cache between the operations; elsewhere one piece, as they are."""
    if tensors[0].device.type != "cpu" or not all(
        type(tensor.data) is torch.Tensor and tensor.is_contiguous() for tensor in tensors
    ):
        return [tensors]
    return list(zip(*(tensor.view(-1).split(PIECE) for tensor in tensors), strict=True))
