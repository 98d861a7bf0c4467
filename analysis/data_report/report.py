"""Tables, figures and a page from a record of data: `python -m analysis.data_report record=<data_report.json> out=<folder>`."""

from pathlib import Path

from omegaconf import DictConfig

from analysis import render
from analysis.artifacts import artifact_folder
from analysis.command import command
from analysis.data_report import figures, page, tables
from analysis.data_report.record import FILE, DataRecord, load_record, percent
from analysis.figures import ReportFigure

FULL = 0.995  # rows that are filled to this share need no figure


def build(file: Path, out: Path) -> list[Path]:
    """Write the report of a record into `out`; returns the files. Raises ValueError for another file."""
    record = load_record(file)
    phases, draws = tables.phases_table(record), tables.draws_table(record)
    sources, left_out = tables.sources_table(record), tables.left_out_table(record)
    report_figures = _figures(record)
    images = {figure.name: figure.encoded("png") for figure in report_figures}

    with artifact_folder(out, record.fingerprint, (file.name,)) as folder:
        for frame in ("draws", "sources", "left_out"):
            folder.put(f"{frame}.csv", render.csv(getattr(record, frame)), load_record)
        for table, maker in (
            (phases, tables.phases_table),
            (draws, tables.draws_table),
            (sources, tables.sources_table),
            (left_out, tables.left_out_table),
        ):
            folder.put(f"{table.name}.md", render.markdown(table), maker)
            folder.put(f"{table.name}.tex", render.latex(table), maker)
        for figure in report_figures:
            folder.put(f"{figure.name}.data.csv", render.csv(figure.data), figure.maker)
            folder.put(f"{figure.name}.png", images[figure.name], figure.maker)
            folder.put(f"{figure.name}.pdf", figure.encoded("pdf"), figure.maker)
        html = page.page(record, [phases, draws, sources, left_out], report_figures, images, filled(record))
        folder.put("index.html", html, page.page)
    print("\n\n".join(render.text(table) for table in (sources, phases, draws, left_out)))
    _announce(record, file, out, report_figures)
    return folder.files_in(out)


def filled(record: DataRecord) -> list[str]:
    """A sentence in place of the figure of utilisation, where rows are full."""
    if len(record.draws) and record.draws["utilisation"].min() >= FULL:
        least = percent(record.draws["utilisation"].min())
        return [f"Rows are full: {least} or more of the positions of every source's rows hold a token."]
    return []


def _figures(record: DataRecord) -> list[ReportFigure]:
    """Every figure; one without anything to show is left out."""
    report_figures = [figures.lengths(record)]
    if len(record.draws):
        report_figures = [figures.mixture(record), figures.passes(record), *report_figures]
        if not filled(record):
            report_figures.append(figures.utilisation(record))
    if (record.left_out["what"] != FILE).any():
        report_figures.append(figures.left_out(record))
    return report_figures


def _announce(record: DataRecord, file: Path, out: Path, report_figures: list[ReportFigure]) -> None:
    print()
    for sentence in filled(record):
        print(sentence)
    for problem in record.problems:
        print(f"problem: {problem}")
    print(f"record   {file}\npage     {out / 'index.html'}")
    for figure in report_figures:
        print(f"figure   {out / f'{figure.name}.png'}")
    for note in sorted({figure.note for figure in report_figures} - {""}):
        print(note)


@command("report_data")
def main(config: DictConfig) -> None:
    """The command line."""
    build(Path(config.record), Path(config.out))
