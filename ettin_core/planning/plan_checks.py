"""What is refused before training because the whole plan shows it, where no single part could."""

import math

from ettin_core.foundation.errors import invalid
from ettin_core.training.config import RunConfig


def rope_reach(base: float, head_size: int) -> float:
    """The longest wavelength of a rotary base in tokens, 2 pi base^((D - 2) / D) (Su et al. 2021).

    Two positions farther apart have every angle wrapped at least once: no pair of dimensions orders them any more.
    """
    return 2 * math.pi * base ** ((head_size - 2) / head_size)


def check_plan(run: RunConfig) -> RunConfig:
    """The run itself. Raises ValueError by field for a context beyond the rotary base or a rule that keeps nothing."""
    for phase in run.phases:
        path = f"recipe.phases.{phase.name}"
        seen = {"rope_base_global": phase.context, "rope_base_local": min(phase.context, run.model.local_window)}
        for field, distance in seen.items():
            base = getattr(phase, field)
            reach = rope_reach(base, run.model.head_size)
            if distance > reach:
                raise invalid(
                    f"{path}.context" if field == "rope_base_global" else f"{path}.{field}",
                    phase.context if field == "rope_base_global" else base,
                    f"has keys {distance} tokens away, beyond the {reach:.0f} tokens that {field}={base:g} tells apart",
                    "use a larger base, or a shorter context",
                )
    every, longest = run.checkpoint.keep_every_tokens, max(phase.tokens for phase in run.phases)
    if every is not None and not 1 <= every <= longest:
        raise invalid(
            "checkpoint.keep_every_tokens",
            every,
            f"is reached in no phase (the longest has {longest:,} tokens)",
            f"use 1 to {longest}, or null",
        )
    return run
