"""The measured coverage of the intervals of packed studies as files: written, summed up in tables, and found when stale.

`coverage.csv` has a row per interval of the studies' tables, `coverage_families.csv` a row per family of tests, and
`coverage.md` what a reader wants of them. Each row names by hash the records and the estimators that it was measured with.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from analysis import inference, render, uncertainty
from analysis.artifacts import MANIFEST, sha256
from analysis.records_archive import ARCHIVE
from analysis.simulate import LEAST, MOST, SURE
from analysis.tables import HOLE, Table, grouped, number
from ettin_core.foundation.storage import hash_file, read_mapping, write_bytes, write_json

INTERVALS, FAMILIES, PAGE = NAMES = ("coverage.csv", "coverage_families.csv", "coverage.md")
WITH = ("inputs", "asked", "seed")  # what a study's rows were measured with
MAKE = "python -m analysis.coverage"
ALL_STUDIES = "all studies"
_PAGE = """# Coverage of the intervals in studies of their own shape

Made by `{make}` from the records beside this page ({studies} studies, {intervals} intervals that differ). For every interval of
every table, studies are drawn from the records: as many seeds, items and clusters of the same sizes, values and variance
components as recorded, and a known truth ([how](../../docs/studies.md#coverage-in-a-studys-own-shape)). All rows are in
[coverage.csv](coverage.csv) and [coverage_families.csv](coverage_families.csv).

{tables}
"""


def tables(intervals: pd.DataFrame, families: pd.DataFrame) -> list[Table]:
    """Coverage by study and kind of interval, the families' errors, and what undecided predictions could have seen.

    None without rows.
    """
    if intervals.empty:
        return []
    of_table = intervals["name"].where(intervals["coverage"].isna(), "")  # one interval may be in several tables
    drawn = ["study", "kind", "seeds", "items", "clusters", "coverage", "error", "sees"]
    intervals = intervals[~intervals[drawn].assign(name=of_table).duplicated()]
    claimed = intervals[intervals["claims"].notna()]
    shown = [_intervals_table(intervals)]
    shown += [_families_table(families)] if len(families) else []
    return [*shown, _power_table(claimed)] if len(claimed) else shown


def _intervals_table(intervals: pd.DataFrame) -> Table:
    rows = [
        (str(study), [str(kind), *_covered(of_kind)])
        for (study, kind), of_kind in _with_all(intervals).groupby(["study", "kind"], sort=False)
    ]
    notes = [
        "Coverage of 95% intervals: mean, and lowest to highest of single intervals. Narrow, wide: how many are below "
        f"{LEAST:.0%} or above {MOST:.0%} by more than {SURE:g} Monte Carlo errors.",
        "Not drawn: how many have fewer than ten clusters to draw from, or nothing that varies.",
    ]
    header = ["Interval", "Number", "Seeds", "Items (clusters)", "Coverage", "Lowest to highest", "Narrow", "Wide"]
    return Table("coverage", "Coverage in studies of the same shape", [*header, "Not drawn"], grouped(rows), notes)


def _families_table(families: pd.DataFrame) -> Table:
    rows = [
        (str(study), [str(table), f"{len(of_table)}", _span(of_table["tests"]), *_errors(of_table)])
        for (study, table), of_table in _with_all(families).groupby(["study", "table"], sort=False)
    ]
    notes = [
        "Error: studies without any effect that have at least one verdict in a family, after Holm. ±: Monte Carlo error."
    ]
    header = ["Table", "Families", "Tests", "Error, mean", "Error, largest"]
    return Table("coverage_families", "False verdicts of families of tests", header, grouped(rows), notes)


def _with_all(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of all studies together first, where there are several."""
    return pd.concat([rows.assign(study=ALL_STUDIES), rows]) if rows["study"].nunique() > 1 else rows


def _power_table(claimed: pd.DataFrame) -> Table:
    rows = [
        (str(row["study"]), [row["name"], number(row["claims"]), number(row["sees"])])
        for row in claimed.to_dict("records")
    ]
    notes = ["Drawn: the effect that four in five drawn studies find at the same level."]
    header = ["Undecided prediction", "Could see", "Drawn"]
    return Table("coverage_power", "What undecided predictions could have seen", header, grouped(rows), notes)


def _covered(intervals: pd.DataFrame) -> list[str]:
    drawn = intervals[intervals["coverage"].notna()]
    shape = [_span(intervals["seeds"]), f"{_span(intervals['items'])} ({_span(intervals['clusters'])})"]
    rest = str(len(intervals) - len(drawn) or "")
    if drawn.empty:
        return ["0", *shape, HOLE, HOLE, "", "", rest]
    low, high = beyond(drawn)
    covered = drawn["coverage"]
    span = f"{_percent(covered.min())} to {_percent(covered.max())}"
    return [str(len(drawn)), *shape, _percent(covered.mean()), span, str(low or ""), str(high or ""), rest]


def beyond(drawn: pd.DataFrame) -> tuple[int, int]:
    """How many intervals are too narrow, and how many too wide, by more than the Monte Carlo error."""
    doubt = SURE * np.sqrt(drawn["coverage"] * (1 - drawn["coverage"]) / drawn["studies"])
    low, high = drawn["coverage"] < LEAST - doubt, drawn["coverage"] > MOST + doubt
    return int(low.sum()), int(high.sum())


def _errors(families: pd.DataFrame) -> list[str]:
    worst = families.loc[families["error"].idxmax()]
    doubt = (worst["error"] * (1 - worst["error"]) / worst["studies"]) ** 0.5
    return [_percent(families["error"].mean()), f"{_percent(worst['error'])} ± {_percent(doubt)}"]


def _span(values: pd.Series) -> str:
    low, high = f"{values.min():,}", f"{values.max():,}"
    return low if low == high else f"{low}–{high}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f}%"


def inputs(archive: Path) -> str:
    """The hash of a study's records together with the estimators."""
    code = b"".join(Path(str(module.__file__)).read_bytes() for module in (inference, uncertainty))
    return sha256(hash_file(archive).encode() + code)[:16]


def write(results: Path, intervals: pd.DataFrame, families: pd.DataFrame) -> list[Table]:
    """Write the files, and their hashes in the manifest of `results`; returns the tables."""
    shown = tables(intervals, families)
    differing = intervals.drop_duplicates(["study", "kind", "coverage", "sees"])
    page = _PAGE.format(
        make=MAKE,
        studies=intervals["study"].nunique(),
        intervals=int(differing["coverage"].notna().sum()),
        tables="\n".join(render.markdown(table) for table in shown),
    )
    texts = dict(zip(NAMES, (render.csv(intervals), render.csv(families), page), strict=True))
    for name, content in texts.items():
        write_bytes(results / name, content.encode())
    hashes = {name: sha256(content.encode()) for name, content in texts.items()}
    if (results / MANIFEST).exists():
        write_json(results / MANIFEST, dict(sorted((read_mapping(results / MANIFEST) | hashes).items())))
    return shown


def committed(results: Path) -> dict[Path, bytes]:
    """The files that there are."""
    return {results / name: (results / name).read_bytes() for name in NAMES if (results / name).exists()}


def read(results: Path) -> list[pd.DataFrame]:
    """The committed rows of intervals and families, which are empty where there are no files."""
    if not all((results / name).exists() for name in (INTERVALS, FAMILIES)):
        return [pd.DataFrame(columns=["study", *WITH]) for _ in range(2)]
    return [pd.read_csv(results / name, keep_default_na=False, na_values=[""]) for name in (INTERVALS, FAMILIES)]


def stale(results: Path) -> list[str]:
    """A line for each study whose coverage was measured with other records or estimators, or not at all."""
    measured = read(results)[0].groupby("study")["inputs"].first().to_dict()
    present = {archive.parent.name: inputs(archive) for archive in sorted(results.glob(f"*/{ARCHIVE}"))}
    changed = [study for study in sorted({*present, *measured}) if present.get(study) != measured.get(study)]
    return [f"{results / INTERVALS} is stale for {study} ({MAKE})" for study in changed]
