"""What the studies cost: runs, tokens, FLOPs and hours of computing of each, and of all with every run counted once."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from analysis import render
from analysis.study_records import rows_of
from analysis.tables import HOLE, Table, number, power

NAMES = ("hours.csv", "hours.md")
FROM = "rulers.csv"  # of a study's report: a row per run
COLUMNS = ["run", "tokens", "loss_tokens", "flops", "seconds", "cores", "device"]
ALL_STUDIES = "all, each run once"
HEADER = ["Study", "Runs", "Shared", "Tokens, millions", "Loss-bearing, millions", "FLOPs", "Core-hours", "On"]


def collect(results: Path, reported: Mapping[Path, bytes]) -> pd.DataFrame:
    """A row per study, and one for all, from the files of the studies' reports by path.

    `core_hours` are the seconds that training recorded times the cores (or devices) that it had; not a number where a run
    recorded none. `shared` counts the runs that another study has, too.
    """
    runs = {}
    for path in sorted(path for path in reported if path.name == FROM and path.parent.parent == results):
        runs[path.parent.name] = pd.read_csv(io.BytesIO(reported[path])).reindex(columns=COLUMNS)
    if not runs:
        return pd.DataFrame(
            columns=["study", "runs", "shared", "tokens", "loss_tokens", "flops", "core_hours", "devices"]
        )
    together = pd.concat([frame.assign(study=study) for study, frame in runs.items()], ignore_index=True)
    shared = together.groupby("run")["study"].transform("nunique") > 1
    rows = [_summed(study, group, shared[group.index]) for study, group in together.groupby("study", sort=False)]
    once = together.drop_duplicates("run")
    return pd.DataFrame([*rows, _summed(ALL_STUDIES, once, shared[once.index])])


def _summed(study: Any, runs: pd.DataFrame, shared: pd.Series) -> dict[str, Any]:
    sums = {name: float(runs[name].sum()) for name in ("tokens", "loss_tokens", "flops")}
    hours = (runs["seconds"] * runs["cores"].where(runs["seconds"] > 0, 0)).sum(skipna=False) / 3600
    devices = ", ".join(sorted(runs["device"].dropna().unique()))
    return {
        "study": study,
        "runs": len(runs),
        "shared": int(shared.sum()),
        **sums,
        "core_hours": hours,
        "devices": devices,
    }


def table(rows: pd.DataFrame) -> Table:
    """A row for each study."""
    lines = [
        [
            str(row.study),
            f"{row.runs:,}",
            f"{row.shared:,}",
            f"{row.tokens / 1e6:.1f}",
            f"{row.loss_tokens / 1e6:.1f}",
            power(row.flops) if row.flops else "0",
            HOLE if pd.isna(row.core_hours) else number(row.core_hours),
            str(row.devices),
        ]
        for row in rows_of(rows)
    ]
    notes = [
        "Core-hours: the seconds that training recorded times its cores, or devices. Other work ran beside it, and "
        f"measuring is not counted. Shared: runs that another study has, too. {HOLE}: a run without a recorded time.",
    ]
    return Table("hours", "Hours of computing", HEADER, [("", lines)] if lines else [], notes)


def files(rows: pd.DataFrame) -> dict[str, bytes]:
    """The table as files by name."""
    return {"hours.csv": render.csv(rows).encode(), "hours.md": render.markdown(table(rows)).encode()}
