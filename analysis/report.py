"""Rebuild every table and figure from recorded runs: `python -m analysis.report runs=<folder> out=<folder>`."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
from omegaconf import DictConfig, OmegaConf

from analysis import figures, kinds, numbers, page, render, tables
from analysis.artifacts import shelf
from analysis.command import command
from analysis.evidence import StudyRecords, load
from analysis.figures import ReportFigure
from analysis.kinds.design import ReportTable
from analysis.predictions import judge, predictions_table
from analysis.stale import stale_lines
from analysis.swept import flat


def build(
    runs: Path,
    out: Path,
    study: Path | None = None,
    ruler: str = "tokens",
    records: Path | None = None,
    where: Mapping[str, Any] | None = None,
) -> list[Path]:
    """Write the report of a study (or of all complete runs of a folder) into `out`; returns the files.

    `records` is a folder with more measurements of the runs, as lm-eval writes them. `ruler` is what the axes of cost
    show, `where` the settings that runs must have. Raises ValueError for what cannot be reported.
    """
    evidence = load(runs, study, ruler, records, where)
    findings = kinds.analyse(evidence)
    costs = ReportTable(tables.rulers_table(evidence), tables.rulers_table, evidence.runs.reset_index())
    judged = _predictions(evidence)
    exhibits = [_with_verdicts(exhibit, evidence) for exhibit in (*judged, *findings.exhibits)] + [costs]
    drawn = [*_losses(evidence, findings.cells), *findings.pictures]
    pictures = [replace(picture, caption=_caption(picture, evidence)) for picture in drawn]
    images = {picture.name: picture.encoded("png") for picture in pictures}

    with shelf(out, evidence.fingerprint) as made:
        for exhibit in exhibits:
            made.put(f"{exhibit.table.name}.md", render.markdown(exhibit.table), exhibit.maker)
            made.put(f"{exhibit.table.name}.tex", render.latex(exhibit.table), exhibit.maker)
            if exhibit.data is not None:
                made.put(f"{exhibit.table.name}.csv", render.csv(exhibit.data), exhibit.maker)
        for picture in pictures:
            made.put(f"{picture.name}.data.csv", render.csv(picture.data), picture.maker)
            made.put(f"{picture.name}.png", images[picture.name], picture.maker)
            made.put(f"{picture.name}.pdf", picture.encoded("pdf"), picture.maker)
        made.put("figures.tex", render.latex_figures(pictures), render.latex_figures)
        made.put("tables.tex", render.latex_tables([exhibit.table for exhibit in exhibits]), render.latex_tables)
        made.put("numbers.tex", numbers.macros(evidence, findings.numbers), numbers.macros)
        shown = [exhibit.table for exhibit in exhibits]
        made.put("index.html", page.page(evidence, findings.cells, shown, pictures, images), page.page)
    _announce(evidence, exhibits, out, pictures)
    return made.files_in(out)


def _predictions(evidence: StudyRecords) -> list[ReportTable]:
    """What was stated before training, judged; nothing where the study states nothing."""
    judged = judge(evidence)
    if judged.empty:
        return []
    return [ReportTable(predictions_table(judged, evidence), predictions_table, judged.drop(columns=["size"]))]


def _with_verdicts(exhibit: ReportTable, evidence: StudyRecords) -> ReportTable:
    """A table with the certificates' verdicts below it, so that no comparison is read without them."""
    notes = [*exhibit.table.notes, *tables.control(evidence)]
    return replace(exhibit, table=replace(exhibit.table, notes=notes))


def _caption(picture: ReportFigure, evidence: StudyRecords) -> str:
    return " ".join([picture.caption, *(line.rstrip(".") + "." for line in tables.control(evidence))])


def _losses(evidence: StudyRecords, cells: pd.DataFrame) -> list[ReportFigure]:
    return [
        figures.loss(evidence, cells, block).of_block("" if len(evidence.blocks) == 1 else f" ({block})")
        for block in evidence.blocks
    ]


def _announce(evidence: StudyRecords, exhibits: list[ReportTable], out: Path, pictures: list[ReportFigure]) -> None:
    for certificate in evidence.certificates:
        print(tables.verdict(certificate))
    for name in evidence.missing:
        print(f"missing run: {name}")
    for line in stale_lines(evidence.cells):
        print(line)
    print("\n" + "\n\n".join(render.text(exhibit.table) for exhibit in exhibits[:2]) + "\n")
    print(f"page     {out / 'index.html'}")
    for picture in pictures:
        print(f"figure   {out / f'{picture.name}.png'}")
    for note in sorted({picture.note for picture in pictures} - {""}):
        print(note)


@command("report")
def main(config: DictConfig) -> None:
    """The command line."""
    record, records = (Path(path) if path else None for path in (config.record, config.records))
    where = OmegaConf.to_container(config.where) if isinstance(config.where, DictConfig) else config.where or {}
    if not isinstance(where, dict):
        raise ValueError(f"where={where!r} is no mapping; use e.g. 'where={{optimizer.learning_rate:1e-3}}'.")
    build(
        Path(config.runs),
        Path(config.out),
        record,
        config.ruler,
        records,
        flat({str(key): where[key] for key in where}),
    )


if __name__ == "__main__":
    main()
