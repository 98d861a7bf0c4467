"""What a kind of retrieval model decides; everything else is the same for all kinds and members."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from ettin_core.evaluation.protocol import Result
from ettin_core.evaluation.retrieval.backbone import hash_weights, quiet, read_letters
from ettin_core.evaluation.retrieval.beside import StageResult
from ettin_core.evaluation.retrieval.checkpoints import CheckpointToEmbed
from ettin_core.evaluation.retrieval.config import ContrastiveConfig
from ettin_core.evaluation.retrieval.triplets import COLUMNS
from ettin_core.foundation.errors import invalid

Triplets = list[dict[str, str]]
SEARCH = ("Retrieval", "Reranking", "InstructionRetrieval", "InstructionReranking")  # MTEB's types with a ranking


@dataclass(frozen=True)
class LibraryClasses:
    """The model of a kind, its trainer and the trainer's arguments in Sentence Transformers, and MTEB's description of it."""

    model: Any
    trainer: Any
    arguments: Any
    meta: str  # the method of mteb.models.ModelMeta that describes a model


class RetrievalKind(ABC):
    """A kind of model with its options; equal kinds train and measure alike."""

    name: ClassVar[str]
    batch_sampler: ClassVar[str] = "no_duplicates"
    measures: ClassVar[tuple[str, ...] | None] = None  # MTEB's types of tasks (None: all)

    @property
    @abstractmethod
    def way(self) -> str:
        """The last word of the protocol of a trained model."""

    @property
    def label(self) -> str:
        """What names of folders say of the kind."""
        return f"{self.name}-{self.way}"

    @property
    def identity(self) -> dict[str, Any]:
        """What decides a trial beside checkpoint, grid and rows."""
        return {"kind": self.name} | self.settings

    @property
    def settings(self) -> dict[str, Any]:
        """Options that decide a score, by name."""
        return {}

    def protocol(self, trained: bool) -> str:
        """The name of the protocol, by which records are compared."""
        return f"mteb.{self.name}.{self.way if trained else 'untrained'}"

    def recipe(self, config: ContrastiveConfig) -> dict[str, Any]:
        """What of the training's configuration decides a trial beside the point of the grid."""
        return {name: value for name, value in config.recipe.items() if name != "scale"}

    def check(self, checkpoint: CheckpointToEmbed) -> None:  # noqa: B027  (most kinds take any checkpoint)
        """Raises ValueError for a checkpoint that cannot become a model of this kind."""

    def check_task(self, task: Any) -> None:
        """Raises ValueError for a task of MTEB that is not measured with models of this kind."""
        if self.measures is not None and str(task.metadata.type) not in self.measures:
            problem = f"is of the type {task.metadata.type}, which kind={self.name} does not measure"
            raise invalid("tasks", task.metadata.name, problem, "name retrieval or reranking tasks")

    @abstractmethod
    def classes(self) -> LibraryClasses:
        """The library's classes, imported here: that takes seconds."""

    @abstractmethod
    def build(self, checkpoint: CheckpointToEmbed, max_length: int | None, seed: int, device: str) -> Any:
        """A model with the checkpoint's weights; new weights are drawn from `seed`. `max_length` is in tokens."""

    def columns(self, triplets: Triplets, device: str) -> dict[str, list[Any]]:
        """The training rows, column by column, in the order in which the loss reads them."""
        return {name: [row[name] for row in triplets] for name in COLUMNS}

    @abstractmethod
    def loss(self, model: Any, config: ContrastiveConfig, mini_batch: int) -> Any:
        """The loss of a model; `mini_batch` rows are held at once."""

    def open(self, folder: Path, name: str, device: str) -> Any:
        """A saved model under the name and the hash of its weights, by which MTEB tells models apart."""
        with quiet():
            model = self.classes().model(str(folder), device=device)
        read_letters(model.tokenizer)
        model.model_card_data.model_name = f"ettin/{name}"
        model.model_card_data.base_model_revision = hash_weights(model)
        return model.eval()

    def save(self, model: Any, folder: Path) -> None:
        """Write a model as the library's own folder."""
        model.save_pretrained(str(folder), create_model_card=False)

    def prepare(self, task: Any, batch: int, device: str) -> StageResult | None:
        """Make a loaded task ready to be measured; the first stage where the kind has one."""
        return None

    def further(self, model: Any, task: Any, batch: int) -> list[Result]:
        """What is measured of a loaded task beside its score."""
        return []

    def task_settings(self, task: Any) -> dict[str, Any]:
        """What decides the score of a task beside model and data."""
        return {}
