"""Sparse embeddings (SPLADE; Formal et al. 2021): vocabulary logits, log(1 + relu), the largest over a text's tokens."""

from dataclasses import dataclass
from typing import Any, ClassVar

from ettin_core.evaluation.retrieval.backbone import open_backbone
from ettin_core.evaluation.retrieval.checkpoints import CheckpointToEmbed
from ettin_core.evaluation.retrieval.config import ContrastiveConfig
from ettin_core.evaluation.retrieval.kinds.base import LibraryClasses, RetrievalKind
from ettin_core.foundation.errors import invalid

# A decoder's logits are read as an encoder's: by default the library gives those of the last token alone (logits_to_keep),
# under a name that no pooling reads. With the last token alone SPLADE would run, and read nothing of a padded text.
HEADS: dict[str, dict[str, Any]] = {
    "ForMaskedLM": {"transformer_task": "fill-mask"},
    "ForCausalLM": {
        "transformer_task": "text-generation",
        "modality_config": {"text": {"method": "forward", "method_output_name": "logits"}},
        "module_output_name": "token_embeddings",
        "processing_kwargs": {"text": {"logits_to_keep": 0}},
    },
}


@dataclass(frozen=True)
class SparseOptions:
    """`sparse` of conf/retrieve.yaml: the weights of the two FLOPS regularisers (Paria et al. 2020)."""

    query_regularizer: float
    document_regularizer: float

    def __post_init__(self) -> None:
        for name in ("query_regularizer", "document_regularizer"):
            if getattr(self, name) < 0:
                raise invalid(f"sparse.{name}", getattr(self, name), "is negative", "use 0 or more")


@dataclass(frozen=True)
class Sparse(RetrievalKind):
    """A weight for each word of the vocabulary."""

    name: ClassVar[str] = "sparse"
    options: SparseOptions

    @property
    def way(self) -> str:
        """The loss."""
        return "splade"

    @property
    def settings(self) -> dict[str, Any]:
        """The regularisers."""
        return {
            "query_regularizer": self.options.query_regularizer,
            "document_regularizer": self.options.document_regularizer,
        }

    def check(self, checkpoint: CheckpointToEmbed) -> None:
        """Raises ValueError for a checkpoint without a language-model head."""
        _head(checkpoint)

    def classes(self) -> LibraryClasses:
        """SparseEncoder and its trainer."""
        import sentence_transformers as library

        return LibraryClasses(
            library.SparseEncoder,
            library.SparseEncoderTrainer,
            library.SparseEncoderTrainingArguments,
            "from_sparse_encoder_model",
        )

    def build(self, checkpoint: CheckpointToEmbed, max_length: int | None, seed: int, device: str) -> Any:
        """The checkpoint with its language-model head; nothing is drawn."""
        from sentence_transformers import SparseEncoder
        from sentence_transformers.sparse_encoder.modules import SpladePooling

        transformer = open_backbone(checkpoint, max_length, **_head(checkpoint))
        width = transformer.auto_model.config.vocab_size
        return SparseEncoder(modules=[transformer, SpladePooling("max", embedding_dimension=width)], device=device)

    def loss(self, model: Any, config: ContrastiveConfig, mini_batch: int) -> Any:
        """Cached multiple negatives of dot products, and the two regularisers."""
        from sentence_transformers.sparse_encoder import losses

        return losses.CachedSpladeLoss(
            model,
            losses.SparseMultipleNegativesRankingLoss(model),
            document_regularizer_weight=self.options.document_regularizer,
            query_regularizer_weight=self.options.query_regularizer,
            mini_batch_size=mini_batch,
        )


def _head(checkpoint: CheckpointToEmbed) -> dict[str, Any]:
    """How the library reads a checkpoint's logits. Raises ValueError where it has none."""
    for ending, options in HEADS.items():
        if checkpoint.architecture.endswith(ending):
            return options
    problem = f"is a {checkpoint.architecture or 'model of no stated class'}, without logits over words"
    remedy = f"give a checkpoint whose config.json names a class that ends in {' or '.join(HEADS)}"
    raise invalid("models", checkpoint.run, problem, remedy)
