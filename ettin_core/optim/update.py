"""What surrounds an optimiser's own step: clipping of the gradient, the rate of each group, clipping of attention logits.

The settings belong to the optimiser as a whole; `build_optimizer` leaves them in `optimizer.defaults`, and an optimiser that
came from elsewhere has none of them.
"""

import torch

from ettin_core.foundation.distributed import ProcessGroup


def begin_step(optimizer: torch.optim.Optimizer) -> None:
    """Forget the gradients and attention logits of the step before, whether or not it ended in an update."""
    optimizer.zero_grad(set_to_none=True)
    if optimizer.defaults.get("qk_clip") is not None:
        optimizer.defaults["qk_clip"].forget()


def finish_step(
    optimizer: torch.optim.Optimizer, gradient_norm: float, learning_rate: float, group: ProcessGroup
) -> None:
    """Update the weights from gradients whose global norm is `gradient_norm`.

    Every parameter group takes `learning_rate` times its own `rate` (1 where it names none), so one schedule drives all.
    With clip_norm c the gradients are first scaled by min(1, c / (norm + 1e-6)), torch's rule (Pascanu et al. 2013); with
    qk_clip the update is followed by QKClip.apply, which may raise ValueError.
    """
    clip_norm, qk_clip = optimizer.defaults.get("clip_norm"), optimizer.defaults.get("qk_clip")
    if clip_norm is not None:
        parameters = [parameter for one in optimizer.param_groups for parameter in one["params"]]
        torch.nn.utils.clip_grads_with_norm_(parameters, clip_norm, torch.tensor(gradient_norm))
    for one in optimizer.param_groups:
        one["lr"] = learning_rate * one.get("rate", 1.0)
    optimizer.step()
    if qk_clip is not None:
        qk_clip.apply(group)
