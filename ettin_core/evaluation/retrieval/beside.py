"""What is measured beside a retrieval score: the size of the index, queries per second, active dimensions, and BM25."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch

from ettin_core.evaluation.protocol import Result
from ettin_core.evaluation.retrieval.bm25 import BM25, Ranking
from ettin_core.evaluation.retrieval.items import only_split, query_ndcg

SEARCHING = ("Encoding queries", "Computing similarity", "Searching corpus", "Encoding queries and documents")
CUT, TOP = 10, 100
NUMBER = 4  # bytes of a float32 or an int32


@dataclass
class IndexSize:
    """Bytes of the documents' embeddings in float32 (sparse ones with int32 indices), and their numbers that are not zero."""

    documents: int = 0
    bytes: int = 0
    active: int | None = None  # of sparse embeddings alone

    def add(self, embeddings: Any) -> None:
        """Count embeddings: a matrix, a sparse matrix, or a list with a matrix for each document."""
        self.documents += len(embeddings)
        if isinstance(embeddings, torch.Tensor) and embeddings.is_sparse:
            count = int((embeddings.coalesce().values() != 0).sum())
            self.active = (self.active or 0) + count
            self.bytes += 2 * NUMBER * count
        else:
            matrices = embeddings if isinstance(embeddings, list) else [embeddings]
            self.bytes += NUMBER * sum(int(np.prod(matrix.shape)) for matrix in matrices)


@contextmanager
def measured_index(model: Any) -> Iterator[IndexSize]:
    """The size of what a model's `encode_document` returns within the context; nothing for a model without."""
    size = IndexSize()
    encode = getattr(model, "encode_document", None)
    if encode is None:
        yield size
        return

    def counted(*texts: Any, **options: Any) -> Any:
        embeddings = encode(*texts, **options)
        size.add(embeddings)
        return embeddings

    model.encode_document = counted
    try:
        yield size
    finally:
        del model.encode_document


@dataclass(frozen=True)
class SearchCost:
    """What a search over a task's documents costs: bytes of the index, and seconds for all queries."""

    index_bytes: int
    seconds: float


@dataclass(frozen=True)
class StageResult:
    """The ranking of a first stage and what it cost."""

    ranking: Ranking
    cost: SearchCost


def search_cost(result: Any, size: IndexSize) -> SearchCost:
    """The cost by MTEB's own phases; encoding the documents is not part of a search."""
    phases = result.evaluation_phases or []
    return SearchCost(size.bytes, sum(phase["end"] - phase["start"] for phase in phases if phase["name"] in SEARCHING))


def search_results(task: Any, cost: SearchCost, size: IndexSize, stage: StageResult | None) -> list[Result]:
    """Index bytes, queries per second, active dimensions, the first stage's score, and for local sets BM25's.

    The index and the time of a reranker are those of the pipeline.
    """
    from ettin_core.evaluation.retrieval.tasks import is_local

    name, split = task.metadata.name, only_split(task)
    queries, results = len(split["queries"]), []
    if stage is not None:
        cost = SearchCost(stage.cost.index_bytes, stage.cost.seconds + cost.seconds)
        results.append(Result(name, "first_stage_ndcg_at_10", mean_ndcg(task, stage.ranking), queries))
    if cost.index_bytes:  # a reranker of given candidates has none
        results.append(
            Result(name, "index_bytes", float(cost.index_bytes), len(split["corpus"]), higher_is_better=False)
        )
    if cost.seconds > 0:
        results.append(Result(name, "queries_per_second", queries / cost.seconds, queries))
    if size.active is not None:
        mean = size.active / size.documents
        results.append(Result(name, "active_dimensions", mean, size.documents, higher_is_better=False))
    if is_local(task):
        results.append(Result(name, "bm25_ndcg_at_10", mean_ndcg(task, bm25_ranking(task).ranking), queries))
    return results


def is_search(task: Any) -> bool:
    """Whether a task ranks the documents of one subset and split."""
    from mteb.abstasks import AbsTaskRetrieval

    return isinstance(task, AbsTaskRetrieval) and len(task.eval_splits) == 1 and len(task.hf_subsets) == 1


def has_candidates(task: Any) -> bool:
    """Whether a task comes with the documents to be reranked."""
    return str(task.metadata.type).endswith("Reranking")


def mean_ndcg(task: Any, ranking: Ranking) -> float:
    """The mean nDCG at 10 of a ranking of a task's documents; a query without hits has none."""
    relevant = only_split(task)["relevant_docs"]
    values = query_ndcg(relevant, ranking, CUT, task.ignore_identical_ids)
    return sum(values.values()) / len(relevant)


@cache
def bm25_ranking(task: Any) -> StageResult:
    """BM25's ranking of a task's documents (its candidates, where it has them), title before text; computed once."""
    split = only_split(task)
    texts = [f"{row['title']} {row['text']}".strip() for row in split["corpus"]]
    index = BM25(split["corpus"]["id"], texts)
    begun = time.monotonic()
    ranking = index.rank(split["queries"]["id"], split["queries"]["text"], len(texts) if has_candidates(task) else TOP)
    seconds = time.monotonic() - begun
    if has_candidates(task):
        candidates = {query: set(names) for query, names in split["top_ranked"].items()}
        for query, hits in ranking.items():
            ranking[query] = {name: score for name, score in hits.items() if name in candidates[query]}
    return StageResult(ranking, SearchCost(index.index_bytes, seconds))
