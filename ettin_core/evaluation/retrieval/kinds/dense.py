"""Dense embeddings: Transformer, Pooling, Normalize; cosine similarity."""

from dataclasses import dataclass
from typing import Any, ClassVar

from ettin_core.evaluation.protocol import Result
from ettin_core.evaluation.retrieval.backbone import open_backbone
from ettin_core.evaluation.retrieval.checkpoints import CheckpointToEmbed
from ettin_core.evaluation.retrieval.config import ContrastiveConfig
from ettin_core.evaluation.retrieval.evaluator import evaluate
from ettin_core.evaluation.retrieval.kinds.base import LibraryClasses, RetrievalKind
from ettin_core.foundation.errors import invalid

POOLINGS = ("mean", "lasttoken", "weightedmean")


@dataclass(frozen=True)
class Dense(RetrievalKind):
    """One vector a text by a pooling of the last states.

    The loss is CachedMultipleNegativesRankingLoss (Gao et al. 2021): cosine times `scale`, a query's positive against the
    positives and hard negatives of all queries of the batch. With `widths`, the first so many numbers of a vector are trained
    and measured as a vector too (Kusupati et al. 2022).
    """

    name: ClassVar[str] = "dense"
    pooling: str
    widths: tuple[int, ...] = ()

    @property
    def way(self) -> str:
        """The pooling."""
        return self.pooling

    @property
    def label(self) -> str:
        """The pooling: folders of trials had it before there were other kinds."""
        return self.pooling

    @property
    def settings(self) -> dict[str, Any]:
        """The Matryoshka widths, where there are any."""
        return {"matryoshka": list(self.widths)} if self.widths else {}

    @property
    def identity(self) -> dict[str, Any]:
        """The pooling and the options."""
        return {"pooling": self.pooling} | self.settings

    def protocol(self, trained: bool) -> str:
        """`mteb.contrastive.<pooling>`, or untrained."""
        return f"mteb.{'contrastive' if trained else 'untrained'}.{self.pooling}"

    def recipe(self, config: ContrastiveConfig) -> dict[str, Any]:
        """All of the recipe."""
        return config.recipe

    def check(self, checkpoint: CheckpointToEmbed) -> None:
        """Raises ValueError for a width that the checkpoint's states do not have."""
        for width in self.widths:
            if checkpoint.width is not None and not 0 < width < checkpoint.width:
                problem = f"is not below the {checkpoint.width} dimensions of {checkpoint.run}"
                raise invalid("matryoshka", width, problem, f"use widths from 1 to {checkpoint.width - 1}")

    def classes(self) -> LibraryClasses:
        """SentenceTransformer and its trainer."""
        import sentence_transformers as library

        return LibraryClasses(
            library.SentenceTransformer,
            library.SentenceTransformerTrainer,
            library.SentenceTransformerTrainingArguments,
            "from_sentence_transformer_model",
        )

    def build(self, checkpoint: CheckpointToEmbed, max_length: int | None, seed: int, device: str) -> Any:
        """Backbone, pooling and normalisation; nothing is drawn."""
        from sentence_transformers import SentenceTransformer
        from sentence_transformers.sentence_transformer.modules import Normalize, Pooling

        transformer = open_backbone(checkpoint, max_length)
        pooling = Pooling(transformer.get_embedding_dimension(), self.pooling)
        return SentenceTransformer(modules=[transformer, pooling, Normalize()], device=device)

    def loss(self, model: Any, config: ContrastiveConfig, mini_batch: int) -> Any:
        """Cached multiple negatives."""
        from sentence_transformers.sentence_transformer import losses

        loss = losses.CachedMultipleNegativesRankingLoss(model, scale=config.scale, mini_batch_size=mini_batch)
        if not self.widths:
            return loss
        return losses.MatryoshkaLoss(model, loss, [model.get_embedding_dimension(), *self.widths])

    def further(self, model: Any, task: Any, batch: int) -> list[Result]:
        """The score at each width, as a part of the task."""
        results = []
        for width in self.widths:
            model.truncate_dim = width
            score = float(evaluate(model, task, batch).get_score())
            name = f"{task.metadata.name}/width_{width}"
            results.append(Result(name, str(task.metadata.main_score), score, 0))
        model.truncate_dim = None
        return results
