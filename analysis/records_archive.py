"""The records of a study in one compressed file: what a report reads of each run, and nothing else. The same bytes each time.

`records.tar.xz` holds `study.json` and run folders in `runs/`, which every command of `analysis` reads once it is unpacked
(`tar xJf records.tar.xz`). Of a run it has what says what it was (FILES), the training log without diagnostics, and of each
measured protocol measurements.jsonl, settings.json and its items by columns (items.json, ettin_core/records/item_tables.py).
Numbers of items and logs have five significant digits (four where items are many). Items have no lists: the scores of every
candidate answer, which no report reads. Measurements, costs and the clock are as they were recorded.
"""

import io
import json
import lzma
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from ettin_core.foundation.errors import UserError, invalid
from ettin_core.foundation.storage import canonical_json, write_bytes
from ettin_core.records.evaluations import COLUMNS, MEASUREMENTS, SEAL, SETTINGS, check, read_seal, sealed
from ettin_core.records.folders import RunFolder, run_folders
from ettin_core.records.item_tables import ItemTable, columns, read_item_tables
from ettin_core.records.schema import TimingRecord, TrainingRecord, to_row
from ettin_core.records.studies import read_study

ARCHIVE = "records.tar.xz"
STUDY = "study.json"
LARGEST = 1 << 30  # bytes that an archive may unpack to
FILES = ("COMPLETE", "config.yaml", "provenance.json", "certificate.json")
DIAGNOSTICS = ("source_losses", "update_ratios", "attention_logits", "mfu")  # of the logs: no report reads them
MEASURED = {"loss": 5, "gradient_norm": 3, "tokens_per_second": 3}  # of the logs, with their digits
LM_EVAL = (
    "measurements_*.jsonl",
    "samples_*.jsonl",
)  # records of lm-eval's command, wherever they are in a run's folder
DIGITS = 5
MANY = 100  # items whose mean has the measurement's digits though each has one less


def pack(study: Path, runs: Path, results: Path) -> Path:
    """Write `results/<name of the study>/records.tar.xz` from a study's folder and the folder of its runs; returns the file.

    Raises ValueError for a study of which a run is missing, and for records that hold a path of this machine.
    """
    file = study / STUDY if study.is_dir() else study
    record = read_study(file)
    folders = {folder.name: folder for folder in run_folders(runs)}
    wanted = sorted({*record["runs"], *(cell["run"] for cell in record.get("cells", []))})
    missing = [name for name in wanted if name not in folders or not folders[name].complete]
    if missing:
        remedy = "start the study again, which trains what is missing"
        raise invalid("add", str(study), f"lacks {len(missing)} of its {len(wanted)} runs, first {missing[0]}", remedy)
    members = {STUDY: file.read_bytes()}
    for name in wanted:
        folder = replace(folders[name], suite=(record.get("suite") or {}).get(name))
        members |= {f"runs/{name}/{path}": content for path, content in _records(folder)}
    _check_paths(members, runs)
    target = results / str(record["name"]) / ARCHIVE
    target.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(target, _archive(members))
    return target


@contextmanager
def unpacked(archive: Path, only: tuple[str, ...] = ()) -> Iterator[Path]:
    """A temporary folder with `study.json` and `runs/`, of these `only` the files of some names.

    Raises ValueError for a file that is not such an archive, and for what is wrong with its records, with its path.
    """
    with tempfile.TemporaryDirectory() as scratch:
        try:
            with tarfile.open(archive, "r:xz") as packed:
                members = packed.getmembers()
                if sum(member.size for member in members) > LARGEST:
                    raise invalid("records", str(archive), "unpacks to more than 1 GiB", "pack the study again")
                chosen = [member for member in members if not only or Path(member.name).name in only]
                packed.extractall(scratch, chosen, filter="data")
        except (tarfile.TarError, lzma.LZMAError, EOFError) as error:
            raise UserError(
                f"records={str(archive)!r} is damaged ({error}); restore it, or pack the study again."
            ) from error
        if not (Path(scratch) / STUDY).is_file():
            raise invalid("records", str(archive), f"holds no {STUDY}", "pack the study again")
        try:
            yield Path(scratch)
        except ValueError as error:
            where = "" if scratch in str(error) else f"records={str(archive)!r}: "
            raise UserError(where + str(error).replace(scratch, str(archive))) from error


