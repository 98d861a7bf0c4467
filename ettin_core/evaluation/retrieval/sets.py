"""The user's evaluation sets as plain data, found by where they lie.

retrieval/<name>/corpus.jsonl.gz  (_id, title, text), queries.jsonl.gz (_id, text), qrels/<split>.tsv      as in BEIR
sts/<name>.jsonl.gz               (split, text1, text2, score from 0 to 5)
cls/<name>.jsonl.gz               (split, text, label)
"""

import gzip
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ettin_core.evaluation.retrieval.files import judgements, need_file, rows_of
from ettin_core.foundation.errors import invalid
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
                return [need_file(self.root / "corpus.jsonl.gz"), need_file(self.root / "queries.jsonl.gz"), table]
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
    found += [LocalSet(_name(path), "STS", path) for path in folder.glob("sts/*.jsonl.gz")]
    found += [LocalSet(_name(path), "Classification", path) for path in folder.glob("cls/*.jsonl.gz") if _single(path)]
    return {item.name: item for item in sorted(found, key=lambda item: item.name)}


def read_retrieval(local: LocalSet, split: str) -> tuple[list[dict[str, str]], list[dict[str, str]], dict[str, Any]]:
    """Corpus, the split's queries and their judgements.

    Raises ValueError for a judgement about a query or a document that has no text.
    """
    corpus_file, queries_file, table = local.files(split)
    fields = {"_id": str, "text": str}
    corpus = [
        {"id": row["_id"], "title": row.get("title", ""), "text": row["text"]} for row in rows_of(corpus_file, fields)
    ]
    texts = {row["_id"]: row["text"] for row in rows_of(queries_file, fields)}
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
    return corpus, [{"id": query, "text": texts[query]} for query in relevant], relevant


def read_rows(local: LocalSet, split: str) -> list[dict[str, Any]]:
    """A split's rows of a set of pairs or of labelled texts. Raises ValueError when there are none."""
    pairs = {"split": str, "text1": str, "text2": str, "score": float}
    fields = pairs if local.kind == "STS" else {"split": str, "text": str, "label": int}
    rows = [row for row in rows_of(local.root, fields) if row["split"] in SPLITS[split]]
    if not rows:
        raise local.lacks(split)
    return rows


def _name(path: Path) -> str:
    return path.name.removesuffix(".jsonl.gz")


def _single(path: Path) -> bool:
    """Whether the first row labels one text; an embedding of pairs is not defined."""
    try:
        with gzip.open(path, "rt", encoding="utf-8") as stream:
            return "text" in json.loads(stream.readline())
    except (OSError, EOFError, json.JSONDecodeError, UnicodeDecodeError):
        return True  # reading it as a task will say what is wrong
