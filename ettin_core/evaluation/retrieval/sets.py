"""The user's evaluation sets as plain data, found by their place in a folder.

retrieval/<name>/corpus.jsonl  (_id, title, text), queries.jsonl (_id, text), qrels/<split>.tsv      as in BEIR
sts/<name>.jsonl               (split, text1, text2, score from 0 to 5)
cls/<name>.jsonl               (split, text, label)
pairs/<name>.jsonl             (split, text1, text2, label: 1 where both mean the same)
clustering/<name>.jsonl        (split, text, label)
reranking/<name>.jsonl         (split, query, positive and negative: lists of texts)

Files may be compressed, a folder in BEIR's form may be at the top, and a task file (docs/tasks.md) may say otherwise. Sets of
one name in two folders are known as <folder>.<name>.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ettin_core.evaluation.lines import (
    FOLDER,
    SUFFIXES,
    check_field,
    find,
    need,
    rows_of,
    stem_of,
)
from ettin_core.evaluation.retrieval.files import judgements
from ettin_core.evaluation.tasks.config import KINDS as TASK_KINDS
from ettin_core.evaluation.tasks.config import TaskFile, read_task_file
from ettin_core.evaluation.tasks.find import Task, user_files
from ettin_core.foundation.errors import UserError, invalid
from ettin_core.foundation.randomness import derive
from ettin_core.foundation.storage import canonical_json, hash_file, hash_text

SPLITS = {"dev": ("dev", "validation"), "test": ("test",), "train": ("train",)}  # and what files call them
KINDS = {  # ours, and MTEB's
    "retrieval": "Retrieval",
    "sts": "STS",
    "classification": "Classification",
    "pair_classification": "PairClassification",
    "clustering": "Clustering",
    "reranking": "Reranking",
}
BY_TASK = ("pair_classification", "clustering", "reranking")  # read as a task file without a word would describe them
SCORES = {
    "Retrieval": "ndcg_at_10",
    "STS": "cosine_spearman",
    "Classification": "accuracy",
    "PairClassification": "max_ap",
    "Clustering": "v_measure",
    "Reranking": "ndcg_at_10",
    "spearman": "cosine_spearman",
    "pearson": "cosine_pearson",
}
HELD_SHARE = 10  # one in this many training queries, where there are no judgements for dev


@dataclass(frozen=True)
class LocalSet:
    """Files of an evaluation set. `kind` is MTEB's word for what is done with it."""

    name: str
    kind: str
    root: Path
    task: Task | None = None

    @property
    def metric(self) -> str:
        """MTEB's name of the score."""
        named = self.task.spec.metric[:1] if self.task is not None else ()
        return SCORES.get(named[0], named[0]) if named else SCORES[self.kind]

    def files(self, split: str) -> list[Path]:
        """The files that a split is read from. Raises ValueError when the set has no such split."""
        if self.kind == "Retrieval":
            return [need(self.root, "corpus.jsonl"), need(self.root, "queries.jsonl"), self.table(split)]
        return [self.root] if self.task is None else list(self.task.files().values())

    def table(self, split: str) -> Path:
        """The judgements of a split; of dev, where there are none, those of train, of which a part is held out."""
        for spelling in self._spellings(split):
            if (table := self.root / "qrels" / f"{spelling}.tsv").is_file():
                return table
        if split == "dev" and any((self.root / "qrels" / f"{name}.tsv").is_file() for name in self._spellings("train")):
            return self.table("train")
        raise self.lacks(split)

    def held_out(self, split: str) -> bool:
        """Whether the split is a held-out part of train."""
        return self.kind == "Retrieval" and split == "dev" and self.table("dev").stem in self._spellings("train")

    def revision(self, split: str) -> str:
        """sha256 over the files' names and bytes, and what a task file says of them."""
        files = {path.name: hash_file(path) for path in self.files(split)}
        described = {} if self.task is None else {"task": repr(self.task.spec)}
        return hash_text(canonical_json(files | described))

    def _spellings(self, split: str) -> tuple[str, ...]:
        return SPLITS[split] if self.task is None else self.task.spec.of(split)

    def lacks(self, split: str) -> ValueError:
        """The error that the set has no such split."""
        return invalid(
            "task", self.name, f"has no {split} split in {self.root}", "choose another set, or add the split"
        )


def local_sets(folder: Path) -> dict[str, LocalSet]:
    """The sets of a folder by name. Raises ValueError if it is not a folder."""
    if not folder.is_dir():
        raise invalid("eval_data", str(folder), "is not a folder", FOLDER)
    from_task_files = [_of_task(name, folder, path) for name, path in user_files(folder).items()]
    sets = [LocalSet(path.name, "Retrieval", path) for path in _beir(folder)]
    sets += [LocalSet(stem_of(path.name), "STS", path) for path in _files(folder / "sts")]
    sets += [LocalSet(stem_of(path.name), "Classification", path) for path in _files(folder / "cls") if _single(path)]
    sets += [
        LocalSet(stem_of(path.name), KINDS[kind], path, Task(stem_of(path.name), TaskFile(kind), folder))
        for kind in BY_TASK
        for path in _files_and_folders(folder / TASK_KINDS[kind].folder)
    ]
    described = {key for item in from_task_files for key in ((item.root, item.kind), (item.root, item.name))}
    sets = [item for item in sets if not described & {(_stem(item), item.kind), (_stem(item), item.name)}]
    sets += [item for item in from_task_files if item.kind in KINDS.values()]
    count = Counter(item.name for item in sets)
    unlike = [item if count[item.name] == 1 else replace(item, name=_full_name(item)) for item in sets]
    return {item.name: item for item in sorted(unlike, key=lambda item: item.name)}


