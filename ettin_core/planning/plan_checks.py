"""Checks of a whole plan before training, of fields that only contradict each other."""

import math

from ettin_core.foundation.errors import invalid
from ettin_core.training.config import RunConfig


def rope_reach(base: float, head_size: int) -> float:
    """The longest wavelength of a rotary base in tokens, 2 pi base^((D - 2) / D) (Su et al. 2021).

    For two positions farther apart every angle has wrapped at least once, so no pair of dimensions orders them.
    """
    return 2 * math.pi * base ** ((head_size - 2) / head_size)


def check_plan(run: RunConfig) -> RunConfig:
    """Returns the run. Raises ValueError if a context is beyond the rotary base, or `keep_every_tokens` beyond a phase."""
    for phase in run.phases:
        path = f"recipe.phases.{phase.name}"
        distances = {"rope_base_global": phase.context, "rope_base_local": min(phase.context, run.model.local_window)}
        for field, distance in distances.items():
            base = getattr(phase, field)
            reach = rope_reach(base, run.model.head_size)
            if distance > reach:
                raise invalid(
                    f"{path}.context" if field == "rope_base_global" else f"{path}.{field}",
                    phase.context if field == "rope_base_global" else base,
                    f"has keys {distance} tokens away, beyond the {reach:.0f} tokens that {field}={base:g} distinguishes",
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
