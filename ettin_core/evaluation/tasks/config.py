"""A task file: YAML that says of which kind a set is and where its rows differ from the kind's own form.

kind                 reads                      commands
classification       text, label                finetune, retrieve
pair                 text1, text2, label        finetune
regression           text, score                finetune
sts                  text1, text2, score        finetune, retrieve
tags                 tokens, tags               finetune
multiple_choice      question, choices, answer  evaluate, harness
minimal_pairs        good, bad                  evaluate, harness
retrieval            a folder in BEIR's form    retrieve
reranking            query, positive, negative  retrieve
pair_classification  text1, text2, label        retrieve
clustering           text, label                retrieve
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from string import Formatter
from typing import Any

import yaml

from ettin_core.foundation.errors import UserError, invalid, unknown
from ettin_core.foundation.strict_config import build


@dataclass(frozen=True)
class Kind:
    """A kind of task: the folder of its files, the fields of a row, and the metrics (the first: the default)."""

    folder: str
    fields: tuple[str, ...]
    metrics: tuple[str, ...]
    commands: tuple[str, ...]


LABELS = ("accuracy", "mcc", "f1")
CORRELATIONS = ("spearman", "pearson")
NDCG = tuple(f"ndcg_at_{cut}" for cut in (10, 1, 3, 5, 20, 100))
KINDS = {
    "classification": Kind("cls", ("text", "label"), LABELS, ("finetune", "retrieve")),
    "pair": Kind("cls", ("text1", "text2", "label"), LABELS, ("finetune",)),
    "regression": Kind("sts", ("text", "score"), CORRELATIONS, ("finetune",)),
    "sts": Kind("sts", ("text1", "text2", "score"), CORRELATIONS, ("finetune", "retrieve")),
    "tags": Kind("token", ("tokens", "tags"), ("accuracy", "entity_f1"), ("finetune",)),
    "multiple_choice": Kind("mc", ("question", "choices", "answer"), ("accuracy",), ("evaluate", "harness")),
    "minimal_pairs": Kind("probing", ("good", "bad"), ("accuracy",), ("evaluate", "harness")),
    "retrieval": Kind("retrieval", (), NDCG, ("retrieve",)),
    "reranking": Kind("reranking", ("query", "positive", "negative"), NDCG, ("retrieve",)),
    "pair_classification": Kind("pairs", ("text1", "text2", "label"), ("max_ap", "cosine_ap"), ("retrieve",)),
    "clustering": Kind("clustering", ("text", "label"), ("v_measure", "ami"), ("retrieve",)),
}
PARTS = {
    "train": ("train",),
    "dev": ("dev", "validation", "valid", "val"),
    "test": ("test",),
}  # and what files call them
PROMPT = "Question: {question}\nAnswer:"


@dataclass(frozen=True)
class Hub:
    """A configuration of the GLUE dataset; its test labels are hidden, so the validation split is what is tested."""

    name: str
    texts: tuple[str, ...]
    validation: str = "validation"


@dataclass(frozen=True)
class TaskFile:
    """What a task file may say.

    `file` is a file of rows, a folder with a file for each split, or a folder in BEIR's form (retrieval), below the folder of
    evaluation sets and without its suffix (left out: the kind's folder and the task's name). `fields` says what the file
    calls a field of the kind (`question.stem` is a field within a field; `choices` may be a list of fields). `labels` are in
    the order of their numbers (left out: those that the rows have). `splits` says what the file calls train, dev and
    test. `metric` is one of the kind's, or several, of which the first decides. Rows of one `cluster` (a field) are not
    independent. `prompt` is the text before the choices, with fields of the row in braces. `hub` is a part of GLUE.
    """

    kind: str
    file: str | None = None
    fields: dict[str, Any] = field(default_factory=dict)
    labels: tuple[str, ...] = ()
    splits: dict[str, Any] = field(default_factory=dict)
    metric: tuple[str, ...] = ()
    cluster: str | None = None
    prompt: str | None = None
    hub: Hub | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise unknown("kind", self.kind, "is not a kind of task", KINDS)
        kind = KINDS[self.kind]
        for name in self.fields:
            if name not in (*kind.fields, "id", "split"):
                known = ", ".join((*kind.fields, "id", "split"))
                raise invalid(f"fields.{name}", self.fields[name], f"is not a field of {self.kind}", f"it has {known}")
        for name in self.splits:
            if name not in PARTS:
                raise invalid(f"splits.{name}", self.splits[name], "is not a split", f"name {', '.join(PARTS)}")
        for name in self.metric:
            if name not in kind.metrics:
                raise unknown("metric", name, f"is not a metric of {self.kind}", kind.metrics)
        if "f1" in self.metric and len(self.labels) != 2:
            raise invalid("metric", "f1", "is of two labels", "name both in labels, or use accuracy")
        if len(set(self.labels)) < len(self.labels) or len(self.labels) == 1:
            raise invalid("labels", list(self.labels), "are not several different names", "name each once")
        if self.prompt is not None and self.kind != "multiple_choice":
            raise invalid("prompt", self.prompt, f"is nothing that {self.kind} reads", "leave it out")
        if self.file is not None and (Path(self.file).is_absolute() or ".." in Path(self.file).parts):
            raise invalid("file", self.file, "leaves the folder of evaluation sets", "name a file below it")
        try:
            names = [name for _, name, _, _ in Formatter().parse(self.prompt or "")]
        except ValueError as error:
            raise invalid("prompt", self.prompt, f"cannot be filled in ({error})", "write {field}") from error
        if "" in names:
            raise invalid("prompt", self.prompt, "has braces without a field", "write {field}, or {{ for a brace")

    def of(self, part: str) -> tuple[str, ...]:
        """What rows and files call a part (train, dev, test)."""
        named = self.splits.get(part)
        if named is None:
            return PARTS[part]
        return tuple(map(str, named)) if isinstance(named, (list, tuple)) else (str(named),)


def read_task_file(path: Path) -> TaskFile:
    """The task of a YAML file. Raises ValueError, naming the file, for what is not a task."""
    try:
        values = yaml.load(
            path.read_text(encoding="utf-8-sig"), yaml.BaseLoader
        )  # every value is text: no, 1 and on, too
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise invalid("task file", str(path), f"is not YAML ({reason})", "correct it") from error
    if not isinstance(values, Mapping):
        raise invalid("task file", str(path), "is not a mapping of keys to values", "begin it with kind: <kind>")
    values = {key: value for key, value in values.items() if value not in ("", "null", "~") or key == "prompt"}
    if isinstance(values.get("metric"), str):
        values["metric"] = [values["metric"]]
    try:
        return build(TaskFile, values)
    except UserError as error:
        raise UserError(f"task file {path}: {error}") from error
