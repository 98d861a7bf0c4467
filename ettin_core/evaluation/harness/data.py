"""Rows of the offline tasks: JSON lines in a folder that the user names (`--metadata eval_data=<folder>`)."""

import functools
from pathlib import Path
from typing import Any

import datasets

from ettin_core.evaluation.lines import FOLDER, need, rows_of
from ettin_core.evaluation.tasks.find import find_task
from ettin_core.foundation.errors import invalid


def rows(
    file: str, eval_data: str | None = None, where: dict[str, str] | None = None, **_: Any
) -> dict[str, datasets.Dataset]:
    """A set's rows by split (`test` for a set without), those only that have the values `where`.

    The harness hands over a task's own `dataset_kwargs` and all metadata. Raises ValueError for an absent or damaged file.
    """
    splits: dict[str, list[dict[str, Any]]] = {}
    for row in _read(set_file(eval_data, file)):
        if all(row[name] == value for name, value in (where or {}).items()):
            splits.setdefault(row.get("split", "test"), []).append(row)
    return {split: datasets.Dataset.from_list(split_rows) for split, split_rows in splits.items()}


def user_task_rows(task: str, eval_data: str | None = None, **_: Any) -> dict[str, datasets.Dataset]:
    """The questions of a user's task, as `evaluate` asks them, under the harness's names.

    Raises ValueError, naming file and line, for a row that cannot be asked.
    """
    from ettin_core.evaluation.user_tasks import asked, choice_from

    user_task = find_task(task, None if eval_data is None else Path(eval_data), "harness")
    rows = []
    for row in asked(user_task):
        choice = choice_from(user_task, row)
        rows.append({"id": row.id, "prompt": choice.prefix, "choices": list(choice.options), "answer": choice.answer})
    return {"test": datasets.Dataset.from_list(rows)}


def set_file(eval_data: str | None, file: str) -> Path:
    """The path of a set. Raises ValueError if it is not there."""
    if eval_data is None or not Path(eval_data).is_dir():
        raise invalid("eval_data", eval_data, "is not a folder", f"use --metadata eval_data=<folder>: {FOLDER}")
    return need(Path(eval_data), file)


@functools.lru_cache(maxsize=2)  # the 67 tasks of BLiMP read one file
def _read(path: Path) -> list[dict[str, Any]]:
    return [row for _, row in rows_of(path)]


def hellaswag(dataset: datasets.Dataset) -> datasets.Dataset:
    """The harness's own clean-up; the set's context holds no activity label."""
    from lm_eval.tasks.hellaswag.utils import preprocess

    def clean(row: dict[str, Any]) -> dict[str, Any]:
        return {
            "context": preprocess(row["context"]).lstrip(),
            "choices": [preprocess(choice) for choice in row["choices"]],
        }

    return dataset.map(clean)


def copa(dataset: datasets.Dataset) -> datasets.Dataset:
    """Fields as SuperGLUE names them, which the harness's prompt reads."""

    def rename(row: dict[str, Any]) -> dict[str, Any]:
        first, second = row["choices"]
        return {"question": row["asks_for"], "choice1": first, "choice2": second, "label": row["answer"]}

    return dataset.map(rename)
