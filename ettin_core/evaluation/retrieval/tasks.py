"""Evaluation sets as tasks of MTEB: local ones by the name of their files, MTEB's own tasks and benchmarks by theirs.

Importing this module imports mteb, which takes seconds.
"""

from abc import abstractmethod
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import mteb
from datasets import Dataset, DatasetDict
from mteb.abstasks import (
    AbsTaskClassification,
    AbsTaskClustering,
    AbsTaskPairClassification,
    AbsTaskRetrieval,
    AbsTaskSTS,
)
from mteb.abstasks.task_metadata import TaskMetadata

from ettin_core.evaluation.retrieval.rows import read_rows
from ettin_core.evaluation.retrieval.sets import LocalSet, local_sets, named, query_texts, read_retrieval
from ettin_core.foundation.errors import UserError, invalid


def local_task(name: str, folder: str | Path, split: str = "test") -> Any:
    """The MTEB task of a local set. Raises ValueError for an unknown name, and when the set has no such split."""
    sets = local_sets(Path(folder))
    local = named(sets, name)
    if local is None:
        raise invalid("task", name, f"is not a set of {folder}", f"it has {', '.join(sets) or 'none'}")
    return _of_set(local, split)


def open_tasks(names: Sequence[str], folder: Path | None) -> list[Any]:
    """Local tasks (test split), MTEB's tasks, and the tasks of its benchmarks, in the order of their names.

    Raises ValueError for a name that is none of them.
    """
    sets = local_sets(folder) if folder is not None else {}
    tasks = []
    for name in names:
        local = named(sets, name)
        if local is not None:
            tasks.append(_of_set(local, "test"))
        else:
            tasks += _known_to_mteb(name, list(sets))
    return tasks


