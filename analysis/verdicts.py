"""Every prediction of every packed study with its verdict: one table for the page of findings, and for the paper."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from analysis import predictions, render
from analysis.records_archive import ARCHIVE
from analysis.tables import HOLE, number, probability, signed
from analysis.wording import measured_name

NAMES = ("verdicts.csv", "verdicts.md")
FROM = "predictions.csv"  # of a study's report
COLUMNS = ["study", "statement", "measured", "left", "right", "sign", "least", "most", "value", "low", "high"]
COLUMNS += ["p_corrected", "could_see", "verdict", "stated", "reason", "source", "figure", "records"]
HEADER = ["Prediction", "Measured by", "Predicted", "Difference [95%]", "p (Holm)", "Verdict", "Stated", "Study"]


def collect(results: Path, reported: Mapping[Path, bytes], figures: Mapping[str, str]) -> pd.DataFrame:
    """A row per prediction and measurement, study by study, from the files of the studies' reports by path.

    `figures` has the name of each study's main figure.
    """
    tables = []
    for path in sorted(path for path in reported if path.name == FROM and path.parent.parent == results):
        study = path.parent.name
        figure = f"{study}/{figures[study]}.png" if study in figures else ""
        rows = pd.read_csv(io.BytesIO(reported[path]), keep_default_na=False, na_values=[""])
        rows = rows.assign(study=study, figure=figure)
        tables.append(rows.assign(records=f"{study}/{ARCHIVE}").reindex(columns=COLUMNS))
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=COLUMNS)


def tally(rows: pd.DataFrame) -> dict[str, int]:
    """How many rows have each verdict."""
    return {word: int((rows["verdict"] == word).sum()) for word in predictions.VERDICTS}


def shown(row: dict[str, Any]) -> dict[str, str]:
    """A row as it is read, by the heading of its column; the study without links."""
    bounds = "" if pd.isna(row["low"]) else f" [{signed(row['low'])}, {signed(row['high'])}]"
    hidden = row["verdict"] == predictions.UNDECIDED and not pd.isna(row["could_see"])
    return {
        "Prediction": str(row["statement"]),
        "Measured by": measured_name(str(row["measured"])),
        "Predicted": _predicted(row),
        "Difference [95%]": HOLE if pd.isna(row["value"]) else signed(row["value"]) + bounds,
        "p (Holm)": HOLE if pd.isna(row["p_corrected"]) else probability(row["p_corrected"]),
        "Verdict": row["verdict"] + (f" (could see {number(row['could_see'])})" if hidden else ""),
        "Stated": HOLE if pd.isna(row["stated"]) else str(row["stated"]),
        "Study": str(row["study"]),
    }


def _predicted(row: dict[str, Any]) -> str:
    if pd.isna(row["sign"]):
        return f"{row['left']} − {row['right']} in [{signed(row['least'])}, {signed(row['most'])}]"
    return f"{row['left']} {row['sign']} than {row['right']}"


def markdown(rows: pd.DataFrame, place: str) -> str:
    """The table with links from each study to its page, main figure and records, which are in the folder `place`."""
    lines = [HEADER, ["---"] * len(HEADER)]
    for row in rows.to_dict("records"):
        lines.append(list((shown(row) | {"Study": links(row, place)}).values()))
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines) + "\n"


def links(row: Mapping[str, Any], place: str) -> str:
    """Links from a row to its study's page, main figure and records, which are in the folder `place`."""
    parts = [f"[{row['study']}]({place}/{row['study']}/README.md)"]
    parts += [f"[figure]({place}/{row['figure']})"] if row["figure"] else []
    return ", ".join([*parts, f"[records]({place}/{row['records']})"])


def files(rows: pd.DataFrame) -> dict[str, bytes]:
    """The table as files by name."""
    return {"verdicts.csv": render.csv(rows).encode(), "verdicts.md": markdown(rows, ".").encode()}
