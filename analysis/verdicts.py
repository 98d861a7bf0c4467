"""Every prediction of every packed study with its verdict: one table for the page of findings, and for the paper."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from analysis import predictions, render
from analysis.records_archive import ARCHIVE
from analysis.tables import HOLE, number, probability, signed
from analysis.wording import metric_name, protocol_name

NAMES = ("verdicts.csv", "verdicts.md")
FROM = "predictions.csv"  # of a study's report
COLUMNS = ["study", "statement", "measured", "left", "right", "sign", "least", "most", "value", "low", "high"]
COLUMNS += ["p_corrected", "could_see", "verdict", "reason", "source", "figure", "records"]
HEADER = ["Prediction", "Measured by", "Predicted", "Difference [95%]", "p (Holm)", "Verdict", "Study"]


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
    protocol, *rest = (part.strip() for part in str(row["measured"]).split(":"))
    if rest:
        rest[-1] = metric_name(rest[-1])
    bounds = "" if pd.isna(row["low"]) else f" [{signed(row['low'])}, {signed(row['high'])}]"
    hidden = row["verdict"] == predictions.UNDECIDED and not pd.isna(row["could_see"])
    return {
        "Prediction": str(row["statement"]),
        "Measured by": ": ".join(filter(None, [protocol_name(protocol), ", ".join(filter(None, rest))])),
        "Predicted": _predicted(row),
        "Difference [95%]": HOLE if pd.isna(row["value"]) else signed(row["value"]) + bounds,
        "p (Holm)": HOLE if pd.isna(row["p_corrected"]) else probability(row["p_corrected"]),
        "Verdict": row["verdict"] + (f" (could see {number(row['could_see'])})" if hidden else ""),
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
        links = [f"[{row['study']}]({place}/{row['study']}/README.md)"]
        links += [f"[figure]({place}/{row['figure']})"] if row["figure"] else []
        links.append(f"[records]({place}/{row['records']})")
        lines.append(list((shown(row) | {"Study": ", ".join(links)}).values()))
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines) + "\n"


def files(rows: pd.DataFrame) -> dict[str, bytes]:
    """The table as files by name."""
    return {"verdicts.csv": render.csv(rows).encode(), "verdicts.md": markdown(rows, ".").encode()}
