"""Learning-rate shapes: pure functions of the tokens a phase has consumed, as factors of the phase's own rate."""

from dataclasses import dataclass

from ettin_core.foundation.errors import invalid, unknown

SHAPES = ("warmup_stable_decay", "one_minus_sqrt")


@dataclass(frozen=True)
class Schedule:
    """A shape over `tokens` tokens.

    warmup_stable_decay: linear to 1 over `warmup`, 1, then linear to `final` over the last `decay` tokens (Hu et al. 2024).
    one_minus_sqrt: final + (1 - final) (1 - sqrt(t / tokens)) (Hägele et al. 2024).
    Both are zero for a phase without tokens.
    """

    shape: str
    tokens: int
    warmup: int = 0
    decay: int = 0
    final: float = 0.0

    def __post_init__(self) -> None:
        if self.shape not in SHAPES:
            raise unknown("shape", self.shape, "is not a schedule", SHAPES)
        for name in ("tokens", "warmup", "decay"):
            if getattr(self, name) < 0:
                raise invalid(name, getattr(self, name), "is negative", "use 0 or more")
        if self.warmup + self.decay > self.tokens:
            raise invalid(
                "warmup_share",
                self.warmup,
                f"and decay={self.decay} tokens are longer than the phase ({self.tokens})",
                "shorten them",
            )

    def factor(self, consumed: int) -> float:
        """The factor at `consumed` tokens of the phase (clipped to its end)."""
        if not self.tokens:
            return 0.0
        consumed = min(consumed, self.tokens)
        if self.shape == "one_minus_sqrt":
            return self.final + (1 - self.final) * (1 - (consumed / self.tokens) ** 0.5)
        if consumed < self.warmup:
            return consumed / self.warmup
        left = self.tokens - consumed
        if left < self.decay:
            return self.final + (1 - self.final) * left / self.decay
        return 1.0

    def knots(self) -> list[tuple[int, float]]:
        """(tokens, factor) at the points where the shape bends, for dry runs."""
        points = sorted({0, self.warmup, self.tokens - self.decay, self.tokens})
        return [(point, self.factor(point)) for point in points]
