"""What a study's file says of a stage: a command of this suite that follows its cells, once they are measured."""

from dataclasses import dataclass, field
from typing import Any

from ettin_core.foundation.errors import invalid, unknown
from ettin_core.foundation.fields import check_name
from ettin_core.foundation.override_text import spell

MAKES_RUNS = ("sft", "dpo", "merge")  # each makes a run, which is a cell of the study
ADDS_RECORDS = ("finetune", "retrieve", "quantise")  # each adds records to the run of its cell
COMMANDS = (*MAKES_RUNS, *ADDS_RECORDS)

Levels = dict[str, Any]  # by axis; a list means any of its levels


@dataclass(frozen=True)
class StageConfig:
    """A command, the cells that it follows and its settings.

    `of` selects cells, also those that an earlier stage makes. `settings` are keys of the command's configuration, `axes` those
    that vary. A merge has further parents, each the cell that `others` selects beside the first, and perhaps a `base`. The
    `retriever` of a retrieval kind is the model that an earlier `stage` made of the one cell with its other levels: the same for
    all members, or their records could not be compared.
    """

    command: str
    of: Levels
    axes: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    others: tuple[Levels, ...] = ()
    base: Levels | None = None
    retriever: Levels | None = None

    def check(self, name: str) -> None:
        """Raises ValueError for what no command of a stage could do."""
        check_name(f"stages.{name}", name)
        if self.command not in COMMANDS:
            raise unknown(f"stages.{name}.command", self.command, "is not a command of a stage", COMMANDS)
        for key, value, command in (
            ("others", self.others, "merge"),
            ("base", self.base, "merge"),
            ("retriever", self.retriever, "retrieve"),
        ):
            if value and self.command != command:
                raise invalid(f"stages.{name}.{key}", value, f"has no meaning for {self.command}", "leave it out")
        for axis, levels in self.axes.items():
            if not levels or len({str(level) for level in levels}) < len(levels):
                raise invalid(f"stages.{name}.axes.{axis}", levels, "is not a list of levels", "name each level once")

    def members(self, known: list[str]) -> list[str]:
        """Those of the known members that it follows."""
        return any_of(self.of.get("member", known))

    @property
    def makes_run(self) -> bool:
        """Whether it makes a cell."""
        return self.command in MAKES_RUNS


def any_of(levels: Any) -> list[Any]:
    """The levels of a choice, of which any will do: one, or a list."""
    return list(levels) if isinstance(levels, list | tuple) else [levels]


def level_of(value: Any) -> Any:
    """A level as the axes of a cell hold it: a word or number as it is, anything else as it is typed."""
    return value if isinstance(value, str | int | float) else spell(value)
