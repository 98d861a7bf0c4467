"""The first stage of a reranking pipeline: a task's documents ranked by a dense model that was trained here, or by BM25."""

import tempfile
from pathlib import Path
from typing import Any

from ettin_core.evaluation.retrieval.beside import (
    StageResult,
    bm25_ranking,
    has_candidates,
    measured_index,
    search_cost,
)
from ettin_core.evaluation.retrieval.evaluator import evaluate, read_predictions
from ettin_core.evaluation.retrieval.items import only_split
from ettin_core.evaluation.retrieval.retriever import Retriever


class FirstStage:
    """Ranks a task's documents once, however many rerankers follow."""

    def __init__(self, retriever: Retriever | None, candidates: int) -> None:
        self._retriever = retriever
        self._candidates = candidates
        self._results: dict[Any, StageResult] = {}

    @property
    def settings(self) -> dict[str, Any]:
        """What decides the candidates."""
        by = "bm25" if self._retriever is None else self._retriever.content
        return {"first_stage": by, "candidates": self._candidates}

    def task_settings(self, task: Any) -> dict[str, Any]:
        """What decides the candidates of a task: a reranking task has its own."""
        return {"first_stage": "task"} if has_candidates(task) else self.settings

    def prepare(self, task: Any, batch: int, device: str) -> StageResult | None:
        """Give a task its candidates and return their ranking; None for a task that has its own."""
        if has_candidates(task):
            return None
        split = only_split(task)
        if task not in self._results:
            split["top_ranked"] = None
            self._results[task] = self._ranked(task, batch, device)
        result = self._results[task]
        split["top_ranked"] = {
            query: sorted(hits, key=hits.__getitem__, reverse=True)[: self._candidates]
            for query, hits in result.ranking.items()
        }
        return result

    def _ranked(self, task: Any, batch: int, device: str) -> StageResult:
        if self._retriever is None:
            return bm25_ranking(task)
        model = self._retriever.model(device)
        with tempfile.TemporaryDirectory() as scratch, measured_index(model) as size:
            result = evaluate(model, task, batch, Path(scratch))
            [splits] = read_predictions(Path(scratch)).values()
            [ranking] = splits.values()
        return StageResult(ranking, search_cost(result, size))
