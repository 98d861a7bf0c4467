"""The paper: what `main.typ` reads, made from the reports of packed studies, and the PDF.

`generated/paper.json` has every text and number, and the figures are PDF files beside it. Typst (a wheel) typesets them with
fonts that it or matplotlib carries, so that the same records give the same bytes on every machine. Only letters that these
fonts lack come from installed ones, and a letter that no font has is printed as its code.
"""

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib import font_manager, get_data_path

from analysis import contents, coverage_files, findings_figure, labels, verdicts
from analysis.artifacts import artifact_folder, edited, sha256
from analysis.figures import ReportFigure
from analysis.findings import LIST, MAIN_FIGURES, Made, read_list, shown
from analysis.findings_figure import Panel
from analysis.records_archive import ARCHIVE
from ettin_core.foundation.errors import UserError, invalid, with_extra
from ettin_core.foundation.storage import hash_file, read_mapping, write_bytes

SOURCE, GENERATED, FILE = "main.typ", "generated", "paper.json"
NOT_MAIN = ("predictions", "cells", "rulers")  # tables that no finding is read from
AS_PUBLISHED = "published-"  # how tables and figures of the original begin
EXHIBITS = "published"  # and what is filled of them
OF_EVERY_RUN = ("published", "published-table-11", "published-values", "main", *MAIN_FIGURES)  # says nothing of its own
TALLEST = 1.5  # height over width of a figure that a page shows
READ = ("Question", "Measured by", "Estimate [95%]", "Verdict")


def edits(paper: Path) -> list[str]:
    """A line for each generated file of the paper that is not as it was written."""
    return [f"{path} was edited by hand" for path in edited(paper / GENERATED)]


def write(paper: Path, results: Path, reported: Mapping[Path, bytes], listing: Made) -> Path:
    """Write `generated` and the PDF of a paper from the files of all studies' reports; returns the PDF."""
    if not (paper / SOURCE).is_file():
        raise invalid("paper", str(paper), f"has no {SOURCE}", "name the folder of the paper")
    panels = read_list(results / LIST, "figure", Panel)
    limits = read_mapping(results / LIST).get("limits") or {}
    studies: list[dict[str, Any]] = []
    figures: dict[str, bytes] = {}
    for name in dict.fromkeys([*listing.answers.get("study", []), *listing.scales]):
        files = {path.name: content for path, content in reported.items() if path.parent == results / name}
        report = json.loads(files[contents.FILE])
        main = findings_figure.draw([panel for panel in panels if panel.study == name], results, reported)
        section, drawn = _section(name, report, files, main, listing)
        studies.append(section | {"limits": str(limits.get(name, ""))})
        figures |= drawn
    said = {
        "numbers": _numbers(studies, listing),
        "studies": studies,
        "overall": {table.name: asdict(table) for table in listing.overall},
        "coverage": [asdict(table) for table in coverage_files.tables(*coverage_files.read(results))],
    }
    inputs = sha256("".join(hash_file(results / name / ARCHIVE) for name in sorted(listing.scales)).encode())
    with artifact_folder(paper / GENERATED, inputs) as folder:
        folder.put(FILE, json.dumps(_printable(said), indent=1, ensure_ascii=False) + "\n", write)
        for name, content in figures.items():
            folder.put(name, content, write)
    pdf = paper / "main.pdf"
    write_bytes(pdf, typeset(paper / SOURCE))
    return pdf


