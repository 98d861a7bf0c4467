"""Every cell's measurements, how much repetitions differ and what they can show, and each cell's difference to a base."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from analysis import families, style
from analysis.estimates import NOT_DEFINED, paired, verdicts
from analysis.evidence import MEASURE, StudyRecords, rows_of
from analysis.figures import ReportFigure, comparison
from analysis.kinds import design
from analysis.kinds.design import Findings, ReportTable
from analysis.tables import Footnotes, Table, estimated, grouped, measure, number, signed, tested
from analysis.uncertainty import detectable

NO_ERROR_TERM = "one repetition: no error term"
DRAWN = 8  # a chart of more labels than this cannot be read


@dataclass(frozen=True)
class Options:
    """The axis of repetitions, and the cell that the others are compared with (its label; None: no comparison)."""

    block: str = "seed"
    base: str | None = None


def analyse(evidence: StudyRecords) -> Findings:
    """One table of everything, that of differences to the base, and the chart where it can be read.

    Raises ValueError for a base that is no cell.
    """
    options = design.options(Options, evidence)
    cells = design.grid(evidence, options.block)
    scored = design.scores(evidence, cells)
    means = design.summary(evidence, cells, scored)
    few = len(design.labels(cells)) <= DRAWN
    pictures: list[ReportFigure] = [comparison(means, evidence.blocks[0])] if few and len(means) else []
    numbers = {
        f"cells/{row.member}/{row.protocol}/{row.task}/{row.metric}": number(row.value)
        for row in rows_of(means[means["value"].notna()])
    }
    exhibits = [every_cell(means, scored, options.block)]
    if options.base is not None:
        if options.base not in design.labels(cells):
            raise design.refusal("analysis.base", options.base, "is no cell of the study", design.labels(cells))
        found = to_base(evidence, scored, options.base, options.block)
        exhibits.insert(
            0,
            ReportTable(differences_table(found, options, evidence.analysis.get("families")), differences_table, found),
        )
        for row in rows_of(found):
            key = f"difference/{row.left}/{row.protocol}/{row.task}/{row.metric}"
            numbers |= {key: signed(row.value), f"{key}/words": row.words}
    return Findings(means, exhibits, pictures, numbers)


def to_base(evidence: StudyRecords, scored: pd.DataFrame, base: str, block: str) -> pd.DataFrame:
    """A row per measurement and cell other than the base: the mean difference over the repetitions and items both have.

    p is Holm-corrected within the family of a cell. A single repetition has no verdict.
    """
    rows: list[dict[str, Any]] = []
    for key, group in design.measured(scored):
        of_base = group[group["label"] == base]
        for label, own in group.groupby("label", sort=False):
            if label == base or design.repeats(str(key[0]), scored, own, of_base):
                continue
            found = paired(evidence.items, own, of_base, block)
            if found is None:
                continue
            if found["repetitions"] == 1:  # what another run would give is not in the items
                found |= {"low": np.nan, "high": np.nan, "p": np.nan}
            named = {"left": label, "right": base, **dict(zip(MEASURE, key, strict=True))}
            rows.append({**named, "higher_is_better": bool(group["higher_is_better"].iloc[0]), **found})
    columns = ["left", "right", *MEASURE, "higher_is_better", "value", "low", "high", "p", "n", "repetitions", "over"]
    frame = verdicts(pd.DataFrame(rows, columns=columns), ["left"], evidence.analysis.get("families"))
    alone = frame["repetitions"] == 1
    return frame.assign(words=frame["words"].mask(alone & (frame["family"] != ""), NO_ERROR_TERM))


def differences_table(found: pd.DataFrame, options: Options, stated: dict[str, list[str]] | None = None) -> Table:
    """Rows are cells within each measurement."""
    rows = []
    for row in rows_of(found):
        section = f"{style.protocol_name(str(row.protocol))}: {measure(row._asdict())}"
        rows.append((section, [str(row.left), *tested(row), str(row.repetitions), row.words]))
    method = (
        f"The cell less {options.base}, paired by {options.block} and item. Brackets: 95% interval over runs and items "
        f"together, in clusters; p: {families.described(stated)}."
    )
    header = ["Cell", f"Less {options.base}", "p (Holm)", "Pairs", "In words"]
    return Table("differences", f"Against {options.base}", header, grouped(rows), [method])


def every_cell(means: pd.DataFrame, scored: pd.DataFrame, block: str) -> ReportTable:
    """The table of every cell, which stands in the report of every grid."""
    found = repetitions(means, scored)
    return ReportTable(cells_table(found, block), cells_table, found)


def repetitions(means: pd.DataFrame, scored: pd.DataFrame) -> pd.DataFrame:
    """The means with their runs' number, standard deviation, and the smallest difference that so many can show."""
    runs = scored.groupby([*MEASURE, "label"], as_index=False)["value"].agg(runs="size")
    frame = means.merge(runs.rename(columns={"label": "member"}), how="left", on=[*MEASURE, "member"])
    found = [
        detectable(row.deviation, int(row.runs)) if row.runs > 1 else np.nan
        for row in rows_of(frame.fillna({"runs": 0}))
    ]
    return frame.assign(runs=frame["runs"].fillna(0).astype(int), detectable=found)


def cells_table(found: pd.DataFrame, block: str) -> Table:
    """Rows are cells within each measurement that is defined for them."""
    found = found[found["hole"] != NOT_DEFINED]
    footnotes = Footnotes()
    rows = []
    for place, row in enumerate(rows_of(found)):
        section = f"{style.protocol_name(str(row.protocol))}: {measure(row._asdict())}"
        several = not np.isnan(row.deviation)
        spread = [number(row.deviation), number(row.detectable)] if several else ["", ""]
        rows.append((section, [str(row.member), estimated(found.iloc[place], footnotes), *spread, str(row.runs)]))
    bases = sorted(set(found["over"].dropna()) - {"none"})
    method = (
        f"Brackets: 95% interval over {' or '.join(bases) or 'nothing'}. Deviation: standard deviation between runs. "
        "Detectable: the difference of two cells' means that a t-test at 5% finds four times in five with that deviation and "
        f"so many {block}s each; with few runs the deviation itself is uncertain."
    )
    header = ["Cell", "Mean", "Deviation", "Detectable", "Runs"]
    return Table("cells", "Every cell", header, grouped(rows), [*footnotes.notes(), method])
