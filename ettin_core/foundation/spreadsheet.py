"""CSV: the one writer of it. A cell of text never begins what a spreadsheet would calculate. Imports without torch."""

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any

_BEGINNINGS = tuple("=+-@\t\r＝＋－＠")  # of a formula, full-width ones included


def csv_text(columns: Sequence[Any], rows: Iterable[Sequence[Any]]) -> str:
    """Columns and rows as comma-separated values with full precision; what is None or not a number is empty.

    Text that a spreadsheet would read as a formula gets an apostrophe before it, which makes it text there; a number does not.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([_cell(value) for value in row] for row in (columns, *rows))
    return text.getvalue()


def _cell(value: Any) -> Any:
    if isinstance(value, str):
        return f"'{value}" if value.startswith(_BEGINNINGS) and not _is_number(value) else value
    return "" if value is None or value != value else value


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return text.isascii() and not text.isspace() and text[0] not in "\t\r"
