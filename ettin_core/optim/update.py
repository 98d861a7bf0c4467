"""What surrounds an optimiser's own step: clipping of the gradient, the rate of each group, clipping of attention logits."""

from dataclasses import dataclass

import torch

from ettin_core.foundation.distributed import ProcessGroup
from ettin_core.optim.qk_clip import QKClip


@dataclass(frozen=True)
class Update:
    """An optimiser with the settings of an update as a whole.

    `clip_norm` limits the global norm of the gradient, `qk_clip` each head's attention logits; None does neither.
    """

    optimizer: torch.optim.Optimizer
    clip_norm: float | None = None
    qk_clip: QKClip | None = None

    @property
    def guards_itself(self) -> bool:
        """Whether the optimiser leaves an update out by a flag on its device: torch's protocol for gradient scaling."""
        return self.qk_clip is None and getattr(self.optimizer, "_step_supports_amp_scaling", False)

    def begin(self) -> None:
        """Forget the gradients and attention logits of the step before, whether or not it ended in an update."""
        self.optimizer.zero_grad(set_to_none=True)
        if self.qk_clip is not None:
            self.qk_clip.reset()

    def apply(
        self,
        gradient_norm: float | torch.Tensor,
        learning_rate: float,
        group: ProcessGroup,
        found_inf: torch.Tensor | None = None,
    ) -> None:
        """Update the weights from gradients whose global norm is `gradient_norm`.

        Every parameter group takes `learning_rate` times its own `rate` (1 where it names none), so one schedule drives all.
        With clip_norm c the gradients are first scaled by min(1, c / (norm + 1e-6)), torch's rule (Pascanu et al. 2013);
        with qk_clip the update is followed by QKClip.apply, which may raise ValueError. If `found_inf` () float32, on the
        device, is 1, weights and optimiser state stay as they are (needs `guards_itself`).
        """
        assert found_inf is None or self.guards_itself
        if self.clip_norm is not None:
            parameters = [parameter for each in self.optimizer.param_groups for parameter in each["params"]]
            norm = torch.as_tensor(gradient_norm, dtype=torch.float32)
            torch.nn.utils.clip_grads_with_norm_(parameters, self.clip_norm, norm)
        for each in self.optimizer.param_groups:
            each["lr"] = learning_rate * each.get("rate", 1.0)
        if self.guards_itself:
            self.optimizer.found_inf = found_inf  # type: ignore[attr-defined]
        self.optimizer.step()
        if self.qk_clip is not None:
            self.qk_clip.apply(group)
