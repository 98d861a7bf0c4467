"""A grid in one line for each task: the setting that dev prefers, with the median and the worst of all trials beside it.

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
from ettin_core.evaluation.retrieval.finetuning import Setting
from ettin_core.evaluation.retrieval.scoring import VERSION, versions
from ettin_core.evaluation.retrieval.scoring import settings_of as task_settings
from ettin_core.evaluation.retrieval.trials import RetrievalTrial
from ettin_core.foundation.folders import folder_under_construction
from ettin_core.foundation.storage import write_json
from ettin_core.foundation.strict_config import plain
from ettin_core.records.evaluations import SETTINGS, measured, place_of, seal
from ettin_core.records.files import append, read_items, read_measurements
from ettin_core.records.schema import Item, Measurement


@dataclass(frozen=True)
class Line:
    """What the grid of one checkpoint and pooling says about one task."""

    measurement: Measurement
    items: list[Item]
    setting: Setting | None
    spread: float | None
    median: float | None
    worst: float | None
    trials: int


def choose(trials: list[RetrievalTrial], dev: Any) -> list[RetrievalTrial]:
    """The trials (one of each seed) of the setting with the highest mean score on dev; none if all diverged."""
    settings: dict[Setting | None, list[RetrievalTrial]] = {}
    for trial in trials:
        settings.setdefault(trial.training.setting if trial.training else None, []).append(trial)
    whole = [group for group in settings.values() if not any(trial.diverged for trial in group)]
    if len(settings) == 1 or not whole:
        return whole[0] if whole else []
    return max(whole, key=lambda group: _mean([_value(trial, dev) for trial in group]))


def line(trials: list[RetrievalTrial], chosen: list[RetrievalTrial], task: Any, dev: Any) -> Line:
    """The line of a task. Median and worst are of all trials; one that
    diverged, or has no score, is worse than any (the worst is None)."""
    measured = [trial.measured(task) for trial in trials]
    values = [record.value for record, _ in filter(None, measured) if record.value is not None]
    own = [found for found in (trial.measured(task) for trial in chosen) if found is not None]
    example = trials[0]
    per_seed = [record.value for record, _ in own if record.value is not None]
    items = _mean_items([items for _, items in own])
    setting = chosen[0].training.setting if chosen and chosen[0].training else None
    fields = own[0][0] if own else None
    result = Result(
        task.metadata.name,
        task.metadata.main_score,
        _mean(per_seed) if own and len(per_seed) == len(own) else None,
        fields.n if fields else 0,
        standard_error([item.value for item in items], [item.details.get("cluster", item.item) for item in items]),
    )
    origin = {
        "weights": example.checkpoint.weights,
        "task_type": str(task.metadata.type),
        "setting": plain(setting),
        "selected_by": None if dev is None else f"{dev.metadata.name}.{'-'.join(dev.eval_splits)}",
        "trials": {trial.name: _value(trial, task) for trial in trials},
        "chosen": [trial.name for trial in chosen],
        "settings": fields.provenance["settings"] if fields else None,
        "libraries": fields.provenance["libraries"] if fields else versions(),
    }
    return Line(
        example.checkpoint.measurement(example.protocol, VERSION, result, origin),
        items,
        setting,
        float(np.std(per_seed, ddof=1)) if len(per_seed) > 1 else None,
        float(np.median(values)) if values else None,
        min(values) if len(values) == len(trials) else None,
        len(trials),
    )


def dev_line(trials: list[RetrievalTrial], chosen: list[RetrievalTrial], dev: Any) -> Line:
    """The chosen setting's score on dev, by which poolings are chosen among: a record of its own, without items."""
    found = line(trials, chosen, dev, dev)
    task = f"{dev.metadata.name}.{'-'.join(dev.eval_splits)}"
    record = replace(found.measurement, task=task, metric=f"{found.measurement.metric}_dev")
    return replace(found, measurement=record, items=[])


def settings_of(trials: list[RetrievalTrial], batch: int, dev: Any) -> dict[str, Any]:
    """What decides a line beside its task: the checkpoint, the whole grid, and what the setting is chosen by."""
    training, example = [trial.training for trial in trials if trial.training], trials[0]
    return {
        "weights": example.checkpoint.weights,
        "max_length": example.max_length,
        "batch": batch,
        "recipe": training[0].config.recipe if training else None,
        "data": training[0].data if training else None,
        "grid": [plain(found.setting) | {"seed": found.seed} for found in training],
        "selected_by": None if dev is None else task_settings(dev, batch),
    }


def write(usual: Path, lines: list[Line], settings: dict[str, Any]) -> None:
    """Records of the chosen settings where reports look for measurements: `evaluations/<protocol>@<version>` of a run.

    Tasks that were measured before with the same settings stay beside these; what has other settings stays in its own place.
    """
    target, now = place_of(usual, settings), {found.measurement.task for found in lines}
    rows, items = [found.measurement for found in lines], [item for found in lines for item in found.items]
    if measured(target, settings):
        rows += [row for row in read_measurements(target / "measurements.jsonl") if row.task not in now]
        items += [item for item in read_items(target / "items.jsonl") if item.task not in now]
    with folder_under_construction(target) as building:
        append(building / "measurements.jsonl", sorted(rows, key=lambda row: row.task))
        append(building / "items.jsonl", sorted(items, key=lambda item: item.task))
        write_json(building / SETTINGS, settings)
        seal(building, lines[0].trials)


def table(lines: list[Line]) -> str:
    """Aligned text: a row for each checkpoint, pooling and task."""
    rows: list[tuple[str, ...]] = [
        (
            "member",
            "pooling",
            "task",
            "metric",
            "score",
            "± se",
            "sd seeds",
            "median",
            "worst",
            "trials",
            "chosen by dev",
        )
    ]
    for found in lines:
        record = found.measurement
        numbers = [record.value, record.standard_error, found.spread, found.median, found.worst]
        kind, pooling = record.protocol.split(".")[1:]
        chosen = found.setting.slug if found.setting else kind if kind == "untrained" else "all diverged"
        texts = [f"{number:.4f}" if number is not None else "—" for number in numbers]
        texts[-1] = "none" if found.worst is None else texts[-1]
        rows.append((record.member, pooling, record.task, record.metric, *texts, str(found.trials), chosen))
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    left = {0, 1, 2, 3, 10}
    return "\n".join(
        "  ".join(
            text.ljust(width) if place in left else text.rjust(width)
            for place, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def _mean(values: Sequence[float | None]) -> float:
    """The mean; of values one of which could not be measured, less than any."""
    numbers = [value for value in values if value is not None]
    return float(np.mean(numbers)) if len(numbers) == len(values) else -math.inf


def _value(trial: RetrievalTrial, task: Any) -> float | None:
    found = trial.measured(task)
    return None if found is None else found[0].value


def _mean_items(groups: list[list[Item]]) -> list[Item]:
    """Items whose value is the mean of the seeds' values."""
    if not groups:
        return []
    by_name = [{item.item: item.value for item in group} for group in groups]
    return [replace(item, value=float(np.mean([values[item.item] for values in by_name]))) for item in groups[0]]
