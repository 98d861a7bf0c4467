"""Rebuild every table and figure from recorded runs: `python -m analysis.report runs=<folder> out=<folder>`."""

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
from omegaconf import DictConfig, OmegaConf

from analysis import contents, control, figures, kinds, numbers, page, predictions, render, run_scores, tables
from analysis.artifacts import artifact_folder
from analysis.command import command
from analysis.figures import ReportFigure
from analysis.kinds.design import ReportTable
from analysis.load import load
from analysis.sources import Sources
from analysis.stale import stale_lines
from analysis.study_records import StudyRecords
from analysis.swept import flat


def build(
    runs: Path,
    out: Path,
    study: Path | None = None,
    ruler: str = "tokens",
    records: Path | None = None,
    where: Mapping[str, Any] | None = None,
    packed: str = "",
) -> list[Path]:
    """Write the report of a study (or of all complete runs of a folder) into `out`; returns the files.

    `records` is a folder with more measurements of the runs, as lm-eval writes them. `ruler` is what the axes of cost
    show, `where` the settings that runs must have. Links lead into `runs`, or to the file beside the page that has the
    runs `packed`. Raises ValueError for what cannot be reported.
    """
    recorded = load(runs, study, ruler, records, where)
    findings = kinds.analyse(recorded)
    runs_of = recorded.runs.reset_index().drop(columns="sessions", errors="ignore")
    costs = ReportTable(tables.rulers_table(recorded), tables.rulers_table, runs_of)
    judged = predictions.judge(recorded)
    shown_tables = [*_predictions(judged, recorded), *findings.tables, costs]
    report_tables = [_with_control(item, recorded) for item in shown_tables]
    drawn = [*findings.figures, *_losses(recorded, findings.cells)]
    report_figures = [replace(figure, caption=_caption(figure, recorded)) for figure in drawn]
    images = {figure.name: figure.encoded("png") for figure in report_figures}
    answers = predictions.answers(judged) if len(judged) else findings.answers
    sources = Sources(recorded, os.path.relpath(runs.resolve(), out.resolve()), packed)

    with artifact_folder(out, recorded.fingerprint) as folder:
        for item in report_tables:
            folder.put(f"{item.table.name}.md", render.markdown(item.table), item.maker)
            folder.put(f"{item.table.name}.tex", render.latex(item.table), item.maker)
            if item.data is not None:
                folder.put(f"{item.table.name}.csv", render.csv(item.data), item.maker)
        for figure in report_figures:
            folder.put(f"{figure.name}.data.csv", render.csv(figure.data), figure.maker)
            folder.put(f"{figure.name}.png", images[figure.name], figure.maker)
            folder.put(f"{figure.name}.pdf", figure.encoded("pdf"), figure.maker)
        shown = [item.table for item in report_tables]
        by_key = numbers.by_key(recorded, findings.numbers)
        folder.put(run_scores.NAME, render.csv(run_scores.run_scores(recorded)), run_scores.run_scores)
        folder.put("numbers.tex", numbers.macros(by_key), numbers.macros)
        folder.put(contents.FILE, contents.contents(recorded, shown, report_figures, by_key), contents.contents)
        plain = [item.table for item in shown_tables]
        html = page.page(recorded, findings.cells, answers, plain, drawn, images, sources)
        folder.put("index.html", html, page.page)
    _announce(recorded, report_tables, out, report_figures)
    return folder.files_in(out)


def _predictions(judged: pd.DataFrame, recorded: StudyRecords) -> list[ReportTable]:
    """What was stated before training, judged; nothing where the study states nothing."""
    if judged.empty:
        return []
    table = predictions.predictions_table(judged, recorded)
    least, most = zip(*((None, None) if size is None else size for size in judged["size"]), strict=True)
    stated = predictions.when_stated(recorded)
    data = judged.drop(columns="size").assign(least=least, most=most, stated=stated)
    return [ReportTable(table, predictions.predictions_table, data)]


def _with_control(item: ReportTable, recorded: StudyRecords) -> ReportTable:
    """A table with the certificates' verdicts and what is missing below it, so that no comparison is read without them."""
    notes = [*item.table.notes, *control.control(recorded), *control.missing_lines(recorded)]
    return replace(item, table=replace(item.table, notes=notes))


def _caption(figure: ReportFigure, recorded: StudyRecords) -> str:
    lines = [*control.control(recorded), *control.missing_lines(recorded)]
    return " ".join([figure.caption, *(line.rstrip(".") + "." for line in lines)])


def _losses(recorded: StudyRecords, cells: pd.DataFrame) -> list[ReportFigure]:
    return [
        figures.loss(recorded, cells, block).of_block("" if len(recorded.blocks) == 1 else f" ({block})")
        for block in recorded.blocks
    ]


def _announce(
    recorded: StudyRecords, report_tables: list[ReportTable], out: Path, report_figures: list[ReportFigure]
) -> None:
    for certificate in recorded.certificates:
        print(control.verdict(certificate))
    for line in control.missing_lines(recorded):
        print(line)
    for line in stale_lines(recorded.cells):
        print(line)
    print("\n" + "\n\n".join(render.text(item.table) for item in report_tables[:2]) + "\n")
    print(f"page     {out / 'index.html'}")
    for figure in report_figures:
        print(f"figure   {out / f'{figure.name}.png'}")
    for note in sorted({figure.note for figure in report_figures} - {""}):
        print(note)


@command("report")
def main(config: DictConfig) -> None:
    """The command line."""
    record, records = (Path(path) if path else None for path in (config.record, config.records))
    where = OmegaConf.to_container(config.where) if isinstance(config.where, DictConfig) else config.where or {}
    if not isinstance(where, dict):
        raise ValueError(f"where={where!r} is not a mapping; use e.g. 'where={{optimizer.learning_rate:1e-3}}'.")
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
