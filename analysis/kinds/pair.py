"""The pair study: both members and both conversions side by side, and what one would expect of them."""

from dataclasses import dataclass

import pandas as pd

from analysis import (
    checkpoint_figures,
    estimates,
    figures,
    numbers,
    pronoun_figures,
    tables,
)
from analysis.answer import counted
from analysis.families import is_part
from analysis.figures import ReportFigure
from analysis.groups import group_means, groups_table
from analysis.kinds import design
from analysis.kinds.as_published import exhibits
from analysis.kinds.design import Findings, ReportTable
from analysis.kinds.rulers import of_members, winners, winners_table
from analysis.kinds.size import against_size
from analysis.render import comparison_data
from analysis.study_records import StudyRecords


@dataclass(frozen=True)
class Options:
    """None."""


def analyse(study: StudyRecords) -> Findings:
    """The comparison, paired differences, winners by ruler and parts of tasks."""
    design.options(Options, study)
    cells = estimates.cells(study)
    differences = estimates.differences(study)
    won = winners(study, of_members(study))
    report_tables = [
        ReportTable(tables.comparison_table(cells), tables.comparison_table, comparison_data(cells)),
        ReportTable(
            tables.differences_table(differences, study.analysis.get("families")),
            tables.differences_table,
            differences,
        ),
        ReportTable(winners_table(won), winners_table, won),
        ReportTable(tables.subtasks_table(cells), tables.subtasks_table),
    ]
    left_out = tables.left_out_table(cells)
    if left_out is not None:
        report_tables.insert(2, ReportTable(left_out, tables.left_out_table))
    groups = group_means(study)
    if len(groups):
        report_tables.append(ReportTable(groups_table(groups), groups_table, groups))
    filled, as_published = exhibits(study, cells)
    report_tables += filled
    report_figures = [*_figures(study, cells), *as_published]
    whole = differences[~is_part(differences)]
    answers = counted(whole, ["block", "left", "right"], "differences", lambda key: _compared(key, study.blocks))
    return Findings(cells, report_tables, report_figures, numbers.of_pair(study, cells, differences), answers)


def _compared(key: tuple[str, ...], blocks: list[str]) -> str:
    block, left, right = key
    return f"{left} − {right}" + (f" ({block})" if len(blocks) > 1 else "")


def _figures(study: StudyRecords, cells: pd.DataFrame) -> list[ReportFigure]:
    """Every figure of every block; one without records is left out."""
    report_figures = []
    for block in study.blocks:
        drawn = [
            figures.comparison(cells[~is_part(cells)], block),
            pronoun_figures.pronouns(cells, block),
            pronoun_figures.occupations(study, block),
            checkpoint_figures.along_checkpoints(study, block),
        ]
        suffix = "" if len(study.blocks) == 1 else f" ({block})"
        report_figures += [figure.of_block(suffix) for figure in drawn if figure is not None]
    by_size = against_size(study, cells)
    return [*report_figures, by_size] if by_size else report_figures
