"""Rebuild every table and figure from recorded runs: `python -m analysis.report runs=<folder> out=<folder>`."""

import sys
from pathlib import Path

import hydra
import pandas as pd
from omegaconf import DictConfig

from analysis import estimates, figures, numbers, page, pronoun_figures, render, tables
from analysis.artifacts import Shelf
from analysis.expectations import judge
from analysis.figures import Picture
from analysis.load import Evidence, load
from analysis.tables import Table


def build(runs: Path, out: Path, study: Path | None = None) -> list[Path]:
    """Write the report of a study (or of all complete runs of a folder) into `out`; returns the files."""
    evidence = load(runs, study)
    cells = estimates.cells(evidence)
    differences = estimates.differences(evidence)
    expectations = tables.expectations_table(judge(differences))
    comparison = tables.comparison_table(cells)
    subtasks = tables.subtasks_table(cells)
    paired = tables.differences_table(differences)
    rulers = tables.rulers_table(evidence)
    pictures = _pictures(evidence, cells)
    images = {picture.name: picture.encoded("png") for picture in pictures}

    shelf = Shelf(out, evidence.fingerprint)
    shelf.put("comparison.csv", render.comparison_csv(cells), estimates.cells)
    shelf.put("differences.csv", render.csv(differences), estimates.differences)
    shelf.put("rulers.csv", render.csv(evidence.runs.reset_index()), load)
    for table, maker in (
        (comparison, tables.comparison_table),
        (subtasks, tables.subtasks_table),
        (paired, tables.differences_table),
        (rulers, tables.rulers_table),
        (expectations, tables.expectations_table),
    ):
        shelf.put(f"{table.name}.md", render.markdown(table), maker)
        shelf.put(f"{table.name}.tex", render.latex(table), maker)
    for picture in pictures:
        shelf.put(f"{picture.name}.data.csv", render.csv(picture.data), picture.maker)
        shelf.put(f"{picture.name}.png", images[picture.name], picture.maker)
        shelf.put(f"{picture.name}.pdf", picture.encoded("pdf"), picture.maker)
    shelf.put("figures.tex", render.latex_figures(pictures), render.latex_figures)
    shelf.put("numbers.tex", numbers.macros(evidence, cells, differences), numbers.macros)
    shelf.put(
        "index.html",
        page.page(evidence, cells, [expectations, comparison, paired, rulers, subtasks], pictures, images),
        page.page,
    )
    _announce(evidence, comparison, expectations, out, pictures)
    return shelf.close()


def _pictures(evidence: Evidence, cells: pd.DataFrame) -> list[Picture]:
    """Every figure of every block; one without evidence is left out."""
    pictures = []
    for block in evidence.blocks:
        suffix = "" if len(evidence.blocks) == 1 else f" ({block})"
        drawn = [
            figures.loss(evidence, cells, block),
            figures.comparison(cells[~tables.is_subtask(cells)], block),
            pronoun_figures.pronouns(cells, block),
            pronoun_figures.occupations(evidence, block),
        ]
        pictures += [picture.of_block(suffix) for picture in drawn if picture is not None]
    return pictures


def _announce(evidence: Evidence, comparison: Table, expectations: Table, out: Path, pictures: list[Picture]) -> None:
    for certificate in evidence.certificates:
        print(tables.verdict(certificate))
    for name in evidence.missing:
        print(f"missing run: {name}")
    print(f"\n{render.text(comparison)}\n\n{render.text(expectations)}\n")
    print(f"page     {out / 'index.html'}")
    for picture in pictures:
        print(f"figure   {out / f'{picture.name}.png'}")


@hydra.main(version_base=None, config_path="../conf", config_name="report")
def main(config: DictConfig) -> None:
    """The command line."""
    try:
        build(Path(config.runs), Path(config.out), Path(config.record) if config.record else None)
    except ValueError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
