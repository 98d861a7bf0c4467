"""What lm-eval's command wrote of our runs: measurements, and the items of the tasks whose samples it kept (`--log_samples`).

lm-eval's own standard errors take items for independent. Where samples are kept beside the measurements, errors and paired
differences come from them, with the items of one passage, article or premise in one cluster (`outside`).
"""

from pathlib import Path

import pandas as pd

from analysis import outside
from analysis.items import BY_METRIC, Key
from ettin_core.records.files import read_measurements
from ettin_core.records.folders import RunFolder
from ettin_core.records.schema import Measurement


def harness_files(folders: list[RunFolder], records: Path | None, kind: str = "measurements") -> list[Path]:
    """The files of a kind in the runs' folders and in another, the newest last."""
    places = [folder.path for folder in folders] + ([records] if records else [])
    files = {file for place in places for file in place.rglob(f"{kind}_*.jsonl")}
    return sorted(files, key=lambda file: (file.name, str(file)))


def harness_measurements(folders: list[RunFolder], records: Path | None) -> list[Measurement]:
    """The measurements of the runs: of a score measured twice the newest."""
    names, newest = {folder.name for folder in folders}, {}
    for file in harness_files(folders, records):
        for row in read_measurements(file):
            if row.run in names:
                newest[row.run, row.protocol, row.task, row.metric] = row
    return list(newest.values())


def harness_items(folders: list[RunFolder], records: Path | None) -> dict[Key, pd.DataFrame]:
    """The items of every task whose samples are kept, with the value of each metric; of a task measured twice the newest."""
    names, by_task = {folder.name for folder in folders}, {}
    for file in harness_files(folders, records):
        date = file.stem.removeprefix("measurements_")
        for run, protocol, task in dict.fromkeys((row.run, row.protocol, row.task) for row in read_measurements(file)):
            samples = file.with_name(f"samples_{task}_{date}.jsonl")
            if run in names and samples.is_file() and (items := _items(task, samples)) is not None:
                by_task[run, protocol, task] = items
    return by_task


def _items(task: str, samples: Path) -> pd.DataFrame | None:
    """`value` (of the first metric) and `details` by item: its cluster and all metrics; None where none is a number."""
    scores = {metric: scored.items for metric, scored in outside.samples(task, samples)}
    tables = {metric: items for metric, items in scores.items() if items is not None}
    if not tables:
        return None
    first = next(iter(tables.values()))
    details = [
        {
            "cluster": cluster,
            BY_METRIC: {metric: table["value"].get(item) for metric, table in tables.items()},
        }
        for item, cluster in zip(first.index, first["cluster"], strict=True)
    ]
    return pd.DataFrame({"value": first["value"], "details": details}, index=first.index)
