"""Rerankers (Nogueira and Cho 2019): a score for query and document read together, after a first stage."""

import tempfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from ettin_core.evaluation.retrieval.backbone import check_filled, quiet, seeded, set_text_ends
from ettin_core.evaluation.retrieval.beside import StageResult, has_candidates, is_search
from ettin_core.evaluation.retrieval.checkpoints import CheckpointToEmbed
from ettin_core.evaluation.retrieval.config import ContrastiveConfig
from ettin_core.evaluation.retrieval.first_stage import FirstStage
from ettin_core.evaluation.retrieval.kinds.base import SEARCH, LibraryClasses, RetrievalKind, Triplets
from ettin_core.evaluation.retrieval.retriever import REMEDY, Retriever
from ettin_core.foundation.errors import invalid
from ettin_core.interop.weights import read_weights

LANGUAGE_HEAD, CLASSIFIER_HEAD = "lm_head.", "head."


@dataclass(frozen=True)
class RerankerOptions:
    """`reranker` of conf/retrieve.yaml: hard `negatives` mined for each query, and `candidates` of the first stage."""

    negatives: int
    candidates: int

    def __post_init__(self) -> None:
        for name, least in (("negatives", 1), ("candidates", 2)):
            if getattr(self, name) < least:
                raise invalid(f"reranker.{name}", getattr(self, name), "is too small", f"use {least} or more")


@dataclass(frozen=True)
class Reranker(RetrievalKind):
    """A sequence classifier of one label over the candidates of `retriever`, or of BM25 without one."""

    name: ClassVar[str] = "reranker"
    batch_sampler: ClassVar[str] = (
        "batch_sampler"  # a query comes once with its positive and with each of its negatives
    )
    measures: ClassVar[tuple[str, ...] | None] = SEARCH
    options: RerankerOptions
    retriever: Retriever | None

    @property
    def way(self) -> str:
        """The loss."""
        return "bce"

    @property
    def settings(self) -> dict[str, Any]:
        """The mined negatives and the first stage."""
        return {"negatives": self.options.negatives} | self._stage.settings

    @cached_property
    def _stage(self) -> FirstStage:
        return FirstStage(self.retriever, self.options.candidates)

    def check_task(self, task: Any) -> None:
        """A first stage ranks the documents of one subset and split."""
        super().check_task(task)
        if not has_candidates(task) and not is_search(task):
            problem = (
                f"has {len(task.hf_subsets)} subsets and {len(task.eval_splits)} splits, and a first stage ranks one"
            )
            raise invalid("tasks", task.metadata.name, problem, "name tasks with one subset and one split")

    def prepare(self, task: Any, batch: int, device: str) -> StageResult | None:
        """Give the task the candidates of the first stage, unless it has its own."""
        return self._stage.prepare(task, batch, device)

    def task_settings(self, task: Any) -> dict[str, Any]:
        """The first stage, which decides what is reranked."""
        return self._stage.task_settings(task)

    def classes(self) -> LibraryClasses:
        """CrossEncoder and its trainer."""
        import sentence_transformers as library

        return LibraryClasses(
            library.CrossEncoder,
            library.CrossEncoderTrainer,
            library.CrossEncoderTrainingArguments,
            "from_cross_encoder",
        )

    def build(self, checkpoint: CheckpointToEmbed, max_length: int | None, seed: int, device: str) -> Any:
        """The sequence-classification class: from a decoder's language-model class nothing would be trained.

        The head before the classifier is the checkpoint's for every member; transformers keeps an encoder's alone.
        """
        import torch
        from sentence_transformers import CrossEncoder
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        with quiet(), seeded(seed), tempfile.TemporaryDirectory() as scratch:
            classifier = AutoModelForSequenceClassification.from_pretrained(
                checkpoint.folder, num_labels=1, dtype=torch.float32
            )
            check_filled(checkpoint, classifier.base_model)
            _keep_head(classifier, checkpoint.folder)
            classifier.save_pretrained(scratch)
            AutoTokenizer.from_pretrained(checkpoint.folder).save_pretrained(scratch)
            model = CrossEncoder(scratch, device=device, num_labels=1)
        set_text_ends(model, checkpoint, max_length)
        return model

    def columns(self, triplets: Triplets, device: str) -> dict[str, list[Any]]:
        """Query, document and label: each positive, and the highest-ranked texts that are not the query's positive."""
        assert self.retriever is not None, "a reranker is trained with a retriever"
        from datasets import Dataset
        from sentence_transformers.util import mine_hard_negatives

        pairs = Dataset.from_dict({name: [row[name] for row in triplets] for name in ("query", "positive")})
        corpus = list(dict.fromkeys(row[name] for row in triplets for name in ("positive", "negative")))
        with quiet():
            mined = mine_hard_negatives(
                pairs,
                self.retriever.model(device),
                corpus=corpus,
                num_negatives=self.options.negatives,
                output_format="labeled-pair",
                verbose=False,
            )
        query, document, label = mined.column_names
        return {
            "query": list(mined[query]),
            "document": list(mined[document]),
            "label": [float(value) for value in mined[label]],
        }

    def loss(self, model: Any, config: ContrastiveConfig, mini_batch: int) -> Any:
        """Binary cross-entropy of the score."""
        from sentence_transformers.cross_encoder import losses

        return losses.BinaryCrossEntropyLoss(model)


def reranker(options: RerankerOptions, retriever: Retriever | None, train: bool) -> Reranker:
    """The kind. Raises ValueError where negatives are to be mined without a model."""
    if train and retriever is None:
        raise invalid("retriever", None, "is needed to mine hard negatives for kind=reranker", REMEDY)
    return Reranker(options, retriever)


def _keep_head(classifier: Any, folder: Path) -> None:
    """Copy a decoder's language-model head, which transformers leaves out, to the classifier's of the same shape."""
    state = classifier.state_dict()
    for name, tensor in read_weights(folder).items():
        target = name.replace(LANGUAGE_HEAD, CLASSIFIER_HEAD, 1)
        if name.startswith(LANGUAGE_HEAD) and target in state and state[target].shape == tensor.shape:
            state[target].copy_(tensor)
