"""Rows of evaluation sets, whose mistakes are told by file and line before any work starts."""

import gzip
import json
import zlib
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from ettin_core.foundation.errors import invalid

PACKAGES = ("sentence_transformers", "mteb", "datasets")


def need_packages() -> None:
    """Refuse (ValueError) to begin without the optional packages of this room."""
    for name in PACKAGES:
        try:
            import_module(name)
        except ImportError as error:
            raise invalid("package", name, "is not installed", 'pip install -e ".[embedding]"') from error


def need_file(path: Path) -> Path:
    """The file itself. Raises ValueError when it is not there."""
    if not path.is_file():
        raise invalid("file", str(path), "is missing", "add it to the folder of evaluation sets (eval_data)")
    return path


def rows_of(path: Path, fields: Mapping[str, type], others: bool = True) -> Iterator[dict[str, Any]]:
    """Rows of a gzipped JSON-lines file that have `fields` of the given types (`others`: and may have more).

    Raises ValueError naming file and line.
    """
    number = 0
    try:
        with gzip.open(need_file(path), "rt", encoding="utf-8") as stream:
            for number, line in enumerate(stream, 1):
                row = json.loads(line)
                _check(row, fields, others, f"{path}:{number}")
                yield row
    except (EOFError, gzip.BadGzipFile, zlib.error, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise invalid("file", f"{path}:{number + 1}", f"is damaged ({error})", "fetch the file again") from error


def _check(row: Any, fields: Mapping[str, type], others: bool, place: str) -> None:
    remedy = f"give each row {', '.join(fields)}"
    if not isinstance(row, dict):
        raise invalid("row", place, "is not a JSON object", remedy)
    for name, kind in fields.items():
        if name not in row:
            raise invalid("row", place, f"lacks the field {name!r}", remedy)
        if not isinstance(row[name], (int, float) if kind is float else kind):
            raise invalid("row", place, f"has a {name!r} that is no {kind.__name__}", "mend the row")
    unknown = sorted(set(row) - set(fields))
    if unknown and not others:
        raise invalid("row", place, f"has the unknown field {unknown[0]!r}", remedy)


def judgements(path: Path) -> dict[str, dict[str, int]]:
    """Relevance of documents by query, from a table in BEIR's form (a header, then query, document and score by tabs)."""
    found: dict[str, dict[str, int]] = {}
    for number, line in enumerate(need_file(path).read_text(encoding="utf-8").splitlines()[1:], 2):
        cells = line.split("\t")
        if len(cells) != 3 or not cells[2].lstrip("-").isdigit():
            remedy = "write query-id, corpus-id and a whole number, separated by tabs, below a header"
            raise invalid("row", f"{path}:{number}", "is no judgement", remedy)
        found.setdefault(cells[0], {})[cells[1]] = int(cells[2])
    if not found:
        raise invalid("file", str(path), "holds no judgements", "add some, or leave the split out")
    return found
