"""A grid in one score for each task: the setting that dev prefers, with the median and the worst of all trials beside it.

Seeds are repetitions, not candidates: a setting is chosen by the mean of its seeds on dev, and its score is their mean on the
test split. The standard error is over items (each the mean of the seeds), the spread is the deviation between seeds.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ettin_core.evaluation.protocol import Result, standard_error
from ettin_core.evaluation.retrieval.config import Setting
from ettin_core.evaluation.retrieval.scoring import VERSION, versions
from ettin_core.evaluation.retrieval.scoring import settings_of as task_settings
from ettin_core.evaluation.retrieval.trials import RetrievalTrial
from ettin_core.foundation.folders import folder_under_construction
from ettin_core.foundation.storage import write_json
from ettin_core.foundation.strict_config import plain
from ettin_core.records.evaluations import SETTINGS, measured, place_of, seal, settings_hash
from ettin_core.records.files import append, read_items, read_measurements
from ettin_core.records.schema import Item, Measurement


@dataclass(frozen=True)
class GridScore:
    """What the grid of one checkpoint and kind says about one task; `beside` are further measures of the chosen setting."""

    measurement: Measurement
    items: list[Item]
    setting: Setting | None
    spread: float | None
    median: float | None
    worst: float | None
    trials: int
    beside: tuple[Measurement, ...] = ()

    def value_of(self, metric: str) -> float | None:
        """The value of a measure beside the score; None where it was not taken."""
        return next((row.value for row in self.beside if row.metric == metric), None)


def choose(trials: list[RetrievalTrial], dev: Any) -> list[RetrievalTrial]:
    """The trials (one of each seed) of the setting with the highest mean score on dev; none if all diverged."""
    settings: dict[Setting | None, list[RetrievalTrial]] = {}
    for trial in trials:
        settings.setdefault(trial.training.setting if trial.training else None, []).append(trial)
    whole = [group for group in settings.values() if not any(trial.diverged for trial in group)]
    if len(settings) == 1 or not whole:
        return whole[0] if whole else []
    return max(whole, key=lambda group: _mean([_value(trial, dev) for trial in group]))


def grid_score(
    trials: list[RetrievalTrial], chosen: list[RetrievalTrial], task: Any, dev: Any, settings: dict[str, Any]
) -> GridScore:
    """The score of a task. Median and worst are of all trials; one that
    diverged, or has no score, is worse than any (the worst is None).

    The hash of `settings` is among what a report compares: members with unequal grids do not share a table.
    """
    values = [_value(trial, task) for trial in trials]
    known = [value for value in values if value is not None]
    records = [trial.measured(task) or ([], []) for trial in chosen]
    per_seed = [rows[0].value for rows, _ in records if rows and rows[0].value is not None]
    items = _mean_items([items for _, items in records])
    first = records[0][0][0] if records else None
    example, setting = trials[0], chosen[0].training.setting if chosen and chosen[0].training else None
    result = Result(
        task.metadata.name,
        task.metadata.main_score,
        _mean(per_seed) if records and len(per_seed) == len(records) else None,
        first.n if first else 0,
        standard_error([item.value for item in items], [item.details.get("cluster", item.item) for item in items]),
    )
    origin = {
        "weights": example.checkpoint.weights,
        "task_type": str(task.metadata.type),
        "setting": plain(setting),
        "selected_by": None if dev is None else f"{dev.metadata.name}.{'-'.join(dev.eval_splits)}",
        "trials": {trial.name: value for trial, value in zip(trials, values, strict=True)},
        "chosen": [trial.name for trial in chosen],
        "settings": task_settings(task, settings["batch"], example.kind) | {"grid": settings_hash(settings)},
        "libraries": first.provenance["libraries"] if first else versions(),
    }
    measurement = example.checkpoint.measurement(example.protocol, VERSION, result, origin)
    return GridScore(
        measurement,
        items,
        setting,
        float(np.std(per_seed, ddof=1)) if len(per_seed) > 1 else None,
        float(np.median(known)) if known else None,
        min(known) if len(known) == len(trials) else None,
        len(trials),
        _beside(measurement, [rows[1:] for rows, _ in records]),
    )


def dev_score(
    trials: list[RetrievalTrial], chosen: list[RetrievalTrial], dev: Any, settings: dict[str, Any]
) -> GridScore:
    """The chosen setting's score on dev, by which ways are chosen among: a record alone, without items."""
    score = grid_score(trials, chosen, dev, dev, settings)
    task = f"{dev.metadata.name}.{'-'.join(dev.eval_splits)}"
    record = replace(score.measurement, task=task, metric=f"{score.measurement.metric}_dev")
    return replace(score, measurement=record, items=[], beside=())


