"""What a data report knows, as frames, and its tables: the sources, what each phase draws of them, what was left out."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.evidence import rows_of
from analysis.tables import HOLE, Footnotes, Table
from ettin_core.records.schema import SCHEMA_VERSION

SPLITS = ("train", "validation", "test")
DOCUMENT, LINE = "document", "line of a kept document"
FILE, FOLDERS = "file or folder", "(not read)"


@dataclass(frozen=True)
class DataRecord:
    """A record of experiments.data_report, as it stands and as frames.

    `sources` has a row per source and split; `lengths` how many training documents have at most so many tokens; `draws` a
    row per phase and source; `left_out` one per source, reason and kind of thing left out. `fingerprint` is the sha256 of
    the file.
    """

    content: dict[str, Any]
    sources: pd.DataFrame
    lengths: pd.DataFrame
    draws: pd.DataFrame
    left_out: pd.DataFrame
    fingerprint: str

    @property
    def phases(self) -> list[dict[str, Any]]:
        """The phases, those that cannot be drawn included."""
        return self.content["phases"]

    @property
    def max_epochs(self) -> float:
        """How often a run may pass over a source."""
        return self.content["max_epochs"]

    @property
    def problems(self) -> list[str]:
        """Why this recipe would be refused on this corpus, if it would."""
        refused = [f"{phase['name']}: {phase['refused']}" for phase in self.phases if phase["refused"]]
        return refused + [
            f"the phases together pass {passes(row.passes)} times over {row.source}; recipe.max_epochs is "
            f"{self.max_epochs:g}."
            for row in rows_of(self.totals)
            if row.passes_asked > self.max_epochs
        ]

    @property
    def totals(self) -> pd.DataFrame:
        """What all phases together draw, with a row per source: rows, tokens, and passes as drawn and as asked for."""
        columns = ["rows", "tokens", "passes", "passes_asked"]
        return self.draws.groupby("source", sort=False)[columns].sum().reset_index()


def load_record(file: Path) -> DataRecord:
    """Read a record. Raises ValueError for anything else."""
    if not file.is_file():
        raise ValueError(f"record={str(file)!r} is not there; write it with python -m experiments.data_report.")
    data = file.read_bytes()
    content = json.loads(data)
    if (content.get("kind"), content.get("schema")) != ("data_report", SCHEMA_VERSION):
        raise ValueError(
            f"record={str(file)!r} is no data report of schema {SCHEMA_VERSION}; write it again with "
            "python -m experiments.data_report."
        )
    return DataRecord(
        content=content,
        sources=_sources(content),
        lengths=_lengths(content),
        draws=_draws(content),
        left_out=_left_out(content),
        fingerprint=hashlib.sha256(data).hexdigest(),
    )


def _sources(content: dict[str, Any]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                "source": name,
                "split": split,
                **{key: counts[key] for key in ("documents", "tokens", "bytes", "bytes_per_token")},
                "kind": source["kind"],
                "licence": source["licence"],
            }
            for name, source in content["sources"].items()
            for split, counts in sorted(source["splits"].items(), key=lambda item: SPLITS.index(item[0]))
        ]
    )


def _lengths(content: dict[str, Any]) -> pd.DataFrame:
    rows = []
    for name, source in content["sources"].items():
        counts = source["splits"]["train"]["lengths"]
        done, total = 0, sum(counts)
        for power, count in enumerate(counts):
            done += count
            at_most = 2 ** (power + 1) - 1
            rows.append({"source": name, "at_most": at_most, "documents": count, "share": done / max(1, total)})
    return pd.DataFrame(rows, columns=["source", "at_most", "documents", "share"])


def _draws(content: dict[str, Any]) -> pd.DataFrame:
    columns = ["phase", "context", "packing", "source", "share_asked", "share_drawn", "rows", "tokens", "passes"]
    columns += ["passes_asked", "utilisation", "documents_longer", "share_longer", "pieces", "pieces_per_document"]
    rows = []
    for phase in content["phases"]:
        for name, drawn in phase["sources"].items():
            documents = content["sources"][name]["splits"]["train"]["documents"]
            shares = {
                "share_longer": drawn["documents_longer"] / documents,
                "pieces_per_document": drawn["pieces"] / documents,
            }
            shared = {"phase": phase["name"], "context": phase["context"], "packing": phase["packing"]}
            rows.append({"passes_asked": drawn["passes"], **shared, "source": name, **drawn, **shares})
    return pd.DataFrame(rows, columns=columns)


def _left_out(content: dict[str, Any]) -> pd.DataFrame:
    rows = []
    for name, source in content["sources"].items():
        read = sum(counts["documents"] for counts in source["splits"].values()) + sum(source["skipped"].values())
        for what, counted in ((DOCUMENT, source["skipped"]), (LINE, source["lines_removed"])):
            for reason, count in sorted(counted.items(), key=lambda item: (-item[1], item[0])):
                share = count / read if what == DOCUMENT else None
                rows.append({"source": name, "reason": reason, "what": what, "number": count, "share_of_read": share})
    for reason, entry in content.get("not_read", {}).items():
        shown = f"{reason}: {', '.join(entry['examples'])}{', …' if entry['count'] > len(entry['examples']) else ''}"
        rows.append({"source": FOLDERS, "reason": shown, "what": FILE, "number": entry["count"], "share_of_read": None})
    return pd.DataFrame(rows, columns=["source", "reason", "what", "number", "share_of_read"])


def sources_table(record: DataRecord) -> Table:
    """Rows are sources, in a section per split."""
    sections = []
    for split in SPLITS:
        rows = record.sources[record.sources["split"] == split]
        if not rows["documents"].sum():
            continue
        told = [_source_row(row, rows["tokens"].sum()) for row in rows_of(rows)]
        if len(rows) > 1:
            total = rows[["documents", "tokens", "bytes"]].sum()
            total["bytes_per_token"] = total["bytes"] / total["tokens"]
            told.append(
                _source_row(total.to_frame().T.assign(source="all", kind="", licence="").iloc[0], total["tokens"])
            )
        sections.append((split, told))
    header = ["Source", "Documents", "Tokens", "Share", "Bytes", "Bytes/token", "Tokens/document", "Licence"]
    notes = ["Tokens include the marks at both ends of every document. Bytes are of text, in UTF-8."]
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
    header = ["Phase", "Steps", "Rows a step", "Context", "Places", "Places filled", "Packing"]
    notes = [*footnotes.notes(), "Places: rows times context, what a recipe's tokens count. The rest is padding."]
    return Table("phases", "The phases of the recipe", header, [("", rows)], notes)


def draws_table(record: DataRecord) -> Table:
    """Rows are sources, in a section per phase and one for all phases together."""
    header = [
        "Source",
        "Asked",
        "Drawn",
        "Tokens drawn",
        "Passes",
        "Places filled",
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
        "Asked: the mixture's share of tokens (without a mixture, the source's size). Drawn: what the order gives.",
        "Tokens drawn: rows drawn times the tokens of the source's mean row. Passes: rows drawn over the rows there are.",
        "Longer: training documents longer than the context. Pieces: what the packing cuts a training document into.",
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


def percent(share: float) -> str:
    """A share for people; what is not quite all or nothing does not look like it."""
    digits = 2 if 0 < min(share, 1 - share) < 0.01 else 1
    shown = f"{share:.{digits}%}"
    return {"0.00%": "<0.01%", "100.00%": ">99.99%"}.get(shown, shown) if 0 < share < 1 else f"{share:.0%}"


def passes(value: float) -> str:
    """A number of passes to three significant places."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
