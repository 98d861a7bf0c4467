"""lm-evaluation-harness: our model class, registered with upstream as `ettin`, and offline tasks over a folder of sets.

    from lm_eval import simple_evaluate
    from ettin_core.evaluation import harness

    harness.register()
    manager = harness.task_manager(eval_data="my_sets")
    simple_evaluate(model="ettin", model_args={"pretrained": "my_encoder"}, tasks=["offline_piqa"], task_manager=manager)

The harness is imported only where it is used.
"""

import importlib.util
from pathlib import Path
from typing import Any

from ettin_core.foundation.errors import invalid, with_extra

TASKS = Path(__file__).parent / "tasks"
NAME = "ettin"


def register() -> None:
    """Make `ettin` a model of the harness. Raises ValueError where the harness is not installed."""
    if importlib.util.find_spec("lm_eval") is None:
        raise invalid("model", NAME, "needs lm-evaluation-harness", with_extra("evaluation"))
    import ettin_core.evaluation.harness.model  # noqa: F401  (which registers itself)


def task_manager(eval_data: str | None, builtin: bool = False) -> Any:
    """The harness's TaskManager for the offline tasks, over the folder `eval_data`, and those it is built with (slow)."""
    from lm_eval.tasks import TaskManager

    return TaskManager(
        include_path=include_paths(eval_data), include_defaults=builtin, metadata={"eval_data": eval_data}
    )


def include_paths(eval_data: str | None) -> list[str | Path]:
    """Where the harness finds the offline tasks and the folder's tasks. Raises ValueError for an invalid task file."""
    from ettin_core.evaluation.harness.user_configs import user_configs

    configs = None if eval_data is None else user_configs(Path(eval_data))
    return [str(TASKS)] if configs is None else [str(TASKS), str(configs)]


def explained(error: Exception) -> Exception:
    """A user's mistake as one line; any other error as it is."""
    if isinstance(error, ConnectionError) or "OfflineModeIsEnabled" in str(error):
        remedy = "turn the network on, or use offline_<task> with --metadata eval_data=<folder of sets>"
        return invalid("tasks", str(error).splitlines()[0], "needs a data set from the hub", remedy)
    if isinstance(error, TypeError) and "Config.__init__() got an unexpected keyword argument" in str(error):
        field = str(error).rsplit(" ", 1)[-1].strip("'")
        return invalid(
            "task file", field, "is not a field of a task", "correct the file; lm-eval's task guide lists them"
        )
    if isinstance(error, ValueError) and str(error).startswith("Tasks not found"):
        return invalid(
            "tasks", str(error).split(": ", 1)[-1], "are not known", "see `python -m experiments.harness ls tasks`"
        )
    return error
