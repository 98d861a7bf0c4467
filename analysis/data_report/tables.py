"""The tables of a data report: the sources, the phases, what each phase draws, and what was left out."""

from typing import Any

import pandas as pd

from analysis.data_report.record import SPLITS, DataRecord, passes, percent
from analysis.study_records import rows_of
from analysis.tables import HOLE, Footnotes, Table


def sources_table(record: DataRecord) -> Table:
    """Rows are sources, in a section per split."""
    sections = []
    for split in SPLITS:
        rows = record.sources[record.sources["split"] == split]
        if not rows["documents"].sum():
            continue
        shown = [_source_row(row, rows["tokens"].sum()) for row in rows_of(rows)]
        if len(rows) > 1:
            total = rows[["documents", "tokens", "bytes"]].sum()
            total["bytes_per_token"] = total["bytes"] / total["tokens"]
            shown.append(
                _source_row(total.to_frame().T.assign(source="all", kind="", licence="").iloc[0], total["tokens"])
            )
        sections.append((split, shown))
    header = ["Source", "Documents", "Tokens", "Share", "Bytes", "Bytes/token", "Tokens/document", "Licence"]
    notes = ["Tokens include the special tokens at both ends of every document. Bytes are of text, in UTF-8."]
    return Table("sources", "What the corpus holds", header, sections, notes)


def _source_row(row: Any, total: float) -> list[str]:
    each = f"{row.tokens / row.documents:,.0f}" if row.documents else HOLE
    ratio = f"{row.bytes_per_token:.2f}" if row.tokens else HOLE
    counts = [f"{int(row.documents):,}", f"{int(row.tokens):,}", percent(row.tokens / total), f"{int(row.bytes):,}"]
    return [row.source, *counts, ratio, each, row.licence or ""]


def phases_table(record: DataRecord) -> Table:
    """Rows are phases: how long each is, and what its rows are."""
    footnotes, rows = Footnotes(), []
    for phase in record.phases:
        filled = footnotes.hole(phase["refused"]) if phase["refused"] else percent(phase["utilisation"])
        counts = [f"{phase[key]:,}" for key in ("steps", "batch_rows", "context", "places")]
        rows.append([phase["name"], *counts, filled, phase["packing"]])
    header = ["Phase", "Steps", "Rows a step", "Context", "Positions", "Positions filled", "Packing"]
    notes = [
        *footnotes.notes(),
        "Positions: rows times context, as a recipe counts tokens. Positions without a token are padding.",
    ]
    return Table("phases", "The phases of the recipe", header, [("", rows)], notes)


def draws_table(record: DataRecord) -> Table:
    """Rows are sources, in a section per phase and one for all phases together."""
    header = [
        "Source",
        "Asked",
        "Drawn",
        "Tokens drawn",
        "Passes",
        "Positions filled",
        "Longer",
        "Pieces/document",
        "Remark",
    ]
    sections = []
    for phase in record.phases:
        rows = record.draws[record.draws["phase"] == phase["name"]]
        sections.append((phase["name"], [_draw_row(row) for row in rows_of(rows)]))
    sections.append(("all phases", [_total_row(row, record.max_epochs) for row in rows_of(record.totals)]))
    notes = [
        "Asked: the share of tokens that the mixture asks for, or the source's size without one. Drawn: what the order has.",
        "Tokens drawn: rows drawn times the tokens of the source's mean row. Passes: rows drawn over the rows there are.",
        "Longer: training documents longer than the context. Pieces: what the packing divides a training document into.",
    ]
    return Table("draws", "What each phase draws", header, [section for section in sections if section[1]], notes)


def _draw_row(row: Any) -> list[str]:
    remark = "" if row.rows else "never drawn"
    longer = f"{row.documents_longer:,} ({percent(row.share_longer)})"
    shares = [percent(row.share_asked), percent(row.share_drawn), f"{row.tokens:,}", passes(row.passes)]
    return [row.source, *shares, percent(row.utilisation), longer, f"{row.pieces_per_document:.2f}", remark]


def _total_row(row: Any, max_epochs: float) -> list[str]:
    remark = f"more than {max_epochs:g} passes" if row.passes_asked > max_epochs else ""
    return [row.source, "", "", f"{row.tokens:,}", passes(row.passes), "", "", "", remark]


def left_out_table(record: DataRecord) -> Table:
    """Rows are reasons, in a section per source."""
    sections = [
        (str(source), [_left_out_row(row) for row in rows_of(rows)])
        for source, rows in record.left_out.groupby("source", sort=False)
    ]
    notes = ["Share: of the source's documents that were read."] if sections else ["Nothing was left out."]
    return Table("left_out", "What was left out, and why", ["Reason", "Count", "Share", "What"], sections, notes)


def _left_out_row(row: Any) -> list[str]:
    return [row.reason, f"{row.number:,}", "" if pd.isna(row.share_of_read) else percent(row.share_of_read), row.what]
