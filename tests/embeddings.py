"""A small folder of evaluation sets for embeddings: documents about animals at places, and questions about them."""

import gzip
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ettin_core.data.corpus import Corpus
from ettin_core.requests.compose import composed, configurations
from ettin_core.requests.retrieve import RetrieveRequest
from experiments.export import export_run
from tests.runs import tiny_run, train_tiny

ANIMALS = ("cat", "dog", "horse", "bird", "fish")
PLACES = ("in the house", "near the river", "on the hill", "by the sea")


def write_rows(path: Path, rows: Iterable[Any]) -> Path:
    """Gzipped JSON lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(path, "wt") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    return path


def write_sets(folder: Path) -> Path:
    """retrieval/animals (20 documents; 10 queries for dev, 10 for test), a set of each other kind, triplets of two sources."""
    names = [(animal, place) for animal in ANIMALS for place in PLACES]
    corpus = [{"_id": f"d{n}", "title": "", "text": f"the {a} sat {p} all day"} for n, (a, p) in enumerate(names)]
    queries = [{"_id": f"q{n}", "text": f"where is the {a} {p}"} for n, (a, p) in enumerate(names)]
    write_rows(folder / "retrieval/animals/corpus.jsonl.gz", corpus)
    write_rows(folder / "retrieval/animals/queries.jsonl.gz", queries)
    for split, numbers in {"dev": range(0, 20, 2), "test": range(1, 20, 2)}.items():
        table = folder / f"retrieval/animals/qrels/{split}.tsv"
        table.parent.mkdir(exist_ok=True)
        table.write_text("query-id\tcorpus-id\tscore\n" + "".join(f"q{n}\td{n}\t1\n" for n in numbers))
    pairs = [
        {"split": split, "text1": f"a {a} {p}", "text2": f"a {b} {q}", "score": 2.0 * (a == b) + 3.0 * (p == q)}
        for split, step in (("validation", 7), ("test", 11))
        for n, (a, p) in enumerate(names * 2)
        for b, q in [names[(n * n + step) % len(names)]]
    ]
    write_rows(folder / "sts/pairs.jsonl.gz", pairs)
    labelled = [
        {"split": split, "text": f"{word} {a} was {p}", "label": PLACES.index(p)}
        for split, word in (("train", "the"), ("train", "a"), ("test", "one"))
        for a, p in names
    ]
    write_rows(folder / "cls/places.jsonl.gz", labelled)
    write_rows(folder / "cls/entailed.jsonl.gz", [{"split": "test", "text1": "a", "text2": "b", "label": 0}])
    grouped = [{"split": "test", "text": f"one {a} was {p}", "label": a} for a, p in names]
    write_rows(folder / "clustering/kinds.jsonl.gz", grouped)
    alike = [
        {"text1": f"a {a} {p}", "text2": f"{q} a {b}", "label": int(a == b)} for a, p in names for b, q in names[::3]
    ]
    write_rows(folder / "pairs/alike.jsonl.gz", alike)
    asked = [
        {
            "query": f"who is {p}",
            "positive": [f"the {a} sat {p}" for a in ANIMALS[:2]],
            "negative": [f"the {a} sat {q}" for a in ANIMALS for q in PLACES if q != p],
        }
        for p in PLACES
    ]
    write_rows(folder / "reranking/asked.jsonl.gz", asked)
    triplets = [
        {
            "source": source,
            "query": f"{word} is the {a} {p}",
            "positive": f"{a} {p}",
            "negative": f"{a} {PLACES[n % 4]}",
        }
        for source, word in (("first", "where"), ("second", "what"))
        for n, (a, p) in enumerate(names, 1)
    ]
    write_rows(folder / "retrieval/train_triplets.jsonl.gz", triplets)
    return folder


def write_members(root: Path, corpus: Corpus) -> Path:
    """A folder with a trained run of each member, their exports (hf-<member>), and evaluation sets."""
    write_sets(root / "eval")
    for member in ("encoder", "decoder"):
        folder = train_tiny(tiny_run(corpus, member), root / "runs", corpus)
        (root / member).symlink_to(folder.path)
        export_run(folder.path, root / f"hf-{member}", corpus.folder.parent)
    return root


def retrieve_request(place: Path, corpus: Corpus, *overrides: str) -> RetrieveRequest:
    """The request of both members in a folder of `write_members`, texts of 24 tokens, 16 training rows."""
    models = ",".join(str((place / member).resolve()) for member in ("encoder", "decoder"))
    here = [f"models=[{models}]", f"eval_data={place / 'eval'}", f"retrieval_dir={place / 'retrieval'}"]
    here += [f"corpora_dir={corpus.folder.parent}", "poolings=[mean]", "select_by=animals", "max_length=24"]
    here += ["contrastive.max_triplets=16", "contrastive.batches=[8]", "contrastive.mini_batch=4", "device=cpu"]
    with configurations():
        return composed("retrieve", RetrieveRequest, [*here, *overrides])
