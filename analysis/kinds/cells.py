"""Every cell's measurements, how much repetitions differ and what they can show, and each cell's difference to a base."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from analysis import families
from analysis.answer import counted
from analysis.estimates import NOT_DEFINED, paired, verdicts
from analysis.figures import ReportFigure, comparison
from analysis.kinds import design
from analysis.kinds.design import Findings, ReportTable
from analysis.sources import Cell
from analysis.study_records import MEASURE, StudyRecords, rows_of
from analysis.tables import Footnotes, Table, estimated, grouped, key_of, measurement, number, signed, tested
from analysis.uncertainty import detectable

NO_ERROR_TERM = "one repetition: no error term"
DRAWN = 8  # a chart of more labels than this cannot be read


@dataclass(frozen=True)
class Options:
    """The axis of repetitions, and the cell that the others are compared with (its label; None: no comparison)."""

    block: str = "seed"
    base: str | None = None


def analyse(study: StudyRecords) -> Findings:
    """One table of everything, that of differences to the base, and the chart where it can be read.

    Raises ValueError for a base that is not a cell.
    """
    options = design.options(Options, study)
    cells = design.grid(study, options.block)
    scored = design.scores(study, cells)
    means = design.summary(study, cells, scored)
    few = len(design.labels(cells)) <= DRAWN
    figures: list[ReportFigure] = [comparison(means, study.blocks[0])] if few and len(means) else []
    numbers = {
        f"cells/{row.member}/{row.protocol}/{row.task}/{row.metric}": number(row.value)
        for row in rows_of(means[means["value"].notna()])
    }
    tables, answers = [every_cell(means, scored, options.block)], []
    if options.base is not None:
        if options.base not in design.labels(cells):
            raise design.unknown_name("analysis.base", options.base, "is not a cell of the study", design.labels(cells))
        compared = to_base(study, scored, options.base, options.block)
        tables.insert(
            0,
            ReportTable(
                differences_table(compared, options, study.analysis.get("families")), differences_table, compared
            ),
        )
        answers = counted(compared, ["left", "right"], "differences")
        for row in rows_of(compared):
            key = f"difference/{row.left}/{row.protocol}/{row.task}/{row.metric}"
            numbers |= {key: signed(row.value), f"{key}/words": row.words}
    return Findings(means, tables, figures, numbers, answers)


def to_base(study: StudyRecords, scored: pd.DataFrame, base: str, block: str) -> pd.DataFrame:
    """A row per measurement and cell other than the base: the mean difference over the repetitions and items both have.

    p is Holm-corrected within the family of a cell. A single repetition has no verdict.
    """
    rows: list[dict[str, Any]] = []
    for key, group in design.measured(scored):
        of_base = group[group["label"] == base]
        for label, of_label in group.groupby("label", sort=False):
            if label == base or design.repeats(str(key[0]), scored, of_label, of_base):
                continue
            difference = paired(study.items, of_label, of_base, block)
            if difference is None:
                continue
            if difference["repetitions"] == 1:  # what another run would give is not in the items
                difference |= {"low": np.nan, "high": np.nan, "p": np.nan}
            named = {"left": label, "right": base, **dict(zip(MEASURE, key, strict=True))}
            rows.append({**named, "higher_is_better": bool(group["higher_is_better"].iloc[0]), **difference})
    columns = ["left", "right", *MEASURE, "higher_is_better", "value", "low", "high", "p", "n", "repetitions", "over"]
    frame = verdicts(pd.DataFrame(rows, columns=columns), ["left"], study.analysis.get("families"))
    alone = frame["repetitions"] == 1
    return frame.assign(words=frame["words"].mask(alone & (frame["family"] != ""), NO_ERROR_TERM))


def differences_table(differences: pd.DataFrame, options: Options, stated: dict[str, list[str]] | None = None) -> Table:
    """Rows are cells within each measurement."""
    rows: list[tuple[str, list[str]]] = []
    for row in rows_of(differences):
        section = measurement(row._asdict())
        rows.append((section, [str(row.left), *tested(row), str(row.repetitions), row.words]))
    notes = [
        f"Difference: the cell minus {options.base}, paired by {options.block} and item.",
        f"Brackets: 95% interval over runs and clustered items together. p: {families.described(stated)}.",
    ]
    header = ["Cell", f"Difference to {options.base}", "p (Holm)", "Pairs", "In words"]
    return Table("differences", f"Against {options.base}", header, grouped(rows), notes)


def every_cell(means: pd.DataFrame, scored: pd.DataFrame, block: str) -> ReportTable:
    """The table of every cell, which the report of every grid has."""
    cells = repetitions(means, scored)
    return ReportTable(cells_table(cells, block), cells_table, cells)


def repetitions(means: pd.DataFrame, scored: pd.DataFrame) -> pd.DataFrame:
    """The means with their runs' number, standard deviation, and the smallest difference that this number of runs can show."""
    runs = scored.groupby([*MEASURE, "label"], as_index=False)["value"].agg(runs="size")
    frame = means.merge(runs.rename(columns={"label": "member"}), how="left", on=[*MEASURE, "member"])
    detectable_differences = [
        detectable(row.deviation, int(row.runs)) if row.runs > 1 else np.nan
        for row in rows_of(frame.fillna({"runs": 0}))
    ]
    return frame.assign(runs=frame["runs"].fillna(0).astype(int), detectable=detectable_differences)


def cells_table(cells: pd.DataFrame, block: str) -> Table:
    """Rows are cells within each measurement that is defined for them."""
    cells = cells[cells["hole"] != NOT_DEFINED]
    footnotes = Footnotes()
    rows: list[tuple[str, list[str]]] = []
    for place, row in enumerate(rows_of(cells)):
        section = measurement(row._asdict())
        mean = Cell(estimated(cells.iloc[place], footnotes), key_of(row._asdict()), str(row.member))
        several = not np.isnan(row.deviation)
        spread = [number(row.deviation), number(row.detectable)] if several else ["", ""]
        rows.append((section, [str(row.member), mean, *spread, str(row.runs)]))
    bases = sorted(set(cells["over"].dropna()) - {"none"})
    notes = [
        f"Brackets: 95% interval over {' or '.join(bases) or 'nothing'}. Deviation: standard deviation between runs.",
        "Detectable: the difference of two cells' means that a t-test at 5% would find four times in five, with this deviation "
        f"and number of {block}s. With few runs the deviation itself is uncertain.",
    ]
    header = ["Cell", "Mean", "Deviation", "Detectable", "Runs"]
    return Table("cells", "Every cell", header, grouped(rows), [*footnotes.notes(), *notes])
