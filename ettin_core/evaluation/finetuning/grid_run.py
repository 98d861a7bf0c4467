"""A grid of trials of one base model, on one task, with one attention mode. Each trial is an atomic record and is run once.

evaluations/finetune.<task>.<way>@1/ holds trials/<trial>.json, which all grids share. If another task starts from it,
weights/<trial>/ holds the best trial's weights. A complete grid has measurements.jsonl, items.jsonl and settings.json in
evaluations/finetune.<task>.<way>@1+<hash of the grid and its data>/, so that no grid replaces another.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from ettin_core.checkpoints.native import hash_tensors
from ettin_core.evaluation.finetuning.attention_modes import AttentionMode
from ettin_core.evaluation.finetuning.grid import FinetuningConfig, Trial
from ettin_core.evaluation.finetuning.heads import FineTuned
from ettin_core.evaluation.finetuning.metrics import reference
from ettin_core.evaluation.finetuning.model import BaseModel
from ettin_core.evaluation.finetuning.rows import TaskData
from ettin_core.evaluation.finetuning.summary import Summary, TrialRecord, summarise
from ettin_core.evaluation.finetuning.trial import Prepared, TrialResult, run_trial
from ettin_core.foundation.folders import folder_under_construction, locked
from ettin_core.foundation.provenance import library_versions
from ettin_core.foundation.storage import canonical_json, read_json, read_mapping, write_json, write_text
from ettin_core.foundation.strict_config import plain
from ettin_core.records.evaluations import SETTINGS, beside, measured, seal
from ettin_core.records.files import append, read_measurements
from ettin_core.records.schema import Item, Measurement

VERSION = 1
LIBRARIES = ("scikit-learn", "scipy", "datasets")
WEIGHTS = "model.safetensors"
TrialProgress = Callable[[str, bool], None]  # a trial's name, and whether it was recorded before


def silent(trial: str, recorded: bool) -> None:
    """No progress."""


@dataclass(frozen=True)
class GridRun:
    """A grid to be run. It begins with the weights of the best trial of `start` (None: those of the base model)."""

    base: BaseModel
    data: TaskData
    mode: AttentionMode
    config: FinetuningConfig
    start: "GridRun | None" = None

    @property
    def protocol(self) -> str:
        """The name under which it is recorded."""
        after = "" if self.start is None else f".from_{self.start.data.task.name}"
        return f"finetune.{self.data.task.name}.{self.mode.name}{after}"

    @property
    def folder(self) -> Path:
        """Where its records are."""
        return self.base.folder.evaluation_folder(self.protocol, VERSION, self.base.earlier)

    @property
    def limit(self) -> int:
        """The longest row in tokens: the context of the base model, or less."""
        return min(self.config.max_length, self.base.context)

    @cached_property
    def prepared(self) -> Prepared:
        """The rows as the base model reads them."""
        return Prepared.of(self.data, self.base.tokenizer, self.limit)

    def run(self, progress: TrialProgress = silent, wait: bool = False) -> list[Measurement]:
        """Run the trials that are not recorded yet and summarise the grid. A grid with the same settings is not repeated.

        Raises BusyError if another process runs the grid, unless `wait`.
        """
        with locked(self.folder, wait):
            parents, weights = self._begin(progress)
            identity = self._identity(parents)
            settings = identity | {"grid": self.config.grid}
            target = beside(self.folder, settings)
            if measured(target, settings):
                for trial in self.config.trials:
                    progress(trial.name(identity), True)
            else:
                trials = [self._trial(trial, identity, parents, weights, progress) for trial in self.config.trials]
                guess = reference(
                    self.data.task, [item.gold for item in self.data.train], [item.gold for item in self.data.test]
                )
                self._record(target, summarise(self.data.task.name, trials, guess), trials, settings)
            return read_measurements(target / "measurements.jsonl")

    def best(self, progress: TrialProgress) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
        """The best trial by dev score (the first of equal ones) as a link of the chain of parents, and its weights.

        Unless the weights were kept, the trial is run again.
        """
        self.run(progress, wait=True)
        with locked(self.folder, wait=True):
            parents, weights = self._begin(progress)
            identity = self._identity(parents)
            names = {trial.name(identity): trial for trial in self.config.trials}
            records = {name: read_mapping(self._file(name)) for name in names}
            name = max(records, key=lambda name: max(records[name]["dev"]))
            target = self.folder / "weights" / name
            if not (target / WEIGHTS).is_file():
                result = self._run_trial(names[name], weights)
                with folder_under_construction(target) as building:
                    save_file({key: value.contiguous() for key, value in result.weights.items()}, building / WEIGHTS)
                    write_json(building / "dev.json", result.dev)
            kept = load_file(target / WEIGHTS)
            link = {"protocol": f"{self.protocol}@{VERSION}", "trial": name, "dev": max(read_json(target / "dev.json"))}
            return link | {"weights": hash_tensors(kept)}, kept

    def _begin(self, progress: TrialProgress) -> tuple[list[dict[str, Any]], dict[str, torch.Tensor]]:
        """The chain of parents and the weights that trials start from."""
        if self.start is None:
            return [self.base.parent], self.base.tensors
        link, weights = self.start.best(progress)
        return [self.base.parent, link], weights

    def _identity(self, parents: list[dict[str, Any]]) -> dict[str, Any]:
        """All that can change a trial's score, except the trial itself, the code and the libraries."""
        return {
            "protocol": self.protocol,
            "version": VERSION,
            "weights": parents[-1]["weights"],
            "tokenizer": self.base.tokenizer.hash,
            "data": self.data.origin,
            "max_length": self.limit,
            "shared": self.config.shared,
        }

    def _file(self, name: str) -> Path:
        return self.folder / "trials" / f"{name}.json"

    def _trial(
        self,
        trial: Trial,
        identity: dict[str, Any],
        parents: list[dict[str, Any]],
        weights: dict[str, torch.Tensor],
        progress: TrialProgress,
    ) -> TrialRecord:
        """The record of a trial, which is run unless it is there."""
        name = trial.name(identity)
        recorded = self._file(name).exists()
        if not recorded:
            result = self._run_trial(trial, weights)
            record = {
                "name": name,
                "trial": plain(trial),
                "identity": identity,
                "parents": parents,
                "metric": self.data.task.metric,
                "dev": result.dev,
                "dev_rows": len(self.data.dev),
                "best_epoch": result.best_epoch,
                "test": {score.metric: asdict(score) for score in result.test},
                "losses": result.losses,
                "diverged": result.diverged,
                "order": result.order,
                "cut_rows": self.prepared.cut,
                "seconds": result.seconds,
                "libraries": library_versions(*LIBRARIES),
                "predictions": result.predictions,
            }
            write_text(self._file(name), canonical_json(record) + "\n")
        progress(name, recorded)
        return read_mapping(self._file(name))

    def _run_trial(self, trial: Trial, weights: dict[str, torch.Tensor]) -> TrialResult:
        base, config = self.base, self.config
        base.model.load_state_dict(weights)
        view = self.mode.view(base.view, base.model.config.num_layers, config.unmasked)
        model = FineTuned(base.model, view, self.mode.pooling, self.data.task, trial.seed, config.dropout)
        return run_trial(model.to(base.device), self.prepared, trial, config, base.device)

    def _record(self, target: Path, summary: Summary, trials: Sequence[TrialRecord], settings: dict[str, Any]) -> None:
        base = self.base
        origin = {
            "weights": settings["weights"],
            "parents": summary.trials[0]["parents"],
            "data": self.data.origin,
            "libraries": library_versions(*LIBRARIES),
            "settings": settings,
            "grid": self.config.grid,
            "trials": len(trials),
            "point": summary.point,
            "chosen": [record["name"] for record in summary.trials],
            "way": self.mode.name,
            "start": None if self.start is None else self.start.data.task.name,
        }
        rows = [base.measurement(self.protocol, VERSION, result, origin) for result in summary.results]
        with folder_under_construction(target) as building:
            append(building / "measurements.jsonl", rows)
            append(building / "items.jsonl", self._items(summary))
            write_json(building / SETTINGS, settings)
            seal(building, len(trials))

    def _items(self, summary: Summary) -> list[Item]:
        """Of each test row the mean over the best point's seeds: whether it was right, its share of right tags, its score."""
        task = self.data.task
        items: list[Item] = []
        for place, example in enumerate(self.data.test):
            predictions = [record["predictions"][place] for record in summary.trials]
            if task.kind == "tagging":
                values = [
                    np.mean([a == b for a, b in zip(prediction, example.gold, strict=True)])
                    for prediction in predictions
                ]
            elif task.kind == "classification":
                values = [float(prediction == example.gold) for prediction in predictions]
            else:
                values = predictions
            details: dict[str, Any] = {} if task.kind == "tagging" else {"gold": example.gold, "predicted": predictions}
            details |= {} if example.cluster is None else {"cluster": example.cluster}
            items.append(Item(self.base.run, self.protocol, task.name, example.id, float(np.mean(values)), details))
        return items
