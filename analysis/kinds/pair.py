"""The pair study: both members and both conversions side by side, and what one would expect of them."""

from dataclasses import dataclass

import pandas as pd

from analysis import (
    checkpoint_figures,
    estimates,
    figures,
    numbers,
    pronoun_figures,
    published,
    published_figures,
    tables,
)
from analysis.evidence import StudyRecords
from analysis.families import is_part
from analysis.figures import ReportFigure
from analysis.groups import group_means, groups_table
from analysis.kinds import design
from analysis.kinds.design import Findings, ReportTable
from analysis.kinds.rulers import of_members, winners, winners_table
from analysis.kinds.size import against_size
from analysis.render import comparison_data


@dataclass(frozen=True)
class Options:
    """None."""


def analyse(evidence: StudyRecords) -> Findings:
    """The comparison, paired differences, winners by ruler and parts of tasks."""
    design.options(Options, evidence)
    cells = estimates.cells(evidence)
    differences = estimates.differences(evidence)
    won = winners(evidence, of_members(evidence))
    exhibits = [
        ReportTable(tables.comparison_table(cells), tables.comparison_table, comparison_data(cells)),
        ReportTable(
            tables.differences_table(differences, evidence.analysis.get("families")),
            tables.differences_table,
            differences,
        ),
        ReportTable(winners_table(won), winners_table, won),
        ReportTable(tables.subtasks_table(cells), tables.subtasks_table),
    ]
    left_out = tables.left_out_table(cells)
    if left_out is not None:
        exhibits.insert(2, ReportTable(left_out, tables.left_out_table))
    groups = group_means(evidence)
    if len(groups):
        exhibits.append(ReportTable(groups_table(groups), groups_table, groups))
    found = published.coverage(evidence, cells)
    exhibits += published_tables(found)
    pictures = [*_pictures(evidence, cells), *published_pictures(found, evidence)]
    return Findings(cells, exhibits, pictures, numbers.of_pair(evidence, cells, differences))


def published_tables(found: pd.DataFrame) -> list[ReportTable]:
    """What is filled of the published tables, and each of which something is."""
    own = {item.name: found[found["exhibit"] == item.name] for item in published.published() if not item.drawn}
    return [
        ReportTable(published.coverage_table(found), published.coverage_table, found),
        *(
            ReportTable(published.published_table(item, found), published.published_table, own[item.name])
            for item in published.published()
            if not item.drawn and own[item.name]["value"].notna().any()
        ),
    ]


def published_pictures(found: pd.DataFrame, evidence: StudyRecords) -> list[ReportFigure]:
    """The published figures of which something is measured."""
    figures = [published_figures.drawn(item, found, evidence) for item in published.published() if item.drawn]
    return [picture for picture in figures if picture is not None]


def _pictures(evidence: StudyRecords, cells: pd.DataFrame) -> list[ReportFigure]:
    """Every figure of every block; one without evidence is left out."""
    pictures = []
    for block in evidence.blocks:
        drawn = [
            figures.comparison(cells[~is_part(cells)], block),
            pronoun_figures.pronouns(cells, block),
            pronoun_figures.occupations(evidence, block),
            checkpoint_figures.along_checkpoints(evidence, block),
        ]
        suffix = "" if len(evidence.blocks) == 1 else f" ({block})"
        pictures += [picture.of_block(suffix) for picture in drawn if picture is not None]
    by_size = against_size(evidence, cells)
    return [*pictures, by_size] if by_size else pictures
