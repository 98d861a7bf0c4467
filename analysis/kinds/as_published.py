"""The published tables and figures that a study's records fill, and the published values beside them."""

from dataclasses import replace

import pandas as pd

from analysis import estimates, published, published_figures, published_values
from analysis.figures import ReportFigure
from analysis.kinds.design import ReportTable
from analysis.study_records import StudyRecords


def exhibits(study: StudyRecords, cells: pd.DataFrame) -> tuple[list[ReportTable], list[ReportFigure]]:
    """What is filled of the published tables and figures, and each of which something is, from the study's cells."""
    filled = published.coverage(study, cells)
    return [*tables(filled), *_beside(filled, study)], drawn(filled, study)


def cells_asked_for(study: StudyRecords) -> pd.DataFrame:
    """The cells of the measurements that published tables and figures show, those without an order included."""
    asked = study.measurements["protocol"].map(lambda name: name.replace("@", ".").split(".")[0] in published.QUESTIONS)
    return estimates.cells(replace(study, measurements=study.measurements[asked]))


def tables(filled: pd.DataFrame) -> list[ReportTable]:
    """What is filled of the published tables, and each of which something is."""
    rows = {item.name: filled[filled["exhibit"] == item.name] for item in published.published() if not item.drawn}
    return [
        ReportTable(published.coverage_table(filled), published.coverage_table, filled),
        *(
            ReportTable(published.published_table(item, filled), published.published_table, rows[item.name])
            for item in published.published()
            if not item.drawn and rows[item.name]["value"].notna().any()
        ),
    ]


def _beside(filled: pd.DataFrame, study: StudyRecords) -> list[ReportTable]:
    """What was measured beside what was published, where both are."""
    rows = published_values.beside(filled, study)
    table = published_values.beside_table
    return [] if rows.empty else [ReportTable(table(rows), table, rows)]


def drawn(filled: pd.DataFrame, study: StudyRecords) -> list[ReportFigure]:
    """The published figures of which something is measured."""
    figures = [published_figures.drawn(item, filled, study) for item in published.published() if item.drawn]
    return [figure for figure in figures if figure is not None]
