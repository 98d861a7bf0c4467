"""Reading a task's rows, strictly: from a folder of evaluation sets, or GLUE by name where there is a network.

Rows are in three splits, whatever the source has. Trials are chosen on `dev` and reported on `test`. A task without public test
labels is tested on its validation rows. If none are left for `dev`, a tenth of the training rows, chosen by their ids, becomes
it. So no row is used both for choosing and for reporting.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ettin_core.evaluation.finetuning.tasks import GLUE, FinetuningTask
from ettin_core.evaluation.lines import FOLDER
from ettin_core.evaluation.tasks import find
from ettin_core.evaluation.tasks.rows import TaskRow, label_number, task_rows
from ettin_core.foundation.errors import invalid, unknown, with_extra
from ettin_core.foundation.randomness import derive, permute
from ettin_core.foundation.storage import canonical_json, hash_file, hash_text

DEV_SHARE = 10  # one of ten training rows becomes dev, where there is no labelled test split


@dataclass(frozen=True)
class Example:
    """A row. `texts` are one or two texts, or the words of a sentence; `gold` a class, a score, or the tag of each word.

    Rows of one `cluster` are not independent (None: every row is its own).
    """

    id: str
    texts: tuple[str, ...]
    gold: Any
    cluster: str | None = None

    @property
    def characters(self) -> int:
        """Length of the texts: a length that does not depend on a member's tokenizer."""
        return sum(map(len, self.texts))


@dataclass(frozen=True)
class TaskData:
    """The rows of a task by split, and their origin: source, hash and number of rows."""

    task: FinetuningTask
    train: list[Example]
    dev: list[Example]
    test: list[Example]
    origin: dict[str, Any]


def read(task: FinetuningTask, eval_data: str | None, train_rows: int | None = None) -> TaskData:
    """Rows of a task from the folder `eval_data` (None: GLUE through `datasets`); of the training rows the same
    `train_rows` for every model (None: all).

    Raises ValueError, naming file and line, for a row that lacks a field, has an unknown field, or an invalid label.
    """
    splits: dict[str, list[Example]] = {"train": [], "dev": [], "test": []}
    if eval_data is None:
        origin, rows = _from_hub(task)
    else:
        origin, rows = _from_folder(task, eval_data)
    for split, example in rows:
        splits[split].append(example)
    if not splits["test"]:
        splits["test"], splits["dev"] = splits["dev"], []
    if not splits["dev"]:
        held = {item.id for item in splits["train"] if derive(0, "finetune.dev", task.name, item.id) % DEV_SHARE == 0}
        splits["dev"] = [item for item in splits["train"] if item.id in held]
        splits["train"] = [item for item in splits["train"] if item.id not in held]
        origin["dev"] = f"1 of {DEV_SHARE} training rows"
    for split, examples in splits.items():
        if not examples:
            raise invalid(f"{split} rows of task {task.name}", 0, "are none", "give a file with rows of every split")
    if train_rows is not None and train_rows < len(splits["train"]):
        order = permute(np.arange(train_rows), len(splits["train"]), derive(0, "finetune.rows", task.name))
        splits["train"] = [splits["train"][place] for place in order.tolist()]
    counts = {f"{split}_rows": len(examples) for split, examples in splits.items()}
    return TaskData(task, splits["train"], splits["dev"], splits["test"], origin | counts)


def check_available(task: FinetuningTask, eval_data: str | None) -> None:
    """Raises ValueError, before any work, if the source does not have the task."""
    if eval_data is not None:
        _source(task, eval_data).files()
        return
    if task.hub is None:
        raise invalid("task", task.name, "is not in GLUE, and eval_data is null", FOLDER)
    try:
        import datasets  # noqa: F401
    except ImportError as error:
        raise invalid(
            "eval_data", None, "needs the datasets library", f"{with_extra('evaluation')}, or give a folder"
        ) from error


Rows = Iterator[tuple[str, Example]]


def _source(task: FinetuningTask, eval_data: str) -> find.Task:
    return find.Task(task.name, task.spec, Path(eval_data))


def _from_folder(task: FinetuningTask, eval_data: str) -> tuple[dict[str, Any], Rows]:
    source = _source(task, eval_data)
    files = {str(path.relative_to(eval_data)): path for path in source.files().values()}
    hashes = {name: hash_file(path) for name, path in files.items()}
    whole = next(iter(hashes.values())) if len(hashes) == 1 else hash_text(canonical_json(hashes))
    rows = ((row.part, _example_of(task, row)) for row in task_rows(source))
    return {"source": ", ".join(files), "sha256": whole}, rows


def _example_of(task: FinetuningTask, row: TaskRow) -> Example:
    *texts, gold = row.values.values()
    return _example(task, row.id, texts[0] if task.kind == "tagging" else texts, gold, row.place, row.cluster)


def _example(
    task: FinetuningTask, name: str, texts: list[Any], gold: Any, place: str, cluster: str | None = None
) -> Example:
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        raise invalid("row", place, "has a field without text", "give every text as a string")
    if task.kind == "regression":
        number = isinstance(gold, (int, float)) and not isinstance(gold, bool) and np.isfinite(gold)
        if not number:
            raise invalid("row", place, f"has the score {gold!r}", "give a number")
        return Example(name, tuple(texts), float(gold), cluster)
    if task.kind == "classification":
        number = label_number(task.labels, gold)
        if number is None:
            remedy = f"give a number from 0 ({task.labels[0]}) to {len(task.labels) - 1} ({task.labels[-1]}), or a name"
            raise invalid("row", place, f"has the label {gold!r}", remedy)
        return Example(name, tuple(texts), number, cluster)
    if not isinstance(gold, list) or len(gold) != len(texts):
        raise invalid("row", place, "has no tag for each of its words", "give as many tags as words")
    numbers = [label_number(task.labels, tag) for tag in gold]
    if None in numbers:
        problem = f"has the tag {gold[numbers.index(None)]!r}"
        raise unknown("row", place, problem, task.labels)
    return Example(name, tuple(texts), numbers, cluster)


def _from_hub(task: FinetuningTask) -> tuple[dict[str, Any], Rows]:
    check_available(task, None)
    assert task.hub is not None
    import datasets

    hub = task.hub
    try:
        dataset = datasets.load_dataset(GLUE, hub.name)
    except Exception as error:  # any error of the network, the hub or its cache
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise invalid(
            "task",
            task.name,
            f"cannot be fetched ({reason})",
            "go online, or give eval_data=<folder of evaluation sets>",
        ) from error
    rows = []
    for hub_split, split in (("train", "train"), (hub.validation, "dev")):
        for row in dataset[hub_split]:
            name = f"{hub_split}.{row['idx']}"
            texts = [row[text] for text in hub.texts]
            rows.append((split, _example(task, name, texts, row["label"], f"{GLUE}/{hub.name}:{name}")))
    content = hash_text(canonical_json([[split, item.id, item.texts, item.gold] for split, item in rows]))
    return {"source": f"{GLUE}/{hub.name}", "sha256": content}, iter(rows)
