"""The one reader of evaluation sets: JSON lines, plain or compressed, as other tools write them; mistakes by file and line.

Read as they are: a byte order mark, CRLF, blank lines, fields that are not asked for. Errors are a line that is not a JSON object
of valid text and finite numbers, a field that is missing or of another kind, an id that comes twice, a file without rows.
"""

import json
import math
from collections.abc import Iterator, Mapping
from io import TextIOWrapper
from pathlib import Path
from typing import Any

from ettin_core.data.importers.compression import DAMAGE, open_bytes
from ettin_core.foundation.errors import UserError, invalid

SUFFIXES = (".jsonl.gz", ".jsonl", ".jsonl.zst")
Kind = type | tuple[type, ...]
NUMBER = (int, float)
FOLDER = "give the folder of evaluation sets; python -m experiments.make_eval_sets out=<folder> makes a small one"


def find(folder: Path, name: str) -> Path | None:
    """The file of a set, which is named without its suffix or with any; None where there is none.

    Raises ValueError where it is there twice, plain and compressed.
    """
    stem = stem_of(name)
    paths = [path for suffix in SUFFIXES if (path := folder / f"{stem}{suffix}").is_file()]
    if len(paths) > 1:
        raise invalid("eval_data", str(paths[0]), f"is there a second time as {paths[1].name}", "keep one of them")
    return paths[0] if paths else None


def need(folder: Path, name: str, field: str = "eval_data") -> Path:
    """The file of a set. Raises ValueError where the folder is none or lacks it."""
    if not folder.is_dir():
        raise invalid(field, str(folder), "is not a folder", FOLDER)
    path = find(folder, name)
    if path is None:
        raise invalid(
            field, str(folder), f"lacks {name}", f"add the file (.jsonl, .jsonl.gz or .jsonl.zst), or {FOLDER}"
        )
    return path


def stem_of(name: str) -> str:
    """A file's name without the suffix of JSON lines."""
    return next((name.removesuffix(suffix) for suffix in SUFFIXES if name.endswith(suffix)), name)


def rows_of(path: Path, key: tuple[str, ...] = ("id",)) -> Iterator[tuple[str, dict[str, Any]]]:
    """The rows of a file, each with its place (file:line); those that have the fields of `key` are unlike in them.

    Raises ValueError naming file and line for the errors above.
    """
    seen: dict[tuple[Any, ...], str] = {}
    number, last = 0, None
    try:
        with open_bytes(path) as stream:
            for number, line in enumerate(TextIOWrapper(stream, encoding="utf-8-sig"), start=1):
                if line.strip():
                    last = place = f"{path}:{number}"
                    row = _row(line, place)
                    _check_new(row, key, place, seen)
                    yield place, row
    except DAMAGE as error:
        where = f"{path}:{number + 1}"
        raise invalid("file", where, f"is cut short or damaged ({error})", "fetch the file again") from error
    except UnicodeDecodeError as error:
        raise invalid("row", f"{path}:{number + 1}", f"is not UTF-8 ({error.reason})", "re-encode the file") from error
    if last is None:
        raise invalid("file", str(path), "holds no rows", "give a file with rows")


def checked_rows(
    path: Path,
    fields: Mapping[str, Kind],
    optional: frozenset[str] = frozenset(),
    key: tuple[str, ...] = ("id",),
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Rows that have `fields` of the given kinds, or null or nothing in the `optional` ones; other fields are ignored.

    Raises ValueError naming file, line and field.
    """
    for place, row in rows_of(path, key):
        for name, kind in fields.items():
            check_field(row, name, kind, place, name in optional, f"give each row {', '.join(fields)}")
        yield place, row


def check_field(row: Mapping[str, Any], name: str, kind: Kind, place: str, optional: bool, remedy: str) -> None:
    """Raises ValueError for a row without a field, or with a value of another kind in it."""
    value = row.get(name)
    if value is None or value == "":
        if not optional:
            raise invalid("row", place, f"lacks a value of the field {name!r}", remedy)
    elif not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise invalid("row", place, f"has a {type(value).__name__} in the field {name!r}", remedy)


def _row(line: str, place: str) -> dict[str, Any]:
    if "\0" in line:  # as in a file that was not written to its end, or one of UTF-16
        raise invalid("row", place, "holds NUL bytes", "fetch the file again, or write it as UTF-8")
    try:
        row = json.loads(line, parse_constant=_finite, parse_float=_finite)
        if "\\u" in line:
            json.dumps(row, ensure_ascii=False).encode()
    except UserError as error:
        raise invalid("row", place, str(error), "give a finite number") from error
    except UnicodeEncodeError as error:
        raise invalid(
            "row", place, "holds half a surrogate pair, which is not a character", "correct the line"
        ) from error
    except (ValueError, RecursionError) as error:
        limit = "nested too deeply" if isinstance(error, RecursionError) else "a number has too many digits"
        reason = error.msg if isinstance(error, json.JSONDecodeError) else limit
        raise invalid("row", place, f"is not JSON ({reason})", "give one object per line") from error
    if not isinstance(row, dict):
        problem = f"is not an object but a {type(row).__name__}"
        raise invalid("row", place, problem, "give one object per line")
    return row


def _finite(text: str) -> float:
    """A number. Raises ValueError for NaN, Infinity, and what is beyond a float (1e999)."""
    value = float(text)
    if not math.isfinite(value):
        raise UserError(f"holds {text}")
    return value


def _check_new(row: dict[str, Any], key: tuple[str, ...], place: str, seen: dict[tuple[Any, ...], str]) -> None:
    """Remember a row's key. Raises ValueError for one that came before: a row would be lost, or count twice."""
    if not all(isinstance(row.get(name), (str, int)) for name in key):
        return
    values = tuple(row[name] for name in key)
    if values in seen:
        shown = ", ".join(f"{name}={value!r}" for name, value in zip(key, values, strict=True))
        raise invalid("row", place, f"has the {shown} of {seen[values]}", "give every row a different id")
    seen[values] = place
