"""The user's own tasks in lm-evaluation-harness: a task file as the harness's own form of one, written where it looks."""

import atexit
import functools
import shutil
import tempfile
from pathlib import Path
from typing import Any

from ettin_core.evaluation.harness import TASKS
from ettin_core.evaluation.tasks.find import Task, tasks_for
from ettin_core.foundation.storage import write_text

ROWS = "!function ettin_core.evaluation.harness.data.user_task_rows"


@functools.cache
def user_configs(folder: Path) -> Path | None:
    """A folder, removed with this process, with a configuration for each of the user's tasks; None if there is none.

    Sets that an offline task reads are left to it, unless a task file of the user's names them. Raises ValueError for an
    invalid task file.
    """
    offline = {path.stem for path in TASKS.glob("*.yaml")} | {"blimp"}
    tasks = {name: task for name, task in tasks_for("harness", folder).items() if name not in offline}
    if not tasks:
        return None
    out = Path(tempfile.mkdtemp(prefix="ettin-tasks-"))
    atexit.register(shutil.rmtree, out, ignore_errors=True)
    for name, task in tasks.items():
        write_text(out / f"{name}.yaml", _config(task))
    return out


def _config(task: Task) -> str:
    """The harness's configuration of a task; what it asks is what `evaluate` asks."""
    pairs = task.spec.kind == "minimal_pairs"
    fields: dict[str, Any] = {
        "task": task.name,
        "custom_dataset": ROWS,
        "dataset_kwargs": f"{{task: {task.name}, file: {task.stem}}}",
        "output_type": "multiple_choice",
        "test_split": "test",
        "doc_to_text": '""' if pairs else "prompt",
        "doc_to_target": "answer",
        "doc_to_choice": "choices",
        "target_delimiter": '""',
        "metadata": "{version: 1.0}",
    }
    metrics = ("acc",) if pairs else ("acc", "acc_norm")
    lines = [f"{name}: {value}" for name, value in fields.items()]
    lines += [
        "metric_list:",
        *(f"  - {{metric: {name}, aggregation: mean, higher_is_better: true}}" for name in metrics),
    ]
    return "\n".join(lines) + "\n"
