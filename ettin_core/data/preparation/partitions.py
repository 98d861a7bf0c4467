"""One part of a source, from its input to finished shards: the unit of work of one worker, independent of all others.

How a corpus is divided into parts follows from its input alone, so the shards are the same for any number of workers. A
part is finished when its entry is in `parts/`; a kill loses at most the parts that were being written.
"""

import io
import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ettin_core.data.config import SourceConfig
from ettin_core.data.curation.curate import Curator
from ettin_core.data.curation.duplicates import signature, signature_width
from ettin_core.data.documents import SPLITS, Document, Piece, Skipped, Source, bad, split_of
from ettin_core.data.held_out import COPY, HELD_OUT_SPLITS, NEAR_COPY, HeldOut, write_table
from ettin_core.data.importers.registry import read
from ettin_core.data.shards import SplitWriter
from ettin_core.data.tokenizer import Tokenizer, policy_hash
from ettin_core.foundation.errors import invalid
from ettin_core.foundation.storage import write_bytes, write_json

MERGE_BYTES = 2**23
BATCH_CHARACTERS = 2**20
BATCH_DOCUMENTS = 1024
SAMPLES = 3

Tick = Callable[[int, int], None]  # documents and bytes of text since the last tick


@dataclass(frozen=True)
class Partition:
    """Consecutive pieces of a source with one stated split (None: by id), numbered within the source."""

    source: str
    number: int
    split: str | None
    pieces: tuple[Piece, ...]

    @property
    def name(self) -> str:
        """The part's name among all files of the corpus."""
        return f"{self.source}.{self.number:05d}"

    @property
    def size(self) -> int:
        """The work it is, in bytes of input or a like unit."""
        return sum(piece.size for piece in self.pieces)


def partition(source: Source) -> list[Partition]:
    """The parts of a source: small pieces in a row are merged; under a limit of documents, all that share a split."""
    if source.config.documents is not None and source.config.kind != "world":
        splits = dict.fromkeys(piece.split for piece in source.pieces)
        groups = [[piece for piece in source.pieces if piece.split == split] for split in splits]
    else:
        groups = _merged(source.pieces)
    return [Partition(source.name, number, group[0].split, tuple(group)) for number, group in enumerate(groups)]


def _merged(pieces: Iterable[Piece]) -> list[list[Piece]]:
    groups: list[list[Piece]] = []
    size = 0
    for piece in pieces:
        if groups and groups[-1][0].split == piece.split and size + piece.size <= MERGE_BYTES:
            groups[-1].append(piece)
            size += piece.size
        else:
            groups.append([piece])
            size = piece.size
    return groups


@dataclass
class RemovalCounts:
    """What was left out of a part: counts by reason, the first few samples of each, and removed lines by rule."""

    skipped: Counter[str] = field(default_factory=Counter)
    samples: dict[str, list[dict[str, str]]] = field(default_factory=dict)
    lines_removed: Counter[str] = field(default_factory=Counter)

    def skip(self, skipped: Skipped) -> None:
        """Count something left out."""
        self.skipped[skipped.reason] += 1
        kept = self.samples.setdefault(skipped.reason, [])
        if len(kept) < SAMPLES:
            kept.append({"id": _whole(skipped.id), "text": _whole(skipped.sample[:300])})

    def add(self, counts: dict[str, Any]) -> None:
        """Add the entry of the part that follows."""
        self.skipped.update(counts["skipped"])
        self.lines_removed.update(counts["lines_removed"])
        for reason, samples in counts["samples"].items():
            kept = self.samples.setdefault(reason, [])
            kept += samples[: SAMPLES - len(kept)]

    @property
    def plain(self) -> dict[str, Any]:
        """As it is stored in an entry."""
        return {"skipped": dict(self.skipped), "samples": self.samples, "lines_removed": dict(self.lines_removed)}


