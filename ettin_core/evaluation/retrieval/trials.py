"""The grid, trial by trial: a trained model of Sentence Transformers and its scores, each in a folder that is whole or absent.

    <root>/<run>-<kind>-<setting>-s<seed>-<hash>/model/                        the library's folder, trial.json, training.json
    <root>/<run>-<kind>-<setting>-s<seed>-<hash>/evaluations/<task>.<split>/   mteb.json and our records

The hash is over everything that decides the trial, so the same trial is the same folder: repeated, it is skipped.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ettin_core.evaluation.retrieval.backbone import quiet
from ettin_core.evaluation.retrieval.checkpoints import CheckpointToEmbed
from ettin_core.evaluation.retrieval.config import ContrastiveConfig, Setting
from ettin_core.evaluation.retrieval.finetuning import fine_tune
from ettin_core.evaluation.retrieval.kinds.base import RetrievalKind
from ettin_core.evaluation.retrieval.progress import SILENT, ReportProgress
from ettin_core.evaluation.retrieval.scoring import score, scored, settings_of, versions
from ettin_core.foundation.folders import folder_under_construction, locked
from ettin_core.foundation.storage import content_name, read_mapping, write_json
from ettin_core.foundation.strict_config import plain
from ettin_core.records.files import read_items, read_measurements
from ettin_core.records.schema import Item, Measurement

Columns = Callable[[], dict[str, list[Any]]]  # training rows, made when a trial first needs them


@dataclass(frozen=True)
class Training:
    """What a trial does to a checkpoint before it is measured; `data` is the hash of the rows."""

    config: ContrastiveConfig
    setting: Setting
    seed: int
    data: str


@dataclass(frozen=True)
class RetrievalTrial:
    """A checkpoint, a kind of model, and its training (None: measured as it is)."""

    root: Path
    checkpoint: CheckpointToEmbed
    kind: RetrievalKind
    max_length: int | None
    training: Training | None

    @property
    def identity(self) -> dict[str, Any]:
        """Everything that decides the trial."""
        identity: dict[str, Any] = {
            "content": self.checkpoint.content,
            "run": self.checkpoint.run,
            "checkpoint": self.checkpoint.checkpoint,
            "weights": self.checkpoint.weights,
            "max_length": self.max_length,
            **self.kind.identity,
        }
        if (training := self.training) is not None:
            identity |= {"recipe": self.kind.recipe(training.config), "data": training.data}
            identity |= {"setting": plain(training.setting), "seed": training.seed}
        return identity

    @property
    def name(self) -> str:
        """The content name."""
        how = "untrained" if self.training is None else f"{self.training.setting.slug}-s{self.training.seed}"
        return content_name(f"{self.checkpoint.label}-{self.kind.label}-{how}", self.identity)

    @property
    def protocol(self) -> str:
        """The name of the protocol, by which records are compared."""
        return self.kind.protocol(self.training is not None)

    @property
    def folder(self) -> Path:
        """The folder of everything about the trial."""
        return self.root / self.name

    @property
    def model(self) -> Path:
        """The library's folder."""
        return self.folder / "model"

    @property
    def trained(self) -> bool:
        """Whether the model is there."""
        return (self.model / "trial.json").is_file()

    @property
    def diverged(self) -> bool:
        """Whether training ended with a loss that is not a number; there is nothing to measure then."""
        return bool(read_mapping(self.model / "trial.json")["diverged"])

    def evaluation(self, task: Any) -> Path:
        """The folder of a task's score."""
        return self.folder / "evaluations" / f"{task.metadata.name}.{'-'.join(task.eval_splits)}"

    def missing(self, tasks: list[Any], batch: int) -> list[Any]:
        """The tasks still to be scored."""
        if self.trained and self.diverged:
            return []
        return [task for task in tasks if not scored(self.evaluation(task), settings_of(task, batch, self.kind))]

    def measured(self, task: Any) -> tuple[list[Measurement], list[Item]] | None:
        """A task's records, its score first, and the score's items; None after training that diverged."""
        if self.diverged:
            return None
        folder = self.evaluation(task)
        return read_measurements(folder / "measurements.jsonl"), read_items(folder / "items.jsonl")

    def run(self, columns: Columns, tasks: list[Any], batch: int, device: str, report: ReportProgress = SILENT) -> None:
        """Train and score what is missing. Raises BusyError while another process does."""
        with locked(self.folder):
            if not self.trained:
                self._train(columns, device, report)
            if not (missing := self.missing(tasks, batch)):
                return
            model = self.kind.open(self.model, self.name, device)
            for number, task in enumerate(missing):
                report(f"{task.metadata.name}.{'-'.join(task.eval_splits)}", number, len(missing))
                origin = self.identity | {"trial": self.name}
                score(model, task, self.kind, batch, self.evaluation(task), self.checkpoint, self.protocol, origin)

    def _train(self, columns: Columns, device: str, report: ReportProgress) -> None:
        seed = 0 if self.training is None else self.training.seed
        model = self.kind.build(self.checkpoint, self.max_length, seed, device)
        steps = []
        if (training := self.training) is not None:
            steps = fine_tune(
                model,
                self.kind,
                columns(),
                training.config,
                training.setting,
                training.seed,
                lambda step, total: report("training", step, total),
            )
        diverged = not all(math.isfinite(row["loss"]) for row in steps)
        diverged |= not all(bool(parameter.isfinite().all()) for parameter in model.parameters())
        with quiet(), folder_under_construction(self.model) as building:
            if not diverged:
                self.kind.save(model, building)
            write_json(building / "training.json", [row for row in steps if math.isfinite(row["loss"])])
            write_json(building / "trial.json", self.identity | {"diverged": diverged, "libraries": versions()})
