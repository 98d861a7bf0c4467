"""The folder of one protocol's records: which settings they were measured with, and whether they are as they were written.

evaluations/<protocol>@<version>/ holds measurements.jsonl, items.jsonl and settings.json; what the same protocol measured with
other settings is stored beside it, in <protocol>@<version>+<hash of its settings>/. records.json seals a folder: the rows and
the sha256 of each file, and the trials behind them. Folders that are older have none. Packed records have their items by columns
in items.json instead (item_tables.py).
"""

import hashlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ettin_core.foundation.errors import UserError, invalid
from ettin_core.foundation.storage import (
    NAME_HASH_LENGTH,
    canonical_json,
    check_shape,
    hash_file,
    hash_text,
    read_mapping,
    write_json,
)

MEASUREMENTS, ITEMS, COLUMNS = "measurements.jsonl", "items.jsonl", "items.json"
FILES = (MEASUREMENTS, ITEMS)
SEAL, SETTINGS = "records.json", "settings.json"
OF_THE_MODEL = ("weights", "readout")  # settings that belong to the measured model, not to the suite
AGAIN = "evaluate the run again, which measures it anew"


def settings_hash(settings: dict[str, Any]) -> str:
    """The hash of how a protocol was measured, the same for every model."""
    shared = {name: value for name, value in settings.items() if name not in OF_THE_MODEL}
    return hash_text(canonical_json(shared))[:NAME_HASH_LENGTH]


def place_of(usual: Path, settings: dict[str, Any]) -> Path:
    """Where records of these settings go: beside those of others, which stay."""
    key = settings_hash(settings)
    held = by_settings(usual.parent).get(usual.name, {})
    return held.get(key, usual if usual not in held.values() else beside(usual, settings))


def beside(usual: Path, settings: dict[str, Any]) -> Path:
    """The folder beside the usual one that is named by its settings."""
    return usual.with_name(f"{usual.name}+{settings_hash(settings)}")


def seal(folder: Path, trials: int = 1) -> None:
    """Note the rows and the hash of each file of records, and the number of trials that they sum up."""
    write_json(folder / SEAL, sealed({name: (folder / name).read_bytes() for name in FILES}, trials))


def sealed(files: Mapping[str, bytes], trials: int = 1) -> dict[str, Any]:
    """What a seal says of files of records by their names."""
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    return {name: {"rows": files[name].count(b"\n"), "sha256": hashes[name]} for name in files} | {"trials": trials}


def read_seal(folder: Path) -> dict[str, Any]:
    """The seal of a folder of records, by rows or by columns. Raises ValueError naming the file for anything else."""
    content = read_mapping(folder / SEAL, AGAIN)
    items = COLUMNS if COLUMNS in content else ITEMS
    check_shape(folder / SEAL, content, AGAIN, True, **{MEASUREMENTS: dict, items: dict})
    return content


def check(folder: Path) -> None:
    """Raises ValueError naming the file of records that is missing, cut short or changed."""
    if not (folder / SEAL).exists():
        file = folder / MEASUREMENTS
        if not file.is_file() or not file.read_bytes().endswith(b"\n"):
            raise invalid("records", str(file), "is missing, empty or cut short", AGAIN)
        return
    for name, known in read_seal(folder).items():
        if not isinstance(known, dict):
            continue
        file = folder / name
        if not file.is_file():
            raise invalid("records", str(file), f"is missing ({known.get('rows')} rows)", AGAIN)
        if hash_file(file) != known.get("sha256"):
            problem = f"has {_rows(file)} rows of {known.get('rows')}, or others than were written"
            raise invalid("records", str(file), problem, AGAIN)


def holds(folder: Path, settings: dict[str, Any]) -> bool:
    """Whether a folder holds records of these settings. Raises ValueError if they are damaged."""
    file = folder / SETTINGS
    if not file.exists() or read_mapping(file) != settings:
        return False
    check(folder)
    return True


def measured(folder: Path, settings: dict[str, Any]) -> bool:
    """Whether a folder holds whole records of these settings; prints that damaged ones are measured again."""
    try:
        return holds(folder, settings)
    except UserError as error:
        tqdm.write(f"{error} It is measured again now.", file=sys.stderr)
        return False


def by_settings(place: Path) -> dict[str, dict[str, Path]]:
    """The folders of records in a place, by <protocol>@<version> and by the hash of their settings."""
    folders: dict[str, dict[str, Path]] = {}
    marks = {file.parent for name in (*FILES, COLUMNS, SETTINGS) for file in place.glob(f"[!.]*@*/{name}")}
    for folder in sorted(marks):
        file = folder / SETTINGS
        if not file.exists() and not (folder / MEASUREMENTS).exists():
            continue
        key = settings_hash(read_mapping(file, AGAIN)) if file.exists() else ""
        folders.setdefault(folder.name.partition("+")[0], {})[key] = folder
    return folders


def chosen(place: Path, suite: dict[str, str] | None) -> dict[str, Path]:
    """The folder of each protocol: of a suite's protocols the one with its settings, else the one that asks most."""
    result = {}
    for name, folders in by_settings(place).items():
        if suite is not None and name in suite:
            if suite[name] in folders:
                result[name] = folders[suite[name]]
        else:
            result[name] = max(folders.values(), key=_asked)
    return result


def _asked(folder: Path) -> tuple[int, int]:
    """How much was asked: the items, and of as many the trials; by the seal, which damage to the rows does not change."""
    if not (folder / SEAL).exists():
        return _rows(folder / ITEMS), 0
    content = read_seal(folder)
    return content.get(ITEMS, content.get(COLUMNS, {})).get("rows", 0), content.get("trials", 1)


def _rows(file: Path) -> int:
    return file.read_bytes().count(b"\n") if file.is_file() else 0