def _section(
    name: str, report: dict[str, Any], files: Mapping[str, bytes], main: ReportFigure, listing: Made
) -> tuple[dict[str, Any], dict[str, bytes]]:
    """What the section of a study shows, and the files of its figures by name."""
    answers = listing.answers[listing.answers["study"] == name] if len(listing.answers) else listing.answers
    judged = listing.judged[listing.judged["study"] == name]
    first = _main_table(name, report, listing)
    tables = {table["name"]: table for table in report["tables"]}
    exhibits = [table for table in report["tables"] if table["name"].startswith(EXHIBITS)]
    figures = [
        figure
        for figure in report["figures"]
        if figure["name"].startswith(AS_PUBLISHED)
        or (figure["name"] == listing.figures[name] and main.data.empty and _fits(files[f"{figure['name']}.png"]))
    ]
    drawn = {f"{name}-{figure['name']}.pdf": files[f"{figure['name']}.pdf"] for figure in figures}
    figures = [figure | {"file": f"{name}-{figure['name']}.pdf"} for figure in figures]
    if not main.data.empty:
        drawn[f"{name}-main.pdf"] = main.encoded("pdf")
        heading = {"name": "main", "title": "Main measurements", "caption": main.caption.partition(" The studies")[0]}
        figures.insert(0, heading | {"file": f"{name}-main.pdf"})
    section = {
        "name": name,
        "claim": report["claim"],
        "scale": listing.scales[name],
        "answers": [[shown(row, ".")[column] for column in READ] for row in answers.to_dict("records")],
        "stated": next(iter(judged["stated"]), ""),
        "verdicts": [_texts(verdicts.shown(row)) for row in judged.to_dict("records")],
        "main": tables[first],
        "exhibits": exhibits if any(item["name"] not in OF_EVERY_RUN for item in [*exhibits, *figures]) else [],
        "figures": figures,
        "numbers": report["numbers"] | _found(answers, judged),
    }
    return section, drawn


def _found(answers: pd.DataFrame, judged: pd.DataFrame) -> dict[str, str]:
    """The answers of a study by question and its predictions by statement: the estimate with its interval, and the verdict."""
    read = [(f"found/{row['question']}", shown(row, "."), "Estimate [95%]") for row in answers.to_dict("records")]
    read += [
        (f"prediction/{row['statement']}", verdicts.shown(row), "Difference [95%]") for row in judged.to_dict("records")
    ]
    return {key: cells[value] for key, cells, value in read} | {
        f"{key}/verdict": cells["Verdict"] for key, cells, _ in read
    }


def _fits(png: bytes) -> bool:
    """Whether an image can be read on a page: many measurements of one study make a strip."""
    width, height = struct.unpack(">II", png[16:24])
    return bool(height < TALLEST * width)


def _main_table(name: str, report: dict[str, Any], listing: Made) -> str:
    """The table that the study's first finding is read from, or the first with results."""
    names = [table["name"] for table in report["tables"]]
    asked = [question.table for question in listing.questions if question.study == name and question.table in names]
    return next(iter([*(table for table in [*asked, *names] if table not in NOT_MAIN), *names]))


def _texts(row: dict[str, str]) -> list[str]:
    return [row[column] for column in verdicts.HEADER[: verdicts.HEADER.index("Stated")]]


def _numbers(studies: Sequence[dict[str, Any]], listing: Made) -> dict[str, str]:
    """Every number of every study under its name, and the counts of all."""
    values = {f"{study['name']}/{key}": text for study in studies for key, text in study.pop("numbers").items()}
    values |= {f"verdicts/{word}": str(count) for word, count in verdicts.tally(listing.judged).items()}
    values |= {name: str(count) for name, count in listing.counts.items()}
    return values | {"studies": str(len(studies)), "predictions": str(len(listing.judged))}


def _printable(value: Any) -> Any:
    """The same with the code of each letter that no font has in its place."""
    if isinstance(value, str):
        return labels.printable(" ".join(value.split()))
    if isinstance(value, dict):
        return {key: _printable(item) for key, item in value.items()}
    return [_printable(item) for item in value] if isinstance(value, list | tuple) else value


def typeset(source: Path) -> bytes:
    """The PDF of a Typst file, without a date. Raises ValueError where Typst is not installed or reports a fault."""
    try:
        import typst
    except ImportError as error:
        raise invalid("paper", str(source), "needs typst to be typeset", with_extra("report")) from error
    fonts = [str(Path(get_data_path()) / "fonts" / "ttf")]
    fonts += sorted({str(Path(font_manager.findfont(family)).parent) for family in labels.families()})
    try:
        pdf = typst.compile(
            str(source),
            format="pdf",
            font_paths=fonts,
            ignore_system_fonts=True,
            sys_inputs={"families": ",".join(labels.families())},
        )
    except typst.TypstError as error:
        raise UserError(f"{source} is not typeset: {error}") from error
    assert isinstance(pdf, bytes)
    return pdf
