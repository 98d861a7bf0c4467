"""The pair study: both members and both conversions side by side, and what one would expect of them."""

from dataclasses import dataclass

import pandas as pd

from analysis import checkpoint_figures, estimates, figures, numbers, pronoun_figures, tables
from analysis.families import is_part
from analysis.figures import Picture
from analysis.groups import group_means, groups_table
from analysis.load import Evidence
from analysis.render import comparison_data
from analysis.studies import design
from analysis.studies.design import Exhibit, Findings
from analysis.studies.rulers import of_members, winners, winners_table
from analysis.studies.size import against_size


@dataclass(frozen=True)
class Options:
    """None."""


def analyse(evidence: Evidence) -> Findings:
    """The comparison, paired differences, winners by ruler and parts of tasks."""
    design.options(Options, evidence)
    cells = estimates.cells(evidence)
    differences = estimates.differences(evidence)
    won = winners(evidence, of_members(evidence))
    exhibits = [
        Exhibit(tables.comparison_table(cells), tables.comparison_table, comparison_data(cells)),
        Exhibit(
            tables.differences_table(differences, evidence.analysis.get("families")),
            tables.differences_table,
            differences,
        ),
        Exhibit(winners_table(won), winners_table, won),
        Exhibit(tables.subtasks_table(cells), tables.subtasks_table),
    ]
    left_out = tables.left_out_table(cells)
    if left_out is not None:
        exhibits.insert(2, Exhibit(left_out, tables.left_out_table))
    groups = group_means(evidence)
    if len(groups):
        exhibits.append(Exhibit(groups_table(groups), groups_table, groups))
    return Findings(cells, exhibits, _pictures(evidence, cells), numbers.of_pair(evidence, cells, differences))


def _pictures(evidence: Evidence, cells: pd.DataFrame) -> list[Picture]:
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
