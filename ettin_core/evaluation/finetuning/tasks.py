"""The table of tasks: where rows come from, what they hold, what is predicted and how it is scored."""

import difflib
from dataclasses import dataclass

from ettin_core.foundation.errors import invalid

KINDS = ("classification", "regression", "tagging")


@dataclass(frozen=True)
class Local:
    """A file of JSON lines in the folder of evaluation sets, and the fields that are read."""

    file: str
    texts: tuple[str, ...] = ("text",)
    label: str = "label"


@dataclass(frozen=True)
class Hub:
    """A configuration of the GLUE dataset; its test labels are hidden, so the validation split is what is tested."""

    name: str
    texts: tuple[str, ...]
    validation: str = "validation"


@dataclass(frozen=True)
class Task:
    """A task. `metrics` begins with the one trials are chosen by; `labels` are in the order of their numbers.

    Rows name labels of tags by name and classes by number. A regression has no labels.
    """

    name: str
    kind: str
    metrics: tuple[str, ...]
    labels: tuple[str, ...]
    local: Local | None = None
    hub: Hub | None = None

    @property
    def metric(self) -> str:
        """What trials are chosen by."""
        return self.metrics[0]

    @property
    def outputs(self) -> int:
        """Numbers the head gives for each prediction."""
        return len(self.labels) or 1


BINARY = ("negative", "positive")
NLI = ("entailment", "neutral", "contradiction")
RTE = ("entailment", "not_entailment")
SAME = ("different", "equivalent")
PAIR = ("text1", "text2")
SENTENCES = ("sentence1", "sentence2")
UPOS = "ADJ ADP ADV AUX CCONJ DET INTJ NOUN NUM PART PRON PROPN PUNCT SCONJ SYM VERB X"
WNUT = "corporation creative-work group location person product"
GLUE = "nyu-mll/glue"


def _classes(name: str, labels: tuple[str, ...], local: Local | None, hub: Hub | None, *metrics: str) -> Task:
    return Task(name, "classification", metrics or ("accuracy",), labels, local, hub)


def _polarity(name: str) -> Task:
    return _classes(name, BINARY, Local(f"cls/{name}.jsonl.gz"), None)


def _entities(types: str) -> tuple[str, ...]:
    return ("O", *(f"{mark}-{kind}" for kind in types.split() for mark in "BI"))


def _tags(name: str, metric: str, labels: tuple[str, ...], label: str = "tags") -> Task:
    return Task(name, "tagging", (metric,), labels, Local(f"token/{name}.jsonl.gz", ("tokens",), label))


_TABLE = (
    _classes(
        "cola",
        ("unacceptable", "acceptable"),
        Local("cls/cola.jsonl.gz"),
        Hub("cola", ("sentence",)),
        "mcc",
        "accuracy",
    ),
    _classes("sst2", BINARY, Local("cls/sst2.jsonl.gz"), Hub("sst2", ("sentence",))),
    _classes("mrpc", SAME, None, Hub("mrpc", SENTENCES), "accuracy", "f1"),
    _classes("qqp", SAME, None, Hub("qqp", ("question1", "question2")), "accuracy", "f1"),
    _classes(
        "mnli", NLI, Local("cls/mnli.jsonl.gz", PAIR), Hub("mnli", ("premise", "hypothesis"), "validation_matched")
    ),
    _classes("qnli", RTE, Local("cls/qnli.jsonl.gz", PAIR), Hub("qnli", ("question", "sentence"))),
    _classes("rte", RTE, Local("cls/rte.jsonl.gz", PAIR), Hub("rte", SENTENCES)),
    _classes("wnli", ("not_entailment", "entailment"), None, Hub("wnli", SENTENCES)),
    Task(
        "stsb",
        "regression",
        ("spearman", "pearson"),
        (),
        Local("sts/stsb.jsonl.gz", PAIR, "score"),
        Hub("stsb", SENTENCES),
    ),
    _classes("snli", NLI, Local("cls/snli.jsonl.gz", PAIR), None),
    _polarity("mr"),
    _polarity("cr"),
    _polarity("mpqa"),
    _classes("trec", ("ABBR", "DESC", "ENTY", "HUM", "LOC", "NUM"), Local("cls/trec.jsonl.gz"), None),
    _tags("ewt_upos", "accuracy", tuple(UPOS.split()), "upos"),
    _tags("wikigold_ner", "entity_f1", _entities("LOC MISC ORG PER")),
    _tags("wnut17_ner", "entity_f1", _entities(WNUT)),
)
TASKS = {task.name: task for task in _TABLE}
STARTS = ("mnli",)  # tasks whose best trial may be where another begins
STARTED = ("rte", "mrpc", "stsb")  # and those for which the published protocol does so


def task_of(name: str) -> Task:
    """A task by name. Raises ValueError for an unknown one."""
    if name not in TASKS:
        near = difflib.get_close_matches(name, TASKS, n=1)
        hint = f"did you mean {near[0]}? Known tasks" if near else "known tasks"
        raise invalid("task", name, "is not a task", f"{hint}: {', '.join(TASKS)}")
    return TASKS[name]
