"""What others published, and what became of it: each claim with the predictions of packed studies that test it.

`claims.yaml` names the claims and, without a number, their tests. A prediction with a source that no claim there names is a
claim in its own words, so that none is lost. A test whose study is not packed, or does not state it, is a hole with its reason.
"""

from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pandas as pd

from analysis import render, verdicts
from analysis.predictions import NOT_MEASURED, VERDICTS
from analysis.tables import HOLE, Table, number
from ettin_core.foundation.errors import invalid
from ettin_core.foundation.storage import read_mapping

NAMES = ("claims.csv", "claims.md")
FILE = Path(__file__).with_name("claims.yaml")
FIELDS = {"claim", "source", "tests"}
PICKS = ("study", "statement", "measured", "left", "right")  # columns that a test may name
HEADER = ["Claim, and what tests it", "Measured by", "Difference [95%]", "Could see", "Verdict", "Stated", "Study"]


def read(file: Path = FILE) -> list[dict[str, Any]]:
    """The claims with their sources and tests. Raises ValueError for one that lacks a field, or a test without a study."""
    claims = read_mapping(file, "restore it", claims=list)["claims"]
    for place, claim in enumerate(claims):
        if not isinstance(claim, dict) or claim.keys() != FIELDS:
            problem = f"does not have the fields {', '.join(sorted(FIELDS))}"
            raise invalid(f"claims.{place}", claim, problem, f"correct {file}")
        for test in claim["tests"]:
            if "study" not in test or not set(test) <= set(PICKS) or len(test) < 2:
                problem = f"is not a study and one or more of {', '.join(PICKS[1:])}"
                raise invalid(f"claims.{place}.tests", test, problem, f"correct {file}")
    return list(claims)


def collect(judged: pd.DataFrame, packed: set[str], claims: list[dict[str, Any]]) -> pd.DataFrame:
    """A row per claim and test, with the columns of the verdicts, `claim`, and `hole` where there is nothing to judge.

    `packed` are the studies that have records.
    """
    rows: list[dict[str, Any]] = []
    used: set[Any] = set()
    for claim in claims:
        for test in claim["tests"]:
            matching = judged[_matches(judged, test)]
            used |= set(matching.index)
            named = {"claim": claim["claim"], "source": claim["source"]}
            rows += [row | named for row in matching.to_dict("records")] or [named | _lacking(test, packed)]
    alone = judged[judged["source"].notna() & ~judged.index.isin(used)]
    rows += [row | {"claim": row["statement"]} for row in alone.to_dict("records")]
    return pd.DataFrame(
        rows, columns=["claim", "source", *(name for name in verdicts.COLUMNS if name != "source"), "hole"]
    )


def _matches(judged: pd.DataFrame, test: Mapping[str, str]) -> pd.Series:
    keep = judged["study"].astype(str).map(lambda study: fnmatchcase(study, test["study"]))
    for column, value in test.items():
        if column != "study":
            keep &= judged[column].astype(str) == value
    return keep.astype(bool)


def _lacking(test: Mapping[str, str], packed: set[str]) -> dict[str, Any]:
    """A test without a row: the study, what it is about, and why there is no verdict."""
    packed_one = any(fnmatchcase(name, test["study"]) for name in packed)
    reason = "its study states no such prediction" if packed_one else "its study was not run"
    picked = test.get("statement") or ", ".join(value for name, value in test.items() if name != "study")
    return {"study": test["study"].rstrip("*"), "statement": picked, "verdict": NOT_MEASURED, "hole": reason}


def in_words(rows: pd.DataFrame) -> str:
    """What became of a claim: the verdict that all its tests share, or how many have which."""
    numbers = rows["verdict"].value_counts()
    if len(numbers) == 1:
        return str(numbers.index[0]) + (f" in all {len(rows)}" if len(rows) > 1 else "")
    return ", ".join(f"{word} in {numbers[word]}" for word in VERDICTS if word in numbers) + f" of {len(rows)}"


def table(rows: pd.DataFrame, place: str | None = None) -> Table:
    """A section for each claim with its verdict, a row for each test.

    With the folder of results as `place`, studies are links to their page, main figure and records.
    """
    sections = []
    for (claim, source), tests in rows.groupby(["claim", "source"], sort=False):
        title = f"{claim}. {source}: {in_words(tests)}"
        sections.append((title, [_cells(row, place) for row in tests.to_dict("records")]))
    notes = [
        "A section is a published claim, with what became of it. A row is a prediction that tests it, judged within its study, "
        "Holm-corrected over that study's predictions.",
        "Difference: the first side of the prediction less the second. Could see: a true difference of this size would have been "
        "found with power 0.8.",
        "Stated: how many cells of the study had begun to train when the prediction was written down. Where all "
        "had, it repeats what was published, or is about what was made of the trained cells afterwards.",
    ]
    return Table("claims", "Published claims, and what became of them", HEADER, sections, notes)


def _cells(row: dict[str, Any], place: str | None) -> list[str]:
    if isinstance(row["hole"], str):
        return [str(row["statement"]), HOLE, HOLE, HOLE, f"{row['verdict']}: {row['hole']}", HOLE, str(row["study"])]
    shown = verdicts.shown(row)
    return [
        *(shown[name] for name in ("Prediction", "Measured by", "Difference [95%]")),
        HOLE if pd.isna(row["could_see"]) else number(row["could_see"]),
        str(row["verdict"]),
        shown["Stated"],
        shown["Study"] if place is None else verdicts.links(row, place),
    ]


def files(rows: pd.DataFrame) -> dict[str, bytes]:
    """The table as files by name."""
    return {"claims.csv": render.csv(rows).encode(), "claims.md": render.markdown(table(rows, ".")).encode()}


def counts(rows: pd.DataFrame) -> dict[str, int]:
    """How many claims there are, and how many of them something measured tests."""
    of = rows[["claim", "source"]]
    measured = of[rows["verdict"] != NOT_MEASURED]
    return {"claims": len(of.drop_duplicates()), "claims/tested": len(measured.drop_duplicates())}
