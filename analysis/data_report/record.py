"""A record of experiments.data_report as frames: the sources, what each phase draws of them, what was left out."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.study_records import rows_of
from ettin_core.records.schema import SCHEMA_VERSION

SPLITS = ("train", "validation", "test")
DOCUMENT, LINE = "document", "line of a kept document"
FILE, FOLDERS = "file or folder", "(not read)"


@dataclass(frozen=True)
class DataRecord:
    """A record of experiments.data_report, as written and as frames.

    `sources` has a row per source and split; `lengths` how many training documents have at most a number of tokens; `draws` a
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
        """Why training with this recipe on this corpus would stop with an error, if it would."""
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
            f"record={str(file)!r} is not a data report of schema {SCHEMA_VERSION}; write it again with "
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


def percent(share: float) -> str:
    """A share for people; what is not quite all or nothing does not look like it."""
    digits = 2 if 0 < min(share, 1 - share) < 0.01 else 1
    shown = f"{share:.{digits}%}"
    return {"0.00%": "<0.01%", "100.00%": ">99.99%"}.get(shown, shown) if 0 < share < 1 else f"{share:.0%}"


def passes(value: float) -> str:
    """A number of passes to three significant places."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
