"""Which checkpoints are written and which are kept: a rule in the configuration."""

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ettin_core.foundation.errors import invalid
from ettin_core.foundation.folders import remove_folder


@dataclass(frozen=True)
class CheckpointConfig:
    """Write a checkpoint every `every_steps` steps and at each phase's end; keep the `keep_last` newest.

    Kept permanently besides: step 0, each phase's end, and the first after each multiple of `keep_every_tokens` of a
    phase's tokens (None: none).
    """

    every_steps: int = 100
    keep_last: int = 2
    keep_every_tokens: int | None = None

    def __post_init__(self) -> None:
        if self.every_steps < 1:
            raise invalid("checkpoint.every_steps", self.every_steps, "is not positive", "use 100")
        if self.keep_every_tokens is not None and self.keep_every_tokens < 1:
            raise invalid(
                "checkpoint.keep_every_tokens", self.keep_every_tokens, "is not positive", "use 8.5e9, or null"
            )
        if self.keep_last < 2:
            raise invalid(
                "checkpoint.keep_last", self.keep_last, "leaves no spare when the newest is damaged", "use 2 or more"
            )

    def due(self, step: int, steps: int, consumed: Callable[[int], int]) -> bool:
        """Whether a checkpoint is written after `step` of `steps` steps of a phase; consumed(n): its tokens after n."""
        return step % self.every_steps == 0 or self.is_kept(step, steps, consumed)

    def is_kept(self, step: int, steps: int, consumed: Callable[[int], int]) -> bool:
        """Whether that checkpoint is kept permanently."""
        if step == steps or self.keep_every_tokens is None:
            return step == steps
        return consumed(step) // self.keep_every_tokens > consumed(step - 1) // self.keep_every_tokens

    def kept_steps(self, steps: int, consumed: Callable[[int], int]) -> list[int]:
        """All steps of a phase whose checkpoints are kept permanently, in order, found by bisection."""
        every, last = self.keep_every_tokens, consumed(steps)
        multiples = range(every, last + 1, every) if every is not None else range(0)
        return sorted({steps, *(bisect_left(range(steps + 1), tokens, key=consumed) for tokens in multiples)})


def prune(temporary: list[Path], keep_last: int) -> list[Path]:
    """Delete all but the newest `keep_last` of the temporary checkpoints; returns those that are left.

    A path named twice was written again after a resume: only its last place counts.
    """
    temporary = list(dict.fromkeys(reversed(temporary)))[::-1]
    gone = temporary[: max(0, len(temporary) - keep_last)]
    for path in gone:
        remove_folder(path)
    return [path for path in temporary if path not in gone]
