"""A prepared corpus on disk: memory-mapped token shards and the manifest that proves what they hold.

Layout: manifest.json, tokenizer/, and for every source and split `<source>.<split>-NNNNN.bin` (little-endian uint16 or
uint32 ids, documents written as BOS ids EOS one after the other).
"""

import contextlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ettin_core.data.tokenizer import POLICY, Tokenizer, policy_hash
from ettin_core.foundation.errors import invalid
from ettin_core.foundation.storage import canonical_json, hash_file, hash_text, read_json, write_json

FORMAT = 1


@dataclass(frozen=True)
class TokenStream:
    """The token ids of one source and split: shards read as one sequence."""

    files: tuple[Path, ...]
    sizes: tuple[int, ...]
    dtype: np.dtype

    def __len__(self) -> int:
        return sum(self.sizes)

    @cached_property
    def _maps(self) -> list[np.ndarray]:
        return [np.memmap(file, dtype=self.dtype, mode="r") for file in self.files]

    @cached_property
    def _starts(self) -> np.ndarray:
        return np.concatenate([[0], np.cumsum(self.sizes)])

    def read(self, begin: int, end: int) -> np.ndarray:
        """Ids begin..end (clipped to the stream), across shard edges, as int64."""
        end = min(end, len(self))
        pieces = []
        while begin < end:
            shard = int(np.searchsorted(self._starts, begin, side="right")) - 1
            offset = begin - int(self._starts[shard])
            piece = self._maps[shard][offset : offset + end - begin]
            pieces.append(piece)
            begin += len(piece)
        return np.concatenate(pieces).astype(np.int64) if pieces else np.empty(0, dtype=np.int64)


class Corpus:
    """A prepared corpus. Opening checks the manifest and sizes; `verify` reads every byte."""

    def __init__(self, folder: Path) -> None:
        file = folder / "manifest.json"
        if not file.is_file():
            raise invalid("corpus", str(folder), "has no manifest.json", "prepare it: python -m experiments.prepare")
        self.folder = folder
        self.manifest: dict[str, Any] = read_json(file)
        if self.manifest.get("format") != FORMAT:
            raise invalid("corpus", str(folder), f"has format {self.manifest.get('format')}", "prepare it again")
        self.tokenizer = Tokenizer(folder / "tokenizer")
        if policy_hash(self.tokenizer) != self.manifest["policy_hash"]:
            raise invalid(
                "corpus",
                str(folder),
                f"was prepared with another tokenizer or policy than the one beside it ({POLICY})",
                "restore its tokenizer folder, or prepare the corpus again",
            )
        for source, splits in self.manifest["sources"].items():
            for split in splits:
                self.stream(source, split)

    @property
    def fingerprint(self) -> str:
        """Hash of every token, the tokenizer and the special-token policy."""
        return self.manifest["fingerprint"]

    @property
    def name(self) -> str:
        """The corpus folder's content name."""
        return self.folder.name

    @property
    def sources(self) -> list[str]:
        """Names of the sources, sorted."""
        return sorted(self.manifest["sources"])

    def tokens(self, source: str, split: str) -> int:
        """Tokens of a source and split, BOS and EOS included."""
        return self.manifest["sources"][source][split]["tokens"]

    def stream(self, source: str, split: str) -> TokenStream:
        """The token stream of a source and split. Raises ValueError for a missing or truncated shard."""
        entry = self.manifest["sources"][source][split]
        dtype = np.dtype(self.manifest["dtype"])
        files = []
        for shard in entry["shards"]:
            file = self.folder / shard["file"]
            size = file.stat().st_size if file.exists() else None
            if size != shard["tokens"] * dtype.itemsize:
                raise invalid(
                    "shard",
                    str(file),
                    "is missing" if size is None else f"has {size} bytes instead of {shard['tokens'] * dtype.itemsize}",
                    "restore it, or delete the corpus folder and prepare again",
                )
            files.append(file)
        return TokenStream(tuple(files), tuple(shard["tokens"] for shard in entry["shards"]), dtype)

    def documents(self, split: str, limit: int | None = None) -> list[np.ndarray]:
        """Whole documents of a split with BOS and EOS, sources in turn, at most `limit` in all."""
        bos = self.tokenizer.special.bos
        by_source = []
        for source in self.sources:
            stream = self.stream(source, split)
            if not len(stream):
                continue
            enough = len(stream) if limit is None else min(len(stream), limit * 4096)
            starts = np.flatnonzero((ids := stream.read(0, enough)) == bos)
            while enough < len(stream) and len(starts) < 2:  # not one whole document so far
                enough = min(len(stream), enough * 2)
                starts = np.flatnonzero((ids := stream.read(0, enough)) == bos)
            pieces = np.split(ids, starts[1:])
            by_source.append(pieces if enough == len(stream) else pieces[:-1])
        turns = max((len(pieces) for pieces in by_source), default=0)
        chosen = [pieces[turn] for turn in range(turns) for pieces in by_source if turn < len(pieces)]
        return chosen[:limit]

    def verify_once(self) -> None:
        """Verify unless that was done for exactly these files: reading terabytes at each start would be too slow."""
        shards = [
            shard["file"]
            for splits in self.manifest["sources"].values()
            for entry in splits.values()
            for shard in entry["shards"]
        ]
        marks = {name: [(stat := (self.folder / name).stat()).st_size, stat.st_mtime_ns] for name in shards}
        record = self.folder / "verified.json"
        if not record.exists() or read_json(record) != marks:
            self.verify()
            with contextlib.suppress(PermissionError):  # shared storage may be read-only
                write_json(record, marks)

    def verify(self) -> None:
        """Read every shard and compare with the manifest. Raises ValueError naming the damaged file."""
        for splits in self.manifest["sources"].values():
            for entry in splits.values():
                for shard in entry["shards"]:
                    if hash_file(self.folder / shard["file"]) != shard["sha256"]:
                        raise invalid(
                            "shard",
                            str(self.folder / shard["file"]),
                            "is damaged",
                            "delete the corpus and prepare again",
                        )
        if fingerprint(self.manifest) != self.fingerprint:
            raise invalid("corpus", str(self.folder), "has an altered manifest", "delete it and prepare again")


def fingerprint(manifest: dict[str, Any]) -> str:
    """Hash of the tokens (through the shards' hashes), their order, the tokenizer and the policy."""
    shards = {
        source: {split: [shard["sha256"] for shard in entry["shards"]] for split, entry in splits.items()}
        for source, splits in manifest["sources"].items()
    }
    return hash_text(canonical_json([FORMAT, manifest["dtype"], manifest["policy_hash"], shards]))