def settings_of(trials: list[RetrievalTrial], batch: int, dev: Any) -> dict[str, Any]:
    """What decides a score beside its task: the checkpoint, the whole grid, and what the setting is chosen by."""
    training, example = [trial.training for trial in trials if trial.training], trials[0]
    return {
        "weights": example.checkpoint.weights,
        "max_length": example.max_length,
        "batch": batch,
        "recipe": example.kind.recipe(training[0].config) if training else None,
        "data": training[0].data if training else None,
        "grid": [plain(point.setting) | {"seed": point.seed} for point in training],
        "selected_by": None if dev is None else task_settings(dev, batch, example.kind),
        **example.kind.settings,
    }


def write(usual: Path, scores: list[GridScore], settings: dict[str, Any]) -> None:
    """Records of the chosen settings in the folder that reports read: `evaluations/<protocol>@<version>` of a run.

    Tasks that were measured before with the same settings stay beside these; what has other settings keeps its folder.
    """
    target = place_of(usual, settings)
    rows = [row for score in scores for row in (score.measurement, *score.beside)]
    items, tasks = [item for score in scores for item in score.items], {row.task for row in rows}
    if measured(target, settings):
        rows += [row for row in read_measurements(target / "measurements.jsonl") if row.task not in tasks]
        items += [item for item in read_items(target / "items.jsonl") if item.task not in tasks]
    with folder_under_construction(target) as building:
        append(building / "measurements.jsonl", sorted(rows, key=lambda row: row.task))
        append(building / "items.jsonl", sorted(items, key=lambda item: item.task))
        write_json(building / SETTINGS, settings)
        seal(building, scores[0].trials)


def _beside(measurement: Measurement, seeds: Sequence[list[Measurement]]) -> tuple[Measurement, ...]:
    """The measures beside a score that all seeds have, each the mean of the seeds."""
    by_key = [{(row.task, row.metric): row for row in rows} for rows in seeds]
    shared = [key for key in (by_key[0] if by_key else {}) if all(key in rows for rows in by_key)]
    return tuple(
        replace(
            measurement,
            task=task,
            metric=metric,
            value=_mean_or_none([rows[task, metric].value for rows in by_key]),
            n=by_key[0][task, metric].n,
            standard_error=None,
            higher_is_better=by_key[0][task, metric].higher_is_better,
        )
        for task, metric in shared
    )


def _mean(values: Sequence[float | None]) -> float:
    """The mean; of values one of which could not be measured, less than any."""
    numbers = [value for value in values if value is not None]
    return float(np.mean(numbers)) if len(numbers) == len(values) else -math.inf


def _mean_or_none(values: Sequence[float | None]) -> float | None:
    mean = _mean(values)
    return mean if math.isfinite(mean) else None


def _value(trial: RetrievalTrial, task: Any) -> float | None:
    records = trial.measured(task)
    return None if records is None else records[0][0].value


def _mean_items(groups: list[list[Item]]) -> list[Item]:
    """Items whose value is the mean of the seeds' values."""
    if not groups:
        return []
    by_name = [{item.item: item.value for item in group} for group in groups]
    return [replace(item, value=float(np.mean([values[item.item] for values in by_name]))) for item in groups[0]]
