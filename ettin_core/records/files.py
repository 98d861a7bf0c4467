"""Files of records: typed rows in the order of a run, of one run, none twice. Errors name file and line."""

from pathlib import Path
from typing import Any, TypeVar

from ettin_core.foundation.errors import UserError, invalid
from ettin_core.foundation.storage import append_json_lines, numbered_json_lines
from ettin_core.records.schema import Item, Measurement, TimingRecord, TrainingRecord, from_row, to_row

Record = TypeVar("Record", TrainingRecord, TimingRecord, Measurement, Item)
Asked = TypeVar("Asked", Measurement, Item)
RISING = ("tokens", "loss_tokens", "flops", "skipped")  # cumulative in training rows
KEY = {Measurement: ("protocol", "version", "task", "metric"), Item: ("protocol", "task", "item")}


def append(path: Path, records: list[Any]) -> None:
    """Append records to a JSON-lines file. Raises ValueError for one that could not be read again."""
    append_json_lines(path, [to_row(record) for record in records])


def read_training(path: Path) -> list[TrainingRecord]:
    """The training rows of a file. Raises ValueError, as all readers here, for rows that cannot be of one run."""
    rows = _read(path, TrainingRecord)
    for (_, before), (place, row) in zip(rows, rows[1:], strict=False):
        if row.step <= before.step:
            _refuse(place, f"step {row.step} follows step {before.step}")
        for name in RISING:
            if getattr(row, name) < getattr(before, name):
                _refuse(place, f"{name} falls from {getattr(before, name)} to {getattr(row, name)}")
    return [row for _, row in rows]


def read_timing(path: Path) -> list[TimingRecord]:
    """The wall-clock rows of a file, by step; a run that continued from an earlier step logged the steps since again."""
    kept: list[tuple[str, TimingRecord]] = []
    for place, row in _read(path, TimingRecord):
        while kept and kept[-1][1].step >= row.step:
            kept.pop()
        kept.append((place, row))
    for (_, before), (place, row) in zip(kept, kept[1:], strict=False):
        if row.seconds < before.seconds:
            _refuse(place, f"seconds fall from {before.seconds} to {row.seconds}")
    return [row for _, row in kept]


def read_measurements(path: Path, run: str | None = None) -> list[Measurement]:
    """The measurements of a file, all of `run` (None: of any)."""
    return _read_answers(path, Measurement, run)


def read_items(path: Path, run: str | None = None) -> list[Item]:
    """The item scores of a file, all of `run` (None: of any)."""
    return _read_answers(path, Item, run)


def _read_answers(path: Path, kind: type[Asked], run: str | None) -> list[Asked]:
    rows = _read(path, kind)
    places: dict[tuple[Any, ...], str] = {}
    for place, row in rows:
        if run is not None and row.run != run:
            remedy = f"give its folder the name {row.run}, or move the file to the run it belongs to"
            raise invalid("file", place, f"is a row of run {row.run}, not of {run}", remedy)
        key = tuple(getattr(row, name) for name in KEY[kind])
        first = places.setdefault(key, place)
        if first != place:
            _refuse(place, f"{' '.join(map(str, key))} is at {first} already")
    return [row for _, row in rows]


def _read(path: Path, kind: type[Record]) -> list[tuple[str, Record]]:
    rows = []
    for place, row in numbered_json_lines(path):
        try:
            record = from_row(row)
        except UserError as error:
            raise UserError(f"file={place!r}: {error}") from error
        if type(record) is not kind:
            _refuse(place, f"it is a row of kind {record.kind}")
        rows.append((place, record))
    return rows


def _refuse(place: str, problem: str) -> None:
    raise invalid("file", place, f"is damaged ({problem})", "restore the file that holds it")
