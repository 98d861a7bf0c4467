"""The space of a search: ranges and choices of keys, checked against their effect on a run."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ettin_core.data.config import DataConfig
from ettin_core.foundation.errors import invalid
from ettin_core.foundation.override_text import spell
from ettin_core.training.config import RunConfig

Values = dict[str, Any]


@dataclass(frozen=True)
class Axis:
    """A key to search: from `low` to `high` (evenly in the logarithm, or whole numbers only), or among `choices`."""

    key: str
    low: float | None = None
    high: float | None = None
    log: bool = False
    integer: bool = False
    choices: tuple[Any, ...] = ()

    def __post_init__(self) -> None:
        field = f"space.{self.key}"
        if self.choices:
            if (self.low, self.high, self.log, self.integer) != (None, None, False, False):
                raise invalid(field, list(self.choices), "is given beside a range", "give choices, or low and high")
            if len({str(choice) for choice in self.choices}) < max(2, len(self.choices)):
                raise invalid(
                    field, list(self.choices), "leaves nothing to choose", "give two choices or more, each once"
                )
            return
        if self.low is None or self.high is None:
            raise invalid(field, [self.low, self.high], "is not a range", "give low and high, or choices=[a,b]")
        if not self.low < self.high:
            raise invalid(field, [self.low, self.high], "is an empty range", "give a low below the high")
        if self.log and self.low <= 0:
            raise invalid(field, self.low, "has no logarithm", "begin above 0, or use log=false")
        if self.integer and not (self.low.is_integer() and self.high.is_integer()):
            raise invalid(field, [self.low, self.high], "has an end that is not a whole number", "use integer=false")

    @property
    def ends(self) -> tuple[Any, ...]:
        """Every choice, or the ends of the range."""
        assert self.choices or (self.low is not None and self.high is not None)
        ends = (self.low, self.high)
        return self.choices or (tuple(int(end or 0) for end in ends) if self.integer else ends)

    def override(self, value: Any) -> str:
        """The override that sets the key to a value."""
        return f"{self.key}={spell(value)}"


def check_axes(
    axes: tuple[Axis, ...], member: str, plan: Callable[[str, Values], tuple[RunConfig, DataConfig]]
) -> None:
    """Raises ValueError if an axis is unknown, changes no run, or makes the losses of a member's trials incomparable.

    `plan` composes a member's run and data with values of some keys.
    """
    for axis in axes:
        planned = [
            plan(member, {searched.key: searched.ends[0] for searched in axes} | {axis.key: end}) for end in axis.ends
        ]
        runs, data = [run for run, _ in planned], [data for _, data in planned]
        if any(item != data[0] for item in data) or len({run.readout for run in runs}) > 1:
            raise invalid(
                f"space.{axis.key}",
                list(axis.ends),
                "changes what the validation loss is a loss of",
                "run a search for each; losses of different text or objectives cannot be compared",
            )
        if len({run.name for run in runs}) < len(runs):
            raise invalid(
                f"space.{axis.key}", list(axis.ends), "names the same run twice", "search a key that moves a run"
            )
