"""The grid, trial by trial: a trained SentenceTransformer and its scores, each in a folder that is whole or absent.

    <root>/<run>-<pooling>-<setting>-s<seed>-<hash>/model/                        SentenceTransformer folder, trial.json
    <root>/<run>-<pooling>-<setting>-s<seed>-<hash>/evaluations/<task>.<split>/   mteb.json and our records

The hash is over everything that decides the trial, so the same trial is the same folder: repeated, it is skipped.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ettin_core.evaluation.retrieval.checkpoints import CheckpointToEmbed
from ettin_core.evaluation.retrieval.embedder import build_embedder, open_embedder, quiet
from ettin_core.evaluation.retrieval.finetuning import ContrastiveConfig, Setting, fine_tune
from ettin_core.evaluation.retrieval.scoring import score, scored, settings_of, versions
from ettin_core.foundation.folders import folder_under_construction, locked
from ettin_core.foundation.storage import content_name, read_mapping, write_json
from ettin_core.foundation.strict_config import plain
from ettin_core.records.files import read_items, read_measurements
from ettin_core.records.schema import Item, Measurement

Report = Callable[[str, int, int], None]  # what is done now, and step of steps within it
SILENT: Report = lambda doing, step, steps: None  # noqa: E731


@dataclass(frozen=True)
class Training:
    """What a trial does to a checkpoint before it is measured; `data` is the hash of the rows."""

    config: ContrastiveConfig
    setting: Setting
    seed: int
    data: str


@dataclass(frozen=True)
class RetrievalTrial:
    """A checkpoint, a pooling, and its training (None: measured as it is)."""

    root: Path
    checkpoint: CheckpointToEmbed
    pooling: str
    max_length: int | None
    training: Training | None

    @property
    def identity(self) -> dict[str, Any]:
        """Everything that decides the trial."""
        found: dict[str, Any] = {
            "content": self.checkpoint.content,
            "run": self.checkpoint.run,
            "checkpoint": self.checkpoint.checkpoint,
            "weights": self.checkpoint.weights,
            "pooling": self.pooling,
            "max_length": self.max_length,
        }
        if (training := self.training) is not None:
            found |= {"recipe": training.config.recipe, "data": training.data}
            found |= {"setting": plain(training.setting), "seed": training.seed}
        return found

    @property
    def name(self) -> str:
        """The content name."""
        how = "untrained" if self.training is None else f"{self.training.setting.slug}-s{self.training.seed}"
        return content_name(f"{self.checkpoint.label}-{self.pooling}-{how}", self.identity)

    @property
    def protocol(self) -> str:
        """The name of the protocol, by which records are compared."""
        return f"mteb.{'untrained' if self.training is None else 'contrastive'}.{self.pooling}"

    @property
    def folder(self) -> Path:
        """Where everything about the trial lies."""
        return self.root / self.name

    @property
    def model(self) -> Path:
        """The SentenceTransformer folder."""
        return self.folder / "model"

    @property
    def trained(self) -> bool:
        """Whether the model is there."""
        return (self.model / "trial.json").is_file()

    @property
    def diverged(self) -> bool:
        """Whether training ended with a loss that is no number; there is nothing to measure then."""
        return bool(read_mapping(self.model / "trial.json")["diverged"])

    def evaluation(self, task: Any) -> Path:
        """Where a task's score lies."""
        return self.folder / "evaluations" / f"{task.metadata.name}.{'-'.join(task.eval_splits)}"

    def missing(self, tasks: list[Any], batch: int) -> list[Any]:
        """The tasks still to be scored."""
        if self.trained and self.diverged:
            return []
        return [task for task in tasks if not scored(self.evaluation(task), settings_of(task, batch))]

    def measured(self, task: Any) -> tuple[Measurement, list[Item]] | None:
        """A task's record and its items; None after training that diverged."""
        if self.diverged:
            return None
        folder = self.evaluation(task)
        [measurement] = read_measurements(folder / "measurements.jsonl")
        return measurement, read_items(folder / "items.jsonl")

    def run(
        self, triplets: list[dict[str, str]], tasks: list[Any], batch: int, device: str, report: Report = SILENT
    ) -> None:
        """Train and score what is missing. Raises BusyError while another process does."""
        with locked(self.folder):
            if not self.trained:
                self._train(triplets, device, report)
            if not (missing := self.missing(tasks, batch)):
                return
            model = open_embedder(self.model, self.name, device)
            for number, task in enumerate(missing):
                report(f"{task.metadata.name}.{'-'.join(task.eval_splits)}", number, len(missing))
                origin = self.identity | {"trial": self.name}
                score(model, task, batch, self.evaluation(task), self.checkpoint, self.protocol, origin)

    def _train(self, triplets: list[dict[str, str]], device: str, report: Report) -> None:
        model = build_embedder(self.checkpoint, self.pooling, self.max_length, device)
        steps = []
        if (training := self.training) is not None:
            steps = fine_tune(
                model,
                triplets,
                training.config,
                training.setting,
                training.seed,
                lambda step, total: report("training", step, total),
            )
        diverged = not all(math.isfinite(row["loss"]) for row in steps)
        diverged |= not all(bool(parameter.isfinite().all()) for parameter in model.parameters())
        with quiet(), folder_under_construction(self.model) as building:
            if not diverged:
                model.save(str(building), create_model_card=False)
            write_json(building / "training.json", [row for row in steps if math.isfinite(row["loss"])])
            write_json(building / "trial.json", self.identity | {"diverged": diverged, "libraries": versions()})
