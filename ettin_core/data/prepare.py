"""Text to tokens: tokenizer, shards, manifest. Done once per corpus, atomically; the same input gives the same bytes."""

import itertools
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ettin_core.data.config import DataConfig
from ettin_core.data.corpus import FORMAT, Corpus, fingerprint
from ettin_core.data.sources import SPLITS, Document, Source, open_sources
from ettin_core.data.tokenizer import POLICY, Tokenizer, policy_hash, train
from ettin_core.foundation.errors import invalid
from ettin_core.foundation.storage import (
    content_name,
    folder_under_construction,
    hash_file,
    locked,
    write_bytes,
    write_json,
)
from ettin_core.foundation.structures import plain

SHARD_TOKENS = 2**26
BATCH_DOCUMENTS = 512

Progress = Callable[[Iterable[Document], str], Iterable[Document]]


def corpus_name(config: DataConfig, sources: list[Source]) -> str:
    """The content name: what the corpus is, not where it lies."""
    identity = plain(config) | {"path": None}
    if config.tokenizer is not None:
        identity["tokenizer"] = Tokenizer(Path(config.tokenizer)).hash
    identity["sources"] = [[source.name, source.identity] for source in sources]
    return content_name(config.name, identity)


def prepare(config: DataConfig, root: Path, progress: Progress = lambda documents, name: documents) -> Corpus:
    """Prepare the corpus under `root`, or open it if it is there. Safe to call from several processes at once.

    Raises ValueError for unreadable input or an empty split; an interrupted preparation leaves nothing behind.
    """
    sources = open_sources(config)
    folder = root / corpus_name(config, sources)
    with locked(root / ".locks" / folder.name, wait=True):
        if not (folder / "manifest.json").exists():
            with folder_under_construction(folder) as building:
                _write_corpus(config, sources, building, progress)
    return Corpus(folder)


def _write_corpus(config: DataConfig, sources: list[Source], folder: Path, progress: Progress) -> None:
    tokenizer = _obtain_tokenizer(config, sources, folder / "tokenizer")
    dtype = np.dtype("<u2" if tokenizer.vocab_size <= 2**16 else "<u4")
    entries: dict[str, dict[str, Any]] = {}
    for source in sources:
        entries[source.name] = {}
        for split in SPLITS:
            documents = progress(source.documents(split), f"{source.name} {split}")
            entries[source.name][split] = _write_split(documents, tokenizer, folder, f"{source.name}.{split}", dtype)
    for split in ("train", "validation"):
        if not any(entry[split]["documents"] for entry in entries.values()):
            raise invalid(
                "data",
                config.path or config.name,
                f"gives no document for the {split} split",
                "give more documents; for few large .txt files set data.separator to split them, e.g. '\\n\\n'",
            )
    manifest = {
        "format": FORMAT,
        "name": config.name,
        "kind": config.kind,
        "config": plain(config) | {"path": None},
        "dtype": dtype.str,
        "tokenizer_hash": tokenizer.hash,
        "vocab_size": tokenizer.vocab_size,
        "policy": POLICY,
        "policy_hash": policy_hash(tokenizer),
        "sources": entries,
    }
    write_json(folder / "manifest.json", manifest | {"fingerprint": fingerprint(manifest)})


def _obtain_tokenizer(config: DataConfig, sources: list[Source], folder: Path) -> Tokenizer:
    if config.tokenizer is not None:
        given = Tokenizer(Path(config.tokenizer))
        for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
            if (given.folder / name).exists():
                write_bytes(folder / name, (given.folder / name).read_bytes())
    else:
        train(_sample(sources, config.tokenizer_sample_mb), config.vocab_size, folder)
    return Tokenizer(folder)


def _sample(sources: list[Source], megabytes: float) -> Iterator[str]:
    """Training text for the tokenizer: every source's first documents, an equal share of bytes each."""
    for source in sources:
        left = megabytes * 1e6 / len(sources)
        for document in source.documents("train"):
            yield document.text
            left -= len(document.text)
            if left <= 0:
                break


def _write_split(
    documents: Iterable[Document], tokenizer: Tokenizer, folder: Path, stem: str, dtype: np.dtype
) -> dict[str, Any]:
    """Tokenise one split into shards; returns its manifest entry."""
    special = tokenizer.special
    entry: dict[str, Any] = {"documents": 0, "tokens": 0, "bytes": 0, "skipped_empty": 0, "shards": []}
    log_probability = 0.0
    known = True
    buffer: list[np.ndarray] = []
    buffered = 0

    def flush() -> None:
        nonlocal buffer, buffered
        file = folder / f"{stem}-{len(entry['shards']):05d}.bin"
        file.write_bytes(np.concatenate(buffer).data)  # ndarray.tofile would hide the reason when the disk is full
        entry["shards"].append({"file": file.name, "tokens": buffered, "sha256": hash_file(file)})
        buffer, buffered = [], 0

    iterator = iter(documents)
    while batch := list(itertools.islice(iterator, BATCH_DOCUMENTS)):
        kept = [document for document in batch if document.text.strip()]
        entry["skipped_empty"] += len(batch) - len(kept)
        for document, ids in zip(kept, tokenizer.encode([document.text for document in kept]), strict=True):
            buffer.append(np.array([special.bos, *ids, special.eos], dtype=dtype))
            buffered += len(ids) + 2
            entry["documents"] += 1
            entry["tokens"] += len(ids) + 2
            entry["bytes"] += len(document.text.encode())
            known = known and document.log_probability is not None
            log_probability += document.log_probability or 0.0
            if buffered >= SHARD_TOKENS:
                flush()
    if buffered:
        flush()
    entry["log_probability"] = log_probability if known and entry["documents"] else None
    return entry
