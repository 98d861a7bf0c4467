"""The user's evaluation sets as plain data, found by where they lie.

retrieval/<name>/corpus.jsonl.gz  (_id, title, text), queries.jsonl.gz (_id, text), qrels/<split>.tsv      as in BEIR
sts/<name>.jsonl.gz               (split, text1, text2, score from 0 to 5)
cls/<name>.jsonl.gz               (split, text, label)

Files may be plain (.jsonl). Sets of one name in two folders are known as <folder>.<name>.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ettin_core.evaluation.lines import NUMBER, SUFFIXES, Kind, check_field, checked_rows, need, rows_of, stem_of
from ettin_core.evaluation.retrieval.files import judgements
from ettin_core.foundation.errors import UserError, invalid
from ettin_core.foundation.storage import canonical_json, hash_file, hash_text

SPLITS = {"dev": ("dev", "validation"), "test": ("test",), "train": ("train",)}  # and what files call them


@dataclass(frozen=True)
class LocalSet:
    """Files of an evaluation set. `kind` is MTEB's word for what is done with it."""

    name: str
    kind: str
    root: Path

    def files(self, split: str) -> list[Path]:
        """The files that a split is read from. Raises ValueError when the set has no such split."""
        if self.kind != "Retrieval":
            return [self.root]
        for spelling in SPLITS[split]:
            if (table := self.root / "qrels" / f"{spelling}.tsv").is_file():
                return [need(self.root, "corpus.jsonl"), need(self.root, "queries.jsonl"), table]
        raise self.lacks(split)

    def revision(self, split: str) -> str:
        """sha256 over the files' names and bytes."""
        return hash_text(canonical_json({path.name: hash_file(path) for path in self.files(split)}))

    def lacks(self, split: str) -> ValueError:
        """The error that the set has no such split."""
        return invalid(
            "task", self.name, f"has no {split} split in {self.root}", "choose another set, or add the split"
        )


def local_sets(folder: Path) -> dict[str, LocalSet]:
    """The sets of a folder by name. Raises ValueError when it is no folder."""
    if not folder.is_dir():
        raise invalid("eval_data", str(folder), "is not a folder", "give the folder of evaluation sets")
    found = [LocalSet(path.name, "Retrieval", path) for path in folder.glob("retrieval/*") if path.is_dir()]
    found += [LocalSet(stem_of(path.name), "STS", path) for path in _files(folder / "sts")]
    found += [LocalSet(stem_of(path.name), "Classification", path) for path in _files(folder / "cls") if _single(path)]
    count = Counter(item.name for item in found)
    unlike = [item if count[item.name] == 1 else replace(item, name=_full_name(item)) for item in found]
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


def read_rows(local: LocalSet, split: str) -> list[dict[str, Any]]:
    """A split's rows of a set of pairs or of labelled texts. Raises ValueError when there are none."""
    pairs: dict[str, Kind] = {"split": str, "text1": str, "text2": str, "score": NUMBER}
    fields = pairs if local.kind == "STS" else {"split": str, "text": str, "label": int}
    rows = [row for _, row in checked_rows(local.root, fields) if row["split"] in SPLITS[split]]
    if not rows:
        raise local.lacks(split)
    return rows


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


def _full_name(local: LocalSet) -> str:
    return f"{local.root.parent.name}.{local.name}"


def _single(path: Path) -> bool:
    """Whether the first row labels one text; an embedding of pairs is not defined."""
    try:
        return "text" in next(rows_of(path))[1]
    except (OSError, UserError):
        return True  # reading it as a task will say what is wrong