def load(task: Any) -> None:
    """Load a task's data. Raises ValueError in one line when it would have to be fetched and cannot be.

    MTEB's own tasks are unloaded again: what was fetched is on the disk, and a benchmark may not fit in memory.
    """
    try:
        task.load_data()
    except UserError:
        raise
    except (OSError, ValueError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        remedy = (
            "turn the network on (HF_HUB_OFFLINE=0 HF_DATASETS_OFFLINE=0), or use local sets with eval_data=<folder>"
        )
        raise invalid("tasks", task.metadata.name, f"cannot be fetched from the hub ({reason})", remedy) from error
    if not is_local(task):
        task.unload_data()


def _known_to_mteb(name: str, local: list[str]) -> list[Any]:
    try:
        return [mteb.get_task(name)]
    except KeyError:
        pass
    try:
        return list(mteb.get_benchmark(name).tasks)
    except KeyError as error:
        known = f"local sets: {', '.join(local) or 'none (give eval_data)'}"
        remedy = f"use a name of mteb.get_tasks(), a benchmark such as 'MTEB(eng, v2)', or one of the {known}"
        raise invalid("tasks", name, "is not a known task", remedy) from error


def _of_set(local: LocalSet, split: str) -> Any:
    """A task of a set's split. MTEB keeps what describes a task on its class, so each task gets its own class."""
    metadata = TaskMetadata(
        name=local.name,
        description=f"{local.name}, {split} split, from a folder of evaluation sets",
        type=local.kind,
        category="t2c" if local.kind in ("Classification", "Clustering") else "t2t",
        modalities=["text"],
        dataset={"path": f"local/{local.name}", "revision": local.revision(split)},
        eval_splits=[split],
        eval_langs=["eng-Latn"],
        main_score=local.metric,
    )
    return type(local.name, (TASKS[local.kind],), {"metadata": metadata, "local": local, "split": split})()


def is_local(task: Any) -> bool:
    """Whether a task's data are files of the user."""
    return isinstance(task, _Local)


class _Local:
    """What local tasks share: the files of one split, read once."""

    local: LocalSet
    split: str
    data_loaded: bool
    dataset: Any

    def load_data(self, num_proc: int | None = None, **options: Any) -> None:
        """Read the files once."""
        if not self.data_loaded:
            self.dataset = self.read()
            self.data_loaded = True

    @abstractmethod
    def read(self) -> Any:
        """The data in the form in which MTEB wants a task of this kind."""

    def queries(self) -> set[str]:
        """The texts that ask for documents, which are not to be trained on; none of most kinds."""
        return set()

    def columns(self, split: str, **names: str) -> Dataset:
        """A split's rows, each field under MTEB's name."""
        rows = read_rows(self.local, split)
        return Dataset.from_dict({theirs: [row[ours] for row in rows] for theirs, ours in names.items()})


class LocalRetrieval(_Local, AbsTaskRetrieval):
    """Find the documents that answer a query."""

    def read(self) -> Any:
        """Subset, split, then corpus, queries and judgements."""
        corpus, queries, relevant = read_retrieval(self.local, self.split)
        parts = {"corpus": Dataset.from_list(corpus), "queries": Dataset.from_list(queries)}
        return {"default": {self.split: parts | {"relevant_docs": relevant, "top_ranked": None}}}

    def queries(self) -> set[str]:
        """The queries of the split."""
        return query_texts(self.local, self.split)


class LocalSTS(_Local, AbsTaskSTS):
    """Order pairs of sentences by how similar they are."""

    min_score, max_score = 0, 5

    def read(self) -> Any:
        """Split, then pairs with scores."""
        return DatasetDict({self.split: self.columns(self.split, sentence1="text1", sentence2="text2", score="score")})


class LocalClassification(_Local, AbsTaskClassification):
    """MTEB's probe: logistic regressions on a few embeddings of each label."""

    def read(self) -> Any:
        """The training split and the measured one."""
        return DatasetDict({split: self.columns(split, text="text", label="label") for split in ("train", self.split)})

    def _calculate_scores(self, y_test: Any, y_pred: Any) -> Any:
        """MTEB's scores of one probe, and Matthews' correlation, which a task file may name."""
        from sklearn.metrics import matthews_corrcoef

        return {**super()._calculate_scores(y_test, y_pred), "mcc": float(matthews_corrcoef(y_test, y_pred))}


class LocalPairClassification(_Local, AbsTaskPairClassification):
    """Tell pairs of the same meaning from others by their similarity."""

    def read(self) -> Any:
        """Split, then pairs with labels."""
        return DatasetDict({self.split: self.columns(self.split, sentence1="text1", sentence2="text2", labels="label")})


class LocalClustering(_Local, AbsTaskClustering):
    """MTEB's k-means, ten times on as many texts as there are, drawn with replacement."""

    max_fraction_of_documents_to_embed = None
    max_documents_per_cluster: int = 16_384  # MTEB's

    def read(self) -> Any:
        """Split, then texts with labels."""
        data = self.columns(self.split, sentences="text", labels="label")
        self.max_documents_per_cluster = min(self.max_documents_per_cluster, len(data))
        return DatasetDict({self.split: data})


class LocalReranking(_Local, AbsTaskRetrieval):
    """Order the candidates of each query."""

    def read(self) -> Any:
        """As of retrieval, with each query's candidates; equal texts are one document."""
        rows = read_rows(self.local, self.split)
        candidates = [row["positive"] + row["negative"] for row in rows]
        names = {text: f"d{number}" for number, text in enumerate(dict.fromkeys(chain.from_iterable(candidates)))}
        relevant = {f"q{number}": {names[text]: 1 for text in row["positive"]} for number, row in enumerate(rows)}
        ranked = {f"q{number}": [names[text] for text in texts] for number, texts in enumerate(candidates)}
        corpus = [{"id": name, "title": "", "text": text} for text, name in names.items()]
        queries = [{"id": f"q{number}", "text": row["query"]} for number, row in enumerate(rows)]
        parts = {"corpus": Dataset.from_list(corpus), "queries": Dataset.from_list(queries)}
        return {"default": {self.split: parts | {"relevant_docs": relevant, "top_ranked": ranked}}}

    def queries(self) -> set[str]:
        """The queries of the split."""
        return {row["query"] for row in read_rows(self.local, self.split)}


TASKS: dict[str, Any] = {
    "Retrieval": LocalRetrieval,
    "STS": LocalSTS,
    "Classification": LocalClassification,
    "PairClassification": LocalPairClassification,
    "Clustering": LocalClustering,
    "Reranking": LocalReranking,
}