def named(sets: Mapping[str, LocalSet], name: str) -> LocalSet | None:
    """The set of a name (None: there is none). Raises ValueError for a name that several have."""
    shared = [full for full in sets if full.partition(".")[2] == name]
    if name not in sets and shared:
        problem = f"is the name of {len(shared)} sets of unlike kinds"
        raise invalid("task", name, problem, f"say which: {' or '.join(shared)}")
    return sets.get(name)


def read_retrieval(local: LocalSet, split: str) -> tuple[list[dict[str, str]], list[dict[str, str]], dict[str, Any]]:
    """Corpus, the split's queries and their judgements; a document without a title has an empty one.

    Raises ValueError for a judgement about a query or a document that has no text, and for a query without a document that
    answers it, which every model would fail.
    """
    corpus_file, queries_file, table = local.files(split)
    corpus = [
        {"id": row["_id"], "title": row.get("title") or "", "text": row["text"]} for row in _texts(corpus_file, True)
    ]
    texts = {row["_id"]: row["text"] for row in _texts(queries_file, False)}
    relevant = judgements(table)
    if local.held_out(split):
        relevant = _held_out(local.name, relevant)
    documents = {row["id"] for row in corpus}
    for query, judged in relevant.items():
        if query not in texts:
            raise invalid("query-id", query, f"in {table} has no text in {queries_file}", "add it, or leave it out")
        for document in judged:
            if document not in documents:
                raise invalid(
                    "corpus-id", document, f"in {table} has no text in {corpus_file}", "add it, or leave it out"
                )
        if not any(score > 0 for score in judged.values()):
            problem = f"in {table} has no document with a score above 0, so that every model would fail it"
            raise invalid("query-id", query, problem, "take its judgements out, or add one that answers it")
    return corpus, [{"id": query, "text": texts[query]} for query in relevant], relevant


def held_out_queries(local: LocalSet) -> set[str]:
    """The texts of the training queries that dev was made of; none where the set has its own dev."""
    return query_texts(local, "dev") if local.held_out("dev") else set()


def query_texts(local: LocalSet, split: str) -> set[str]:
    """The texts of the queries of a split of a retrieval set."""
    _, queries_file, table = local.files(split)
    relevant = judgements(table)
    if local.held_out(split):
        relevant = _held_out(local.name, relevant)
    return {row["text"] for row in _texts(queries_file, False) if row["_id"] in relevant}


def _held_out(name: str, relevant: dict[str, dict[str, int]]) -> dict[str, dict[str, int]]:
    """A tenth of the queries, by their ids: the same for everybody, and at least one."""
    order = sorted(relevant, key=lambda query: derive(0, "retrieval.dev", name, query))
    held = set(order[: max(1, len(order) // HELD_SHARE)])
    return {query: judged for query, judged in relevant.items() if query in held}


def _of_task(name: str, folder: Path, file: Path) -> LocalSet:
    task = Task(name, read_task_file(file), folder)
    return LocalSet(name, KINDS.get(task.spec.kind, task.spec.kind), folder / task.stem, task)


def _beir(folder: Path) -> list[Path]:
    """Folders below retrieval/, and those in BEIR's form beside it."""
    beside = [path for path in sorted(folder.glob("[!.]*")) if path.is_dir() and find(path, "corpus") is not None]
    return [path for path in sorted(folder.glob("retrieval/[!.]*")) if path.is_dir()] + beside


def _texts(path: Path, documents: bool) -> Iterator[dict[str, Any]]:
    """Rows with an id and a text, which is empty in documents alone."""
    for place, row in rows_of(path, ("_id",)):
        remedy = "give each row _id and text, both strings"
        check_field(row, "_id", str, place, False, remedy)
        check_field(row, "title", str, place, True, remedy)
        if not (documents and row.get("text") == ""):
            check_field(row, "text", str, place, False, remedy)
        yield row


def _files(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.glob("[!.]*")) if path.name.endswith(SUFFIXES)]


def _files_and_folders(folder: Path) -> list[Path]:
    """Sets of one file, and those with a file for each split."""
    return [*_files(folder), *(path for path in sorted(folder.glob("[!.]*")) if path.is_dir())]


def _stem(local: LocalSet) -> Path:
    return local.root.with_name(stem_of(local.root.name))


def _full_name(local: LocalSet) -> str:
    return f"{local.root.parent.name}.{local.name}"


def _single(path: Path) -> bool:
    """Whether the first row labels one text; an embedding of pairs is not defined."""
    try:
        return "text" in next(rows_of(path))[1]
    except (OSError, UserError):
        return True  # reading it as a task will say what is wrong
