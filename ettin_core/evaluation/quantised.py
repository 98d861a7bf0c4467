"""What quantisation changed, as records of the run that was quantised: members are then compared by their losses.

A task's score is that of the copy less that of the run, with the items' differences, each model scored as suits it. Beside
it are how far predictions moved, and the sizes and speeds of both.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from ettin_core.evaluation.protocol import ItemResult, MeasuredModel, Result, standard_error
from ettin_core.foundation.folders import folder_under_construction, locked
from ettin_core.foundation.provenance import library_versions
from ettin_core.foundation.storage import write_json
from ettin_core.interop.quantisation_effect import Effect
from ettin_core.records.evaluations import SETTINGS, place_of, seal
from ettin_core.records.files import append
from ettin_core.records.folders import RunFolder
from ettin_core.records.readout import Readout
from ettin_core.records.schema import Item, Measurement

VERSION = 1
UNSUITED = {True: "left_to_right", False: "pseudo_likelihood"}  # ways of scoring, by whether a model fills masks
ROUNDING = 1e-6


def record_changes(
    subject: MeasuredModel,
    method: str,
    readout: Readout,
    before: RunFolder,
    after: RunFolder,
    moved: Effect,
    settings: dict[str, Any],
) -> None:
    """Write `quantised.<method>` to the run's evaluations; its tasks are those that both folders were measured on."""
    protocol = f"quantised.{method}"
    results, items = list(_moved(moved)), []
    for result, of_task in _changes(before, after, readout):
        results.append(result)
        items += [
            Item(subject.run, protocol, item.task, item.item, item.value, {"cluster": item.cluster}) for item in of_task
        ]
    origin = {
        "settings": settings,
        "libraries": library_versions("torchao", "bitsandbytes"),
        "weights": subject.weights,
    }
    rows = [subject.measurement(protocol, VERSION, result, origin) for result in results]
    with locked(before.path / "evaluations", wait=True):
        usual = before.evaluation_folder(protocol, VERSION)
        with folder_under_construction(place_of(usual, settings)) as building:
            append(building / "measurements.jsonl", rows)
            append(building / "items.jsonl", items)
            write_json(building / SETTINGS, settings)
            seal(building)


def _moved(moved: Effect) -> Iterator[Result]:
    before, after = moved.before, moved.after
    yield Result("predictions", "divergence", moved.divergence, 1, higher_is_better=False)
    yield Result("predictions", "agreement", moved.agreement, 1)
    yield Result("copy", "size_ratio", after.nominal / before.nominal, 1, higher_is_better=False)
    yield Result("copy", "speed_ratio", after.tokens_per_second / before.tokens_per_second, 1)


def _changes(before: RunFolder, after: RunFolder, readout: Readout) -> Iterator[tuple[Result, list[ItemResult]]]:
    """The change of each task's first metric that is a mean of its items."""
    measured = {(row.protocol, row.task, row.metric): row for row in after.measurements()}
    seen: set[tuple[str, str]] = set()
    for row in before.measurements():
        copy, key = measured.get((row.protocol, row.task, row.metric)), (row.protocol, row.task)
        if copy is None or key in seen or row.protocol.endswith(UNSUITED[readout.masked]):
            continue
        items = _differences(row, before, after)
        if row.value is None or copy.value is None or not items:
            continue
        values = [item.value for item in items]
        if abs(float(np.mean(values)) - (copy.value - row.value)) > ROUNDING:
            continue  # another metric than the items'
        seen.add(key)
        error = standard_error(values, [item.cluster for item in items])
        name, change = items[0].task, copy.value - row.value
        yield Result(name, f"{row.metric}_change", change, len(items), error, row.higher_is_better, 0.0), items


def _differences(row: Measurement, before: RunFolder, after: RunFolder) -> list[ItemResult]:
    question, way = row.protocol.partition(".")[::2]
    name = f"{question}.own_scoring/{row.task}" if way in UNSUITED.values() else f"{row.protocol}/{row.task}"
    earlier, later = (_items(folder, row) for folder in (before, after))
    if earlier.keys() != later.keys():
        return []
    return [
        ItemResult(name, key, later[key].value - item.value, {"cluster": item.details.get("cluster", key)})
        for key, item in earlier.items()
    ]


def _items(folder: RunFolder, row: Measurement) -> dict[str, Item]:
    return {item.item: item for item in folder.items(row.protocol) if item.task == row.task}
