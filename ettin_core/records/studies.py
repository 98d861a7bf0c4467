"""What a study leaves for the analysis: study.json, and the certificates of its pairs."""

from pathlib import Path
from typing import Any

from ettin_core.foundation.errors import invalid
from ettin_core.foundation.storage import check_shape, read_mapping
from ettin_core.records.predictions import check_stated

REMEDY = "start the study again, which writes it anew"
CERTIFICATE: dict[str, type] = {"pair": str, "left": str, "right": str, "verdict": str, "differences": list}
CERTIFICATE |= {"evidence": dict}
CELL: dict[str, type] = {"name": str, "run": str, "axes": dict}


def read_study(path: Path) -> dict[str, Any]:
    """A study's record. Raises ValueError naming the file for anything else."""
    study = read_mapping(path, REMEDY, name=str, runs=list, certificates=list)
    check_shape(path, study, REMEDY, False, cells=list, analysis=dict, claim=str, suite=dict, predictions=dict)
    for number, run in enumerate(study["runs"]):
        if not isinstance(run, str):
            raise invalid("file", str(path), f"holds {run!r} as run {number} instead of a name", REMEDY)
    for run, measured in (study.get("suite") or {}).items():
        check_shape(path, measured, REMEDY, True, f"suite.{run}")
    for place, kind in (("cells", CELL), ("certificates", CERTIFICATE)):
        for number, item in enumerate(study.get(place) or []):
            check_shape(path, item, REMEDY, True, f"{place}.{number}", **kind)
    _check_names(path, study.get("cells") or [])
    if study.get("predictions") is not None:
        check_stated(path, study["predictions"])
    return study


def _check_names(path: Path, cells: list[dict[str, Any]]) -> None:
    """Raises ValueError for a cell that two runs claim."""
    runs: dict[str, str] = {}
    for cell in cells:
        if cell["name"] in runs:
            both = f"{runs[cell['name']]} and {cell['run']}"
            raise invalid("file", str(path), f"holds the cell {cell['name']!r} twice ({both})", REMEDY)
        runs[cell["name"]] = cell["run"]
