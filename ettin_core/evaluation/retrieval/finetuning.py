"""One trial of contrastive fine-tuning, by the published protocol for every member (Ettin, retrieval_eval/train_st.py).

The loss is CachedMultipleNegativesRankingLoss (Gao et al. 2021): cosine times `scale`, a query's positive against the
positives and hard negatives of all queries of the batch; batches hold no text twice. AdamW, warm-up, then linear to zero.
"""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import Any

from ettin_core.evaluation.retrieval.embedder import quiet
from ettin_core.evaluation.retrieval.triplets import COLUMNS
from ettin_core.foundation.errors import invalid


@dataclass(frozen=True)
class Setting:
    """One point of the grid."""

    learning_rate: float
    batch: int
    epochs: float

    @property
    def slug(self) -> str:
        """A short name."""
        return f"lr{self.learning_rate:g}-b{self.batch}-e{self.epochs:g}"


@dataclass(frozen=True)
class ContrastiveConfig:
    """conf/contrastive: rows, recipe, and the grid of which every member gets every point."""

    triplets: str | None
    sources: tuple[str, ...] | None
    max_triplets: int | None
    learning_rates: tuple[float, ...]
    batches: tuple[int, ...]
    epochs: tuple[float, ...]
    seeds: tuple[int, ...]
    mini_batch: int
    warmup_share: float
    weight_decay: float
    scale: float
    precision: str

    def __post_init__(self) -> None:
        for name in ("learning_rates", "batches", "epochs", "seeds"):
            values = getattr(self, name)
            if not values or len(set(values)) < len(values):
                raise invalid(
                    f"contrastive.{name}", list(values), "is no list of values", "give at least one, each once"
                )
            if name != "seeds" and min(values) <= 0:
                raise invalid(
                    f"contrastive.{name}", list(values), "holds a value that is not positive", "use values above 0"
                )
        for name in ("mini_batch", "scale", "max_triplets"):
            if getattr(self, name) is not None and getattr(self, name) <= 0:
                raise invalid(f"contrastive.{name}", getattr(self, name), "is not positive", "use a value above 0")
        if min(self.batches) < 2:
            raise invalid(
                "contrastive.batches", list(self.batches), "leaves no other query to tell apart", "use 2 or more"
            )
        if not 0 <= self.warmup_share < 1:
            raise invalid(
                "contrastive.warmup_share", self.warmup_share, "is no share of the steps", "use 0 <= share < 1"
            )
        if self.precision not in ("fp32", "bf16"):
            raise invalid("contrastive.precision", self.precision, "is unknown", "use fp32 or bf16")

    def settings(self) -> list[Setting]:
        """The points of the grid, seeds aside."""
        return [Setting(*values) for values in product(self.learning_rates, self.batches, self.epochs)]

    @property
    def recipe(self) -> dict[str, Any]:
        """What all points share and moves a number; `mini_batch` is memory only."""
        return {name: getattr(self, name) for name in ("warmup_share", "weight_decay", "scale", "precision")}


def fine_tune(
    model: Any,
    triplets: list[dict[str, str]],
    config: ContrastiveConfig,
    setting: Setting,
    seed: int,
    progress: Callable[[int, int], None] = lambda step, steps: None,
) -> list[dict[str, float]]:
    """Train `model` in place; returns step, loss (nats per query) and learning rate, step by step.

    Of a trial that diverges, some losses are no numbers.
    """
    from datasets import Dataset
    from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments
    from sentence_transformers.sentence_transformer import losses
    from transformers import PrinterCallback, TrainerCallback

    class Progress(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
            progress(state.global_step, state.max_steps)

    with tempfile.TemporaryDirectory() as scratch:
        arguments = SentenceTransformerTrainingArguments(
            output_dir=scratch,
            num_train_epochs=setting.epochs,
            per_device_train_batch_size=setting.batch,
            learning_rate=setting.learning_rate,
            weight_decay=config.weight_decay,
            warmup_steps=config.warmup_share,  # below 1: a share of the steps
            lr_scheduler_type="linear",
            batch_sampler="no_duplicates",
            bf16=config.precision == "bf16",
            seed=seed,
            data_seed=seed,
            use_cpu=model.device.type == "cpu",
            save_strategy="no",
            logging_steps=1,
            logging_nan_inf_filter=False,
            report_to="none",
            disable_tqdm=True,
        )
        trainer = SentenceTransformerTrainer(
            model=model,
            args=arguments,
            train_dataset=Dataset.from_dict({name: [row[name] for row in triplets] for name in COLUMNS}),
            loss=losses.CachedMultipleNegativesRankingLoss(
                model, scale=config.scale, mini_batch_size=min(config.mini_batch, setting.batch)
            ),
            callbacks=[Progress()],
        )
        trainer.remove_callback(PrinterCallback)
        with quiet():
            trainer.train()
    return [
        {"step": row["step"], "loss": row["loss"], "learning_rate": row["learning_rate"]}
        for row in trainer.state.log_history
        if "loss" in row
    ]