def _records(folder: RunFolder) -> Iterator[tuple[str, bytes]]:
    """The files of a run by their paths in it. Raises ValueError for records that are not whole."""
    yield folder.metrics_file.name, _log(folder.training())
    if folder.timing_file.exists():
        yield folder.timing_file.name, _log(folder.timing())
    for place in folder.evaluations().values():
        items = columns(_rounded(read_item_tables(place, folder.name))).encode()
        yield from _evaluation(place, folder, items)
    for checkpoint in folder.evaluated_checkpoints():
        for place in folder.evaluations(checkpoint).values():
            yield from _evaluation(place, folder, columns([]).encode())  # of earlier checkpoints no items are read
    others = [folder.path / name for name in FILES]
    others += [file for pattern in LM_EVAL for file in folder.path.rglob(pattern)]
    for file in filter(Path.is_file, others):
        yield file.relative_to(folder.path).as_posix(), file.read_bytes()


def _log(rows: Sequence[TrainingRecord | TimingRecord]) -> bytes:
    """The rows of a log without diagnostics, and with no more digits than a figure shows of what was measured in each.

    The hash of the data is rolling, so that of the last row speaks for all.
    """
    kept = [{name: value for name, value in to_row(row).items() if name not in DIAGNOSTICS} for row in rows]
    short = [row | {name: _short(row[name], MEASURED[name]) for name in MEASURED.keys() & row.keys()} for row in kept]
    hashed = [row | ({"data_hash": ""} if "data_hash" in row else {}) for row in short[:-1]] + short[-1:]
    return "".join(json.dumps(row, sort_keys=True) + "\n" for row in hashed).encode()


def _evaluation(place: Path, folder: RunFolder, items: bytes) -> Iterator[tuple[str, bytes]]:
    """The files of a protocol's folder, sealed anew."""
    check(place)
    trials = read_seal(place).get("trials", 1) if (place / SEAL).exists() else 1
    files = {MEASUREMENTS: (place / MEASUREMENTS).read_bytes(), COLUMNS: items}
    files[SEAL] = canonical_json(sealed(files, trials)).encode()
    if (place / SETTINGS).exists():
        files[SETTINGS] = (place / SETTINGS).read_bytes()
    for name, content in files.items():
        yield f"{place.relative_to(folder.path).as_posix()}/{name}", content


def _rounded(tables: list[ItemTable]) -> list[ItemTable]:
    """Numbers with as many digits as any table shows, and details without lists. The mean of many items needs fewer of each."""
    return [_rounded_table(table, DIGITS if len(table.items) < MANY else DIGITS - 1) for table in tables]


def _rounded_table(table: ItemTable, digits: int) -> ItemTable:
    details = [
        {name: _short(value, digits) for name, value in row.items() if not isinstance(value, list)}
        for row in table.details
    ]
    return replace(table, values=[_short(value, digits) for value in table.values], details=details)


def _short(value: Any, digits: int = DIGITS) -> Any:
    return float(f"{value:.{digits}g}") if isinstance(value, float) else value


def _check_paths(members: dict[str, bytes], runs: Path) -> None:
    """Records are published: the folder that holds the runs on this machine is nobody's business and means nothing elsewhere."""
    places = {runs.resolve().parent, Path.home()} - {Path("/")}
    paths = [f"{place}/".encode() for place in sorted(places)]
    for name, content in members.items():
        for here in (path for path in paths if path in content):
            raise invalid(
                "add", name, f"holds a path of this machine ({here.decode()}...)", "give relative paths when training"
            )


def _archive(members: dict[str, bytes]) -> bytes:
    """A tar file with sorted names and no times or owners, compressed."""
    buffer = io.BytesIO()
    with lzma.open(buffer, "w", preset=9 | lzma.PRESET_EXTREME) as file, tarfile.open(fileobj=file, mode="w") as packed:
        for name, content in sorted(members.items()):
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            packed.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()
