"""Every cell's measurements, how much repetitions differ, and the difference that so many of them can show."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis import style
from analysis.estimates import NOT_DEFINED
from analysis.figures import Picture, comparison
from analysis.load import MEASURE, Evidence, rows_of
from analysis.studies import design
from analysis.studies.design import Exhibit, Findings
from analysis.tables import Footnotes, Table, estimated, grouped, measure, number
from analysis.uncertainty import detectable

DRAWN = 8  # a chart of more labels than this cannot be read


@dataclass(frozen=True)
class Options:
    """The axis of repetitions."""

    block: str = "seed"


def analyse(evidence: Evidence) -> Findings:
    """One table of everything, and the chart where it can be read."""
    options = design.options(Options, evidence)
    cells = design.grid(evidence, options.block)
    scored = design.scores(evidence, cells)
    means = design.summary(evidence, cells, scored)
    few = len(design.labels(cells)) <= DRAWN
    pictures: list[Picture] = [comparison(means, evidence.blocks[0])] if few and len(means) else []
    numbers = {
        f"cells/{row.member}/{row.protocol}/{row.task}/{row.metric}": number(row.value)
        for row in rows_of(means[means["value"].notna()])
    }
    return Findings(means, [every_cell(means, scored, options.block)], pictures, numbers)


def every_cell(means: pd.DataFrame, scored: pd.DataFrame, block: str) -> Exhibit:
    """The table of every cell, which stands in the report of every grid."""
    found = repetitions(means, scored)
    return Exhibit(cells_table(found, block), cells_table, found)


def repetitions(means: pd.DataFrame, scored: pd.DataFrame) -> pd.DataFrame:
    """The means with their runs' number, standard deviation, and the smallest difference that so many can show."""
    runs = scored.groupby([*MEASURE, "label"], as_index=False)["value"].agg(runs="size", deviation="std")
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