def _whole(text: str) -> str:
    """A text with "?" for every half of a character, which JSON can express and no file can hold."""
    return text.encode(errors="replace").decode()


def documents(
    part: Partition, config: SourceConfig, removed: RemovalCounts, splits: Sequence[str] = SPLITS
) -> Iterator[tuple[str, Document]]:
    """(split, document) of what is kept of a part in some splits after its rules, at most `config.documents` in each."""
    curator = None if config.curation.is_off else Curator(config.curation)
    limit = None if config.kind == "world" else config.documents
    counts: Counter[str] = Counter()
    open_splits = {part.split} if part.split else set(splits)
    for item in itertools.chain.from_iterable(read(config, piece) for piece in part.pieces):
        split = part.split or split_of(_whole(item.id))
        if split not in splits:
            continue
        kept = _judged(item, curator, removed)
        if kept is not None and split in open_splits:
            counts[split] += 1
            yield split, kept
            if counts[split] == limit:
                open_splits.discard(split)
                if not open_splits:
                    return


def _judged(item: Document | Skipped, curator: Curator | None, removed: RemovalCounts) -> Document | None:
    if isinstance(item, Document) and item.tokens is None and not item.text.strip():
        item = Skipped(item.id, "empty")
    if isinstance(item, Document) and item.tokens is not None and not item.tokens.size:
        item = Skipped(item.id, "empty")
    if isinstance(item, Document) and curator and item.tokens is None:
        verdict = curator.judge(item.text)
        removed.lines_removed.update(verdict.lines_removed)
        if verdict.reason:
            item = Skipped(item.id, verdict.reason, item.text)
        elif verdict.text != item.text:
            item = Document(item.id, verdict.text)
    if isinstance(item, Skipped):
        removed.skip(item)
        return None
    return item


def write_signatures(part: Partition, config: SourceConfig, held_out: Path, train: Path, tick: Tick) -> None:
    """Write what the documents of a part are compared by: (documents, 1 + width) uint64 as .npy, each row with its number."""
    rows: dict[bool, list[np.ndarray]] = {True: [], False: []}
    for number, (split, document) in enumerate(documents(part, config, RemovalCounts())):
        rows[split == "train"].append(np.append(np.uint64(number), signature(document.text, config.curation)))
        tick(1, len(document.text))
    for is_train, file in ((False, held_out), (True, train)):  # the second says that the part is done
        content = io.BytesIO()
        np.save(content, np.array(rows[is_train], dtype=np.uint64).reshape(-1, 1 + signature_width(config.curation)))
        write_bytes(file, content.getvalue())


def write_held_out(part: Partition, config: SourceConfig, tokenizer: Tokenizer, file: Path, tick: Tick) -> None:
    """Write the keys of a part's held-out documents."""

    def texts() -> Iterator[tuple[str, str]]:
        for split, document in documents(part, config, RemovalCounts(), HELD_OUT_SPLITS):
            tick(1, len(document.text))
            given = None if config.token_field is None else _given(tokenizer, document, config)
            if not isinstance(given, Skipped):
                yield split, document.text if given is None else _compared(*given)

    write_table(file, texts())


def write_part(
    part: Partition,
    config: SourceConfig,
    tokenizer: Tokenizer,
    folder: Path,
    tick: Tick,
    held_out: HeldOut,
    duplicates: dict[int, str] | None = None,
) -> None:
    """Tokenise a part into shards and write its entry last. `duplicates` gives the reason by document number.

    Training documents that are copies of held-out ones are left out.

    Raises ValueError for input that cannot be read and DiskFullError.
    """
    removed = RemovalCounts()
    writers = {split: SplitWriter(folder, f"{part.source}.{split}-{part.number:05d}", tokenizer) for split in SPLITS}
    try:
        kept = _without_duplicates(documents(part, config, removed), duplicates or {}, held_out, removed)
        for batch in _batches(kept):
            encoded = _encode(tokenizer, [document for _, document in batch], config)
            _leave_out_copies(batch, encoded, held_out)
            for (split, document), result in zip(batch, encoded, strict=True):
                if isinstance(result, Skipped):
                    removed.skip(result)
                else:
                    writers[split].add(result[0], len(result[1].encode()), document.log_probability)
            tick(len(batch), sum(len(document.text) for _, document in batch))
        entry = {split: writer.close() for split, writer in writers.items()}
    finally:
        for writer in writers.values():
            writer.abandon()
    write_json(
        folder / "parts" / f"{part.name}.json", {"policy": policy_hash(tokenizer), "splits": entry, **removed.plain}
    )


