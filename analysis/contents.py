"""What a report says as data (`report.json`), for whatever typesets it: texts of tables, captions, and numbers by key."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from analysis.figures import ReportFigure
from analysis.study_records import StudyRecords
from analysis.tables import Table

FILE = "report.json"


def contents(
    study: StudyRecords, tables: Sequence[Table], figures: Sequence[ReportFigure], numbers: dict[str, str]
) -> str:
    """The report of a study as JSON; its figures are the files of their names beside it."""
    described: dict[str, Any] = {
        "study": study.name,
        "claim": study.claim,
        "numbers": numbers,
        "tables": [asdict(table) for table in tables],
        "figures": [
            {
                "name": figure.name,
                "title": figure.title,
                "caption": f"{figure.caption} {figure.note}".rstrip(),
            }
            for figure in figures
        ],
    }
    return json.dumps(described, indent=1, ensure_ascii=False) + "\n"
