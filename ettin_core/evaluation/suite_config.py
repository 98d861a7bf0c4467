"""The settings of a suite, checked before any work starts. Imports without torch."""

from dataclasses import dataclass

from ettin_core.evaluation.datasets import EvaluationSet, check_folder
from ettin_core.evaluation.lines import FOLDER
from ettin_core.evaluation.protocol import SuiteSizes
from ettin_core.evaluation.registry import BY_NAME
from ettin_core.evaluation.tasks.find import find_task
from ettin_core.foundation.errors import invalid, unknown


@dataclass(frozen=True)
class SuiteConfig(SuiteSizes):
    """How much is measured, and by which protocols.

    `protocols` names those to measure (None: all that apply, but for those on request). `tasks` names tasks of the folder's
    own (docs/tasks.md); without `protocols` they alone are measured. Raises ValueError for unknown names, and for evaluation
    sets that are not in the folder.
    """

    protocols: tuple[str, ...] | None = None
    tasks: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.protocols is not None:
            self._check_protocols(self.protocols)
        if self.eval_data is not None:
            check_folder(self.eval_data, self.sets)
        self._check_tasks()

    def _check_protocols(self, names: tuple[str, ...]) -> None:
        if not names:
            raise invalid("suite.protocols", [], "measures nothing", "name some, or leave it null for all")
        for name in names:
            if name not in BY_NAME:
                raise unknown("suite.protocols", name, "is not a protocol", BY_NAME)
            if self.eval_data is None and not BY_NAME[name].has_items(sets=False, corpus=True):
                remedy = f"give suite.eval_data with {BY_NAME[name].datasets[0].file}: {FOLDER}"
                raise invalid("suite.protocols", name, "reads an evaluation set", remedy)

    def _check_tasks(self) -> None:
        taken = {name.partition(".")[0] for name in BY_NAME}
        for name in self.tasks or ():
            if self.eval_data is None:
                raise invalid("suite.tasks", name, "is read from a folder", f"give suite.eval_data: {FOLDER}")
            if self.tasks and self.tasks.count(name) > 1:
                raise invalid("suite.tasks", name, "is named twice", "name it once")
            if name in taken:
                raise invalid("suite.tasks", name, "is the name of a protocol", "rename the task's file")
            find_task(name, self.folder, "evaluate").files()

    @property
    def asked(self) -> tuple[str, ...]:
        """The names of the protocols that may be measured, but for those of the folder's tasks."""
        if self.protocols is not None:
            return self.protocols
        return () if self.tasks else tuple(name for name, protocol in BY_NAME.items() if not protocol.on_request)

    @property
    def sets(self) -> tuple[EvaluationSet, ...]:
        """The evaluation sets that the chosen protocols read, each once."""
        return tuple(dict.fromkeys(item for name in self.asked for item in BY_NAME[name].datasets))
