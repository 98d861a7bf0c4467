"""Tasks of the user's for `evaluate`: one of multiple choice or minimal pairs becomes protocols of the suite.

Its protocols are <task>.left_to_right, for every member, and <task>.pseudo_likelihood, for masked ones, as `minimal_pairs` and
`facts` have them. What is asked are the task's test rows; where there are none, those of dev, or else all.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ettin_core.data.corpus import Corpus
from ettin_core.evaluation.datasets import EvaluationSet
from ettin_core.evaluation.multiple_choice import Choice, ChoiceScorer, answered, option_only, whole_text
from ettin_core.evaluation.protocol import Measured, Protocol, SuiteSizes
from ettin_core.evaluation.tasks.config import PARTS
from ettin_core.evaluation.tasks.find import Task, find_task
from ettin_core.evaluation.tasks.rows import TaskRow, choice_of, pair_of, task_rows
from ettin_core.foundation.storage import hash_file
from ettin_core.records.readout import KINDS, MASKED

if TYPE_CHECKING:
    from ettin_core.evaluation.evaluated_model import EvaluatedModel

VERSION = 1
ESTIMATORS = {"left_to_right": KINDS, "pseudo_likelihood": (MASKED,)}


@dataclass(frozen=True, eq=False)
class TaskSet(EvaluationSet):
    """A task's files as an evaluation set of the suite, which checks and hashes them."""

    task: Task = field(kw_only=True)

    def rows(self, folder: Path) -> Iterator[dict[str, Any]]:
        """Rows that can be asked. Raises ValueError naming file and line."""
        for row in asked(self.task):
            choice_from(self.task, row)
            yield row.raw

    def uneven_rows(self, folder: Path) -> int:
        """How many rows have white space that is evened out."""
        return sum(choice_from(self.task, row).options != _given(self.task, row) for row in asked(self.task))

    def hashes(self, folder: Path) -> dict[str, str]:
        """sha256 of each of the files, and what the task file says."""
        files = {str(path.relative_to(folder)): hash_file(path) for path in self.task.files().values()}
        return files | {f"task {self.task.name}": repr(self.task.spec)}


def protocols_of(names: Sequence[str], folder: Path) -> list[Protocol]:
    """The protocols of tasks of a folder."""
    tasks = [find_task(name, folder, "evaluate") for name in names]
    return [
        Protocol(
            f"{name}.{estimator}", VERSION, kinds, _Measure(task, estimator), (TaskSet(task.stem, {}, (), task=task),)
        )
        for name, task in zip(names, tasks, strict=True)
        for estimator, kinds in ESTIMATORS.items()
    ]


class _Measure:
    def __init__(self, task: Task, estimator: str) -> None:
        self.task, self.estimator = task, estimator

    def __call__(self, model: "EvaluatedModel", corpus: Corpus | None, suite: SuiteSizes) -> Measured:
        choices = [choice_from(self.task, row) for row in asked(self.task)]
        score: ChoiceScorer = (whole_text if self.task.spec.kind == "minimal_pairs" else option_only)(self.estimator)
        return answered(model, choices, score)


def asked(task: Task) -> list[TaskRow]:
    """The rows that are asked."""
    rows = list(task_rows(task, unsplit="test"))
    parts = {part: [row for row in rows if row.part == part] for part in PARTS}
    return parts["test"] or parts["dev"] or rows


def choice_from(task: Task, row: TaskRow) -> Choice:
    """A row as a question, with even white space in what is compared. Raises ValueError naming file and line."""
    if task.spec.kind == "minimal_pairs":
        return Choice(task.name, "all", row.id, "", pair_of(row), "", 0, cluster=row.cluster)
    prompt, choices, right = choice_of(task, row)
    before = " " if prompt and not prompt[-1].isspace() else ""
    options = tuple(before + " ".join(choice.split()) for choice in choices)
    return Choice(task.name, "all", row.id, prompt, options, "", right, cluster=row.cluster)


def _given(task: Task, row: TaskRow) -> tuple[str, ...]:
    if task.spec.kind == "minimal_pairs":
        return row.values["good"], row.values["bad"]
    prompt, choices, _ = choice_of(task, row)
    before = " " if prompt and not prompt[-1].isspace() else ""
    return tuple(before + choice for choice in choices)
