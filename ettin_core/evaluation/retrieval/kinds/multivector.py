"""Multi-vector embeddings (ColBERT; Khattab and Zaharia 2020): Transformer, projection, mask, Normalize; MaxSim."""

from dataclasses import dataclass
from typing import Any, ClassVar

from ettin_core.evaluation.retrieval.backbone import open_backbone, seeded
from ettin_core.evaluation.retrieval.checkpoints import CheckpointToEmbed
from ettin_core.evaluation.retrieval.config import ContrastiveConfig
from ettin_core.evaluation.retrieval.kinds.base import SEARCH, LibraryClasses, RetrievalKind, Triplets
from ettin_core.evaluation.retrieval.retriever import REMEDY, Retriever
from ettin_core.foundation.errors import invalid

CONTRASTIVE, TAUGHT = "contrastive", ("kl", "margin_mse")


@dataclass(frozen=True)
class MultiVectorOptions:
    """`multivector` of conf/retrieve.yaml.

    `width` is that of a token's vector. A teacher's scores are cosines times `teacher_scale`.
    """

    loss: str
    width: int
    teacher_scale: float

    def __post_init__(self) -> None:
        if self.loss not in (CONTRASTIVE, *TAUGHT):
            raise invalid("multivector.loss", self.loss, "is unknown", f"use {CONTRASTIVE}, {' or '.join(TAUGHT)}")
        if self.width < 1:
            raise invalid("multivector.width", self.width, "is not positive", "use 1 or more")
        if self.teacher_scale <= 0:
            raise invalid("multivector.teacher_scale", self.teacher_scale, "is not positive", "use a value above 0")


@dataclass(frozen=True)
class MultiVector(RetrievalKind):
    """A vector a token; `teacher` is the dense model whose scores are distilled (None: contrastive)."""

    name: ClassVar[str] = "multivector"
    measures: ClassVar[tuple[str, ...] | None] = SEARCH
    options: MultiVectorOptions
    teacher: Retriever | None

    @property
    def way(self) -> str:
        """The loss."""
        return self.options.loss

    @property
    def settings(self) -> dict[str, Any]:
        """The width, and of a taught model its teacher."""
        if self.teacher is None:
            return {"loss": self.options.loss, "width": self.options.width}
        return {
            "loss": self.options.loss,
            "width": self.options.width,
            "teacher": self.teacher.content,
            "teacher_scale": self.options.teacher_scale,
        }

    def classes(self) -> LibraryClasses:
        """MultiVectorEncoder and its trainer."""
        import sentence_transformers as library

        return LibraryClasses(
            library.MultiVectorEncoder,
            library.MultiVectorEncoderTrainer,
            library.MultiVectorEncoderTrainingArguments,
            "from_multi_vector_encoder_model",
        )

    def build(self, checkpoint: CheckpointToEmbed, max_length: int | None, seed: int, device: str) -> Any:
        """Backbone and a projection that is drawn from `seed`."""
        from sentence_transformers import MultiVectorEncoder
        from sentence_transformers.base.modules import Dense, Normalize
        from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask
        from torch import nn

        transformer = open_backbone(checkpoint, max_length)
        tokens = {"module_input_name": "token_embeddings"}
        with seeded(seed):
            hidden = transformer.get_embedding_dimension()
            project = Dense(hidden, self.options.width, bias=False, activation_function=nn.Identity(), **tokens)
        modules = [transformer, project, MultiVectorMask(), Normalize(**tokens)]
        return MultiVectorEncoder(modules=modules, device=device)

    def columns(self, triplets: Triplets, device: str) -> dict[str, list[Any]]:
        """The triplets, and of a taught model the teacher's scores of positive and negative."""
        columns = super().columns(triplets, device)
        if self.teacher is not None:
            scale = self.options.teacher_scale
            scored = [
                self.teacher.scores(columns["query"], columns[name], scale, device) for name in ("positive", "negative")
            ]
            columns["label"] = [list(pair) for pair in zip(*scored, strict=True)]
        return columns

    def loss(self, model: Any, config: ContrastiveConfig, mini_batch: int) -> Any:
        """Cached multiple negatives, or the distance to the teacher's scores."""
        from sentence_transformers.multi_vector_encoder import losses

        if self.options.loss == "kl":
            return losses.MultiVectorDistillKLDivLoss(model, mini_batch_size=mini_batch)
        if self.options.loss == "margin_mse":
            return losses.MultiVectorMarginMSELoss(model, mini_batch_size=mini_batch)
        return losses.CachedMultiVectorMultipleNegativesRankingLoss(model, mini_batch_size=mini_batch)


def multivector(options: MultiVectorOptions, retriever: Retriever | None, train: bool) -> MultiVector:
    """The kind. Raises ValueError where a loss needs a teacher that is not given."""
    if options.loss not in TAUGHT or not train:
        return MultiVector(options, None)
    if retriever is None:
        raise invalid("retriever", None, f"is needed as the teacher of multivector.loss={options.loss}", REMEDY)
    return MultiVector(options, retriever)
