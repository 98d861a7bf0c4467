"""The scores of single runs, which other studies can be compared with: a row per run and main measurement."""

import pandas as pd

from analysis.estimates import headline
from analysis.families import is_part
from analysis.study_records import MEASURE, StudyRecords

NAME = "scores.csv"
OF_RUN = ["member", "seed", "block", "direction", "objective", "readout", "tokens", "data_hash", "parent"]
OF_SCORE = ["value", "standard_error", "n", "higher_is_better"]


def run_scores(study: StudyRecords) -> pd.DataFrame:
    """What every run scored, with what it was trained on and the levels of its cell."""
    measured = headline(study.measurements[~is_part(study.measurements)])
    axes = pd.DataFrame({cell["run"]: cell["axes"] for cell in study.cells.values()}).T
    beside = axes.drop(columns=[name for name in axes.columns if name in OF_RUN], errors="ignore")
    runs = study.runs.reindex(columns=OF_RUN).join(beside)
    return measured[["run", *MEASURE, *OF_SCORE]].join(runs, on="run").reset_index(drop=True)
