"""Tasks of fine-tuning: a task file as a head and its metrics."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ettin_core.evaluation.tasks import find
from ettin_core.evaluation.tasks.config import KINDS, Hub, TaskFile
from ettin_core.evaluation.tasks.rows import labels_of
from ettin_core.foundation.errors import invalid

GLUE = "nyu-mll/glue"
STARTS = ("mnli",)  # tasks from whose best trial another may start
STARTED = ("rte", "mrpc", "stsb")  # tasks that the published protocol starts from there
HEADS = {
    "classification": "classification",
    "pair": "classification",
    "regression": "regression",
    "sts": "regression",
    "tags": "tagging",
}


@dataclass(frozen=True)
class FinetuningTask:
    """A task. `metrics` begins with the one trials are chosen by; `labels` are in the order of their numbers.

    Rows give labels by name or by number. A regression has no labels.
    """

    name: str
    kind: str
    metrics: tuple[str, ...]
    labels: tuple[str, ...]
    spec: TaskFile

    @property
    def hub(self) -> Hub | None:
        """The part of GLUE that it is, if it is one."""
        return self.spec.hub

    @property
    def metric(self) -> str:
        """What trials are chosen by."""
        return self.metrics[0]

    @property
    def outputs(self) -> int:
        """Numbers the head gives for each prediction."""
        return len(self.labels) or 1


def _of(source: find.Task) -> FinetuningTask:
    spec = source.spec
    metrics = spec.metric or KINDS[spec.kind].metrics[:1]
    return FinetuningTask(source.name, HEADS[spec.kind], metrics, labels_of(source), spec)


TASKS: Mapping[str, FinetuningTask] = {name: _of(find.Task(name, spec, None)) for name, spec in find.builtin().items()}


def task_of(name: str, eval_data: str | None = None) -> FinetuningTask:
    """A task by name: of the folder `eval_data`, or built in. Raises ValueError for an unknown one, or of another kind."""
    folder = None if eval_data is None else Path(eval_data)
    source = find.find_task(name, folder, "finetune")
    task = _of(source)
    if task.kind != "regression" and len(task.labels) < 2:
        raise invalid("labels", list(task.labels), f"of task {name} are fewer than two", "give rows of several labels")
    return task


def all_tasks(eval_data: str | None) -> list[FinetuningTask]:
    """Every task of GLUE (without a folder), or of a folder."""
    if eval_data is None:
        return [task for task in TASKS.values() if task.hub is not None]
    folder = Path(eval_data)
    known = {**{name: find.Task(name, spec, folder) for name, spec in find.builtin().items()}}
    there = [source for source in known.values() if source.exists()]
    return [_of(source) for source in (*there, *find.tasks_for("finetune", folder).values())]
