"""The manifest of a prepared corpus: what its parts hold in all, how they were read, and why a split is empty."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np

from ettin_core.data.config import DataConfig
from ettin_core.data.corpus import FORMAT, fingerprint
from ettin_core.data.documents import SPLITS, Document
from ettin_core.data.held_out import COPY
from ettin_core.data.importers.folders import listed
from ettin_core.data.importers.registry import read
from ettin_core.data.preparation.partitions import RemovalCounts
from ettin_core.data.preparation.plan import Plan
from ettin_core.data.shards import token_dtype
from ettin_core.data.tokenizer import POLICY, Tokenizer, policy_hash
from ettin_core.foundation.errors import invalid
from ettin_core.foundation.storage import read_json
from ettin_core.foundation.strict_config import plain

_TOTALS = ("documents", "tokens", "bytes")
_COPIED = ("all of it is copies of held-out documents", "hold out other documents than those of train")
_COUNTED = 1_000_000  # documents whose ids are compared for a message


def entry_file(folder: Path, part: str) -> Path:
    """The file of a finished part's counts and shards."""
    return folder / "parts" / f"{part}.json"


def make_manifest(plan: Plan, folder: Path, tokenizer: Tokenizer) -> dict[str, Any]:
    """The manifest of a corpus whose parts are finished in `folder`. Raises ValueError for an empty split."""
    sources, reading = {}, {}
    for source in plan.sources:
        entries = [read_json(entry_file(folder, part.name)) for part in plan.parts if part.source == source.name]
        sources[source.name] = {split: _sum_of_parts([entry["splits"][split] for entry in entries]) for split in SPLITS}
        removed = RemovalCounts()
        for entry in entries:
            removed.add(entry)
        reading[source.name] = {
            "kind": source.config.kind,
            "identity": source.identity,
            "licence": source.config.licence,
            "curation": plain(source.config.curation),
            **removed.plain,
        }
    _check_not_empty(plan, sources, reading)
    config = plan.config
    manifest = {
        "format": FORMAT,
        "name": config.name,
        "kind": config.kind,
        "config": _without_paths(config),
        "dtype": token_dtype(tokenizer.vocab_size).str,
        "tokenizer_hash": tokenizer.hash,
        "vocab_size": tokenizer.vocab_size,
        "policy": POLICY,
        "policy_hash": policy_hash(tokenizer),
        "sources": sources,
        "reading": reading,
        "not_read": plain(plan.not_read),
    }
    return manifest | {"fingerprint": fingerprint(manifest)}


def _without_paths(config: DataConfig) -> dict[str, Any]:
    """A configuration without paths: the same files elsewhere are the same corpus, and it may be published."""
    sources = {
        name: {key: value for key, value in fields.items() if key != "path"} for name, fields in config.sources.items()
    }
    return plain(config) | {"path": None, "tokenizer": None, "sources": plain(sources)}


def _sum_of_parts(entries: list[dict[str, Any]]) -> dict[str, Any]:
    """The entry of one split over all parts."""
    total: dict[str, Any] = {key: sum(entry[key] for entry in entries) for key in _TOTALS}
    lengths = np.zeros(max((len(entry["lengths"]) for entry in entries), default=0), dtype=np.int64)
    for entry in entries:
        lengths[: len(entry["lengths"])] += np.array(entry["lengths"], dtype=np.int64)
    known = [entry["log_probability"] for entry in entries if entry["documents"]]
    total["lengths"] = lengths.tolist()
    total["log_probability"] = sum(known) if known and None not in known else None
    total["shards"] = [shard for entry in entries for shard in entry["shards"]]
    return total


def _check_not_empty(plan: Plan, sources: dict[str, Any], reading: dict[str, Any]) -> None:
    for split in ("train", "validation"):
        if not any(entry[split]["documents"] for entry in sources.values()):
            left_out = {name: entry["skipped"] for name, entry in reading.items() if entry["skipped"]}
            copied = split == "train" and any(COPY in skipped for skipped in left_out.values())
            reason, remedy = _COPIED if copied else _why_empty(plan, split)
            notes = [reason, f"left out: {left_out}" if left_out else "", f"not read: {listed(plan.not_read)}"]
            details = "; ".join(note for note in notes[: 2 + bool(plan.not_read)] if note)
            raise invalid(
                "data",
                plan.config.path or plan.config.name,
                f"gives no document for the {split} split" + (f" ({details})" if details else ""),
                remedy,
            )


def _why_empty(plan: Plan, split: str) -> tuple[str, str]:
    """(reason, remedy) of a split without documents: names state others, ids are equal, or there is too little."""
    stated = {str(piece.split) for source in plan.sources for piece in source.pieces if piece.split}
    if len(stated) and all(piece.split for source in plan.sources for piece in source.pieces):
        if split in stated:
            return "", "give it documents that are kept"
        remedy = f"name some {split}, as a file <source>.{split}.jsonl or a folder {split}/, or none at all"
        return f"the names state {', '.join(sorted(stated))} only", remedy
    items = itertools.chain.from_iterable(read(s.config, piece) for s in plan.sources for piece in s.pieces)
    ids = [item.id for item in itertools.islice(items, _COUNTED) if isinstance(item, Document)]
    distinct = len(set(ids))
    reason = f"documents {len(ids):,}, distinct ids {distinct:,}, and the id decides the split"
    if distinct < len(ids):
        remedy = (
            "give each document its own id, or data.id_field a name that no row has: then the place in a file is the id"
        )
        return reason, remedy
    return reason, "give more documents; for few large .txt files set data.separator to split them, e.g. '\\n\\n'"
