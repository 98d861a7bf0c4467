"""Dense embeddings: Transformer, Pooling, Normalize; cosine similarity."""

from dataclasses import dataclass
from typing import Any, ClassVar

from ettin_core.evaluation.retrieval.backbone import open_backbone
from ettin_core.evaluation.retrieval.checkpoints import CheckpointToEmbed
from ettin_core.evaluation.retrieval.config import ContrastiveConfig
from ettin_core.evaluation.retrieval.kinds.base import LibraryClasses, RetrievalKind

POOLINGS = ("mean", "lasttoken", "weightedmean")


@dataclass(frozen=True)
class Dense(RetrievalKind):
    """One vector a text by a pooling of the last states.

    The loss is CachedMultipleNegativesRankingLoss (Gao et al. 2021): cosine times `scale`, a query's positive against the
    positives and hard negatives of all queries of the batch.
    """

    name: ClassVar[str] = "dense"
    pooling: str

    @property
    def way(self) -> str:
        """The pooling."""
        return self.pooling

    @property
    def label(self) -> str:
        """The pooling: folders of trials had it before there were other kinds."""
        return self.pooling

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

    def classes(self) -> LibraryClasses:
        """SentenceTransformer and its trainer."""
        import sentence_transformers as library

        return LibraryClasses(
            library.SentenceTransformer,
            library.SentenceTransformerTrainer,
            library.SentenceTransformerTrainingArguments,
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

        return losses.CachedMultipleNegativesRankingLoss(model, scale=config.scale, mini_batch_size=mini_batch)