def _without_duplicates(
    kept: Iterable[tuple[str, Document]], duplicates: dict[int, str], held_out: HeldOut, removed: RemovalCounts
) -> Iterator[tuple[str, Document]]:
    for number, (split, document) in enumerate(kept):
        reason = duplicates.get(number)
        if reason == NEAR_COPY and held_out.copies([document.text]):
            reason = COPY  # where only near duplicates are looked for
        if reason is not None:
            removed.skip(Skipped(document.id, reason, document.text))
        else:
            yield split, document


def _leave_out_copies(
    batch: list[tuple[str, Document]], encoded: list[tuple[np.ndarray, str] | Skipped], held_out: HeldOut
) -> None:
    """Put a Skipped in the place of each training document that is a copy of a held-out one."""
    texts = {
        number: document.text or _compared(*result)
        for number, ((split, document), result) in enumerate(zip(batch, encoded, strict=True))
        if split == "train" and not isinstance(result, Skipped)
    }
    numbers = list(texts)
    for index in held_out.copies(list(texts.values())):
        number = numbers[index]
        encoded[number] = Skipped(batch[number][1].id, COPY, texts[number])


def _compared(ids: np.ndarray, text: str) -> str:
    """What given ids are compared by: their text, or where they hold parts of characters the ids themselves."""
    return str(ids.tolist()) if "\ufffd" in text else text


def _batches(kept: Iterable[tuple[str, Document]]) -> Iterator[list[tuple[str, Document]]]:
    """Documents by the megabyte, so that memory does not depend on how long they are."""
    batch: list[tuple[str, Document]] = []
    held = 0
    for item in kept:
        batch.append(item)
        held += len(item[1].text)
        if held >= BATCH_CHARACTERS or len(batch) == BATCH_DOCUMENTS:
            yield batch
            batch, held = [], 0
    if batch:
        yield batch


def _encode(
    tokenizer: Tokenizer, batch: list[Document], config: SourceConfig
) -> list[tuple[np.ndarray, str] | Skipped]:
    """Token ids and text of each document; ids that were given lose the marks at their ends."""
    if config.token_field is not None:
        return [_given(tokenizer, document, config) for document in batch]
    texts = [document.text for document in batch]
    return list(zip(tokenizer.encode_arrays(texts), texts, strict=True))


def _given(tokenizer: Tokenizer, document: Document, config: SourceConfig) -> tuple[np.ndarray, str] | Skipped:
    ids, special = document.tokens, tokenizer.special
    assert ids is not None
    foreign = not tokenizer.holds(ids)
    if foreign or np.isin(ids, (special.pad, special.mask)).any():
        kind = "ids that the tokenizer does not have" if foreign else "padding or mask tokens"
        problem = invalid(
            "data.token_field",
            config.token_field,
            f"holds {kind} in document {document.id!r}",
            "give the tokenizer the ids were made with as data.tokenizer",
        )
        return bad(config, document.id, problem, "bad_ids", str(ids[:40].tolist()))
    ids = ids.astype(np.int64)
    if ids[0] == special.bos:
        ids = ids[1:]
    if len(ids) and ids[-1] == special.eos:
        ids = ids[:-1]
    return ids, tokenizer.decode(ids.tolist())
