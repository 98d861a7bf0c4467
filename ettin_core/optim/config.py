"""The configuration of an optimiser. Imports without torch."""

from dataclasses import dataclass

from ettin_core.foundation.errors import invalid, unknown

NAMES = ("stable_adamw", "adamw", "muon")


@dataclass(frozen=True)
class MuonConfig:
    """What Muon has and AdamW has not; `adamw_rate` is AdamW's rate as a share of the learning rate."""

    momentum: float = 0.95
    newton_schulz_steps: int = 5
    adamw_rate: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.momentum < 1:
            raise invalid("optimizer.muon.momentum", self.momentum, "is not in [0, 1)", "use 0.95")
        if not 1 <= self.newton_schulz_steps < 100:
            steps = self.newton_schulz_steps
            raise invalid("optimizer.muon.newton_schulz_steps", steps, "is not between 1 and 99", "use 5")
        if not 0 < self.adamw_rate < float("inf"):
            raise invalid("optimizer.muon.adamw_rate", self.adamw_rate, "is not positive", "use 1.0")


@dataclass(frozen=True)
class OptimizerConfig:
    """The update rule. The factors of the phases multiply `learning_rate`; weight decay leaves out norms and biases.

    stable_adamw scales weight decay by (rate / the run's top rate), as published (Weller et al. 2025). So a conversion, which
    begins with a fresh optimiser at half the rate, decays as much as its parent did. adamw and muon scale it by the rate
    itself (torch's convention). `muon` is given for muon only; `betas` and `epsilon` are then those of its AdamW.
    `clip_norm` limits the global norm of the gradient, `qk_clip` each head's attention logits (optim.qk_clip). Neither is
    published; both work with every update rule. Raises ValueError for a value out of range.
    """

    name: str
    learning_rate: float
    weight_decay: float
    betas: tuple[float, ...] = (0.9, 0.98)
    epsilon: float = 1e-6
    muon: MuonConfig | None = None
    clip_norm: float | None = None
    qk_clip: float | None = None

    def __post_init__(self) -> None:
        if self.name not in NAMES:
            raise unknown("optimizer.name", self.name, "is not an optimiser", NAMES)
        for name, example in (("learning_rate", "1e-3"), ("epsilon", "1e-6")):
            if not 0 < getattr(self, name) < float("inf"):
                raise invalid(f"optimizer.{name}", getattr(self, name), "is not positive", f"use about {example}")
        for name, example in (("clip_norm", "1.0"), ("qk_clip", "100")):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise invalid(f"optimizer.{name}", value, "is not positive", f"use {example}, or null for none")
        if not 0 <= self.weight_decay < float("inf"):
            raise invalid("optimizer.weight_decay", self.weight_decay, "is negative", "use 0 or more")
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise invalid("optimizer.betas", self.betas, "are not two numbers in [0, 1)", "use [0.9, 0.98]")
        if self.name == "muon" and self.muon is None:
            raise invalid("optimizer.muon", None, "is missing", "use {momentum: 0.95}")
        if self.name != "muon" and self.muon is not None:
            raise invalid("optimizer.muon", self.muon, f"is not used by {self.name}", "use null, or optimizer=muon")
