"""The records of a study as frames: what every table and figure of the report is made of."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from analysis.items import Items
from analysis.wording import MEMBERS

LEFT_TO_RIGHT, PSEUDO_LIKELIHOOD = "left_to_right", "pseudo_likelihood"
ONE_ORDER = ("lm_eval", "heldout_likelihood")  # whose ways are never put into one column
OWN_SCORING, BEST_BY_DEV = "own_scoring", "best_by_dev"  # ways that differ between members
MEASURE = ["protocol", "task", "metric"]
ALL = "all"  # the task that is every item of its protocol
DISTINCT = 8  # colours that a reader can tell apart
TRAINING = "training"  # in place of a protocol: the loss that training recorded
PAIR, SWEEP = "pair", "sweep"  # the first is the analysis of a study that names no other


@dataclass(frozen=True)
class StudyRecords:
    """The records of one study.

    `runs` has a row per complete run, indexed by its name; `measurements` and `training` are the records with the run's
    member, seed and block (size and corpus: only members of one block are compared); `items` has the item scores by run,
    protocol and task. `missing` names the runs that the study lists and the folder lacks. `fingerprint` is the sha256
    over every file that was read. `training` and `trajectory` (the measurements of every checkpoint) have a column for
    each ruler.

    A study may state its `claim`, its `cells` (by name: the run, the parent's run and the axes) and the `analysis` that
    answers it. For any kind but "pair" a run's member is its cell's label (in `labels`), and all runs are one block. A
    curve of a run is `drawn_as` that label, or where there are many as the member it was trained as. `files` has the record
    files of each run and protocol, by paths within the folder of runs.
    """

    name: str
    runs: pd.DataFrame
    measurements: pd.DataFrame
    items: Items
    training: pd.DataFrame
    certificates: list[dict[str, Any]]
    missing: list[str]
    fingerprint: str
    trajectory: pd.DataFrame
    claim: str = ""
    cells: dict[str, dict[str, Any]] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    analysis: dict[str, Any] = field(default_factory=lambda: {"kind": PAIR})
    ruler: str = "tokens"
    predictions: dict[str, Any] = field(default_factory=dict)
    files: dict[tuple[str, str], list[str]] = field(default_factory=dict)

    @property
    def blocks(self) -> list[str]:
        """Names of the groups of runs that are compared with each other."""
        return sorted(self.runs["block"].unique())

    @property
    def planned_members(self) -> set[str]:
        """The members that the study lists; a listed run of no cell that is missing may be any of a complete study's."""
        described = {cell["run"] for cell in self.cells.values()}
        lost = [name for name in self.missing if ": " not in name and name not in described]
        listed = {str(cell["axes"]["member"]) for cell in self.cells.values() if "member" in cell["axes"]}
        return listed | (set(MEMBERS) if lost else set())


def rows_of(frame: pd.DataFrame) -> Iterator[Any]:
    """The rows as named tuples, whose fields only pandas knows."""
    return frame.itertuples()
