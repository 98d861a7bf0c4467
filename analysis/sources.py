"""Where each number comes from: the runs and files of records behind a cell of a table."""

import os
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd

from analysis import wording
from analysis.study_records import MEASURE, TRAINING, StudyRecords
from analysis.ways import with_own_ways
from ettin_core.records.files import read_measurements
from ettin_core.records.folders import RunFolder

FEW = 2  # paths that a title has in full; more are one pattern


class Cell(str):
    """A text of a table that knows its records: those of a run, or of a measurement of one member (empty: of all).

    `measure` is protocol, task and metric, or the first of these.
    """

    measure: tuple[str, ...]
    member: str
    run: str

    def __new__(cls, text: str, measure: tuple[str, ...] = (), member: str = "", run: str = "") -> "Cell":
        """The text with what it is about."""
        cell = super().__new__(cls, text)
        cell.measure, cell.member, cell.run = measure, member, run
        return cell


@dataclass(frozen=True)
class Group:
    """The record files of a protocol; `anchor` names it within a page."""

    anchor: str
    title: str
    files: list[str]


def record_files(folders: list[RunFolder], runs: Path, harness: list[Path]) -> dict[tuple[str, str], list[str]]:
    """The files of each run and protocol, relative to the folder of runs; of the run's training its log."""
    files: dict[tuple[str, str], list[str]] = defaultdict(list)
    for folder in folders:
        files[folder.name, TRAINING].append(_within(folder.metrics_file, runs))
        for name, place in folder.evaluations().items():
            files[folder.name, name.rpartition("@")[0]].append(_within(place / "measurements.jsonl", runs))
    for file in harness:
        for run, protocol in dict.fromkeys((row.run, row.protocol) for row in read_measurements(file)):
            files[run, protocol].append(_within(file, runs))
    return dict(files)


class Sources:
    """Finds the records behind the cells of a study's tables.

    `place` is how a link gets from the page to the folder of runs; where the runs are `packed` in a file, to that file.
    """

    def __init__(self, study: StudyRecords, place: str, packed: str = "") -> None:
        """Gather what was measured, the way of each member included."""
        self.place, self.packed, self.files = place, packed, study.files
        protocols = list(dict.fromkeys(protocol for _, protocol in study.files))
        protocols.sort(key=lambda protocol: (protocol == TRAINING, wording.order(protocol, "", "")))
        self.anchors = {protocol: f"records-{number}" for number, protocol in enumerate(protocols)}
        logged = {"protocol": TRAINING, "task": "", "metric": "", "scored_as": TRAINING}
        logs = pd.DataFrame([{"run": run, "member": member, **logged} for run, member in study.runs["member"].items()])
        measured = with_own_ways(study.measurements, study.runs)[["run", "member", *MEASURE, "scored_as"]]
        self._by_measure: dict[tuple[str, ...], list[tuple[str, str, str]]] = defaultdict(list)
        for protocol, task, metric, *source in pd.concat([measured, logs])[
            [*MEASURE, "member", "run", "scored_as"]
        ].itertuples(index=False, name=None):
            self._by_measure[protocol, task, metric].append(tuple(source))
            self._by_measure[(protocol,)].append(tuple(source))

    def link(self, cell: Any) -> tuple[str, str] | None:
        """The place in the page where a cell's records are listed, and their paths; None for a cell that has none."""
        if not isinstance(cell, Cell):
            return None
        if cell.run:
            records = [(cell.run, TRAINING)]
        else:
            measure = cell.measure[:1] if cell.measure[:1] == (TRAINING,) else cell.measure
            rows = self._by_measure.get(measure, [])
            records = list(dict.fromkeys((run, real) for member, run, real in rows if cell.member in ("", member)))
        paths = list(dict.fromkeys(path for key in records for path in self.files.get(key, [])))
        return (f"#{self.anchors[records[0][1]]}", "\n".join(_patterns(paths))) if paths else None

    def address(self, path: str) -> str:
        """Where a link to a file of the folder of runs points."""
        return self.packed or quote(f"{self.place}/{path}")

    def groups(self) -> list[Group]:
        """Every file of records, by protocol."""
        return [
            Group(
                anchor,
                "Training log" if protocol == TRAINING else wording.protocol_name(protocol),
                [path for (_, name), paths in self.files.items() if name == protocol for path in paths],
            )
            for protocol, anchor in self.anchors.items()
        ]


def _within(file: Path, runs: Path) -> str:
    return Path(os.path.relpath(file, runs)).as_posix()


def _patterns(paths: list[str]) -> list[str]:
    """Paths of several runs as one, where they differ in the run alone."""
    by_rest: dict[str, list[str]] = defaultdict(list)
    for path in paths:
        by_rest[path.partition("/")[2]].append(path)
    return [
        line
        for rest, alike in by_rest.items()
        for line in (alike if len(alike) <= FEW else [f"*/{rest} ({len(alike)} runs)"])
    ]
