"""A prepared corpus on disk: memory-mapped token shards and the manifest that proves what they hold.

Layout: manifest.json, tokenizer/, and for every source, split and part of the input `<source>.<split>-PPPPP-NNN.bin` with
the places where documents begin in `.starts` beside it (shards.py).
"""

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ettin_core.data.shards import START, TokenStream, token_dtype
from ettin_core.data.tokenizer import POLICY, Tokenizer, policy_hash
from ettin_core.foundation.errors import invalid
from ettin_core.foundation.hashes import hash_files
from ettin_core.foundation.storage import canonical_json, hash_text, read_mapping

FORMAT = 2


class Corpus:
    """A prepared corpus."""

    def __init__(self, folder: Path) -> None:
        """Open a corpus and verify it, so that nobody trains or measures on a damaged one.

        Every byte is read once on each machine, and again when a file has changed (foundation/hashes.py). Raises ValueError
        for a folder that is not a corpus, or is damaged.
        """
        file = folder / "manifest.json"
        if not file.is_file():
            raise invalid("corpus", str(folder), "has no manifest.json", "prepare it: python -m experiments.prepare")
        self.folder = folder
        self.manifest: dict[str, Any] = read_mapping(
            file, "prepare the corpus again", kind=str, sources=dict, dtype=str
        )
        if self.manifest.get("format") != FORMAT:
            raise invalid(
                "corpus", str(folder), f"has format {self.manifest.get('format')}", "delete it and prepare again"
            )
        self.tokenizer = Tokenizer(folder / "tokenizer")
        if policy_hash(self.tokenizer) != self.manifest["policy_hash"]:
            raise invalid(
                "corpus",
                str(folder),
                f"was prepared with another tokenizer or policy than the one beside it ({POLICY})",
                "restore its tokenizer folder, or prepare the corpus again",
            )
        stored, needed = np.dtype(self.manifest["dtype"]), token_dtype(self.tokenizer.vocab_size)
        if stored.itemsize < needed.itemsize:
            problem = (
                f"has ids up to {self.tokenizer.vocab_size - 1} stored as {stored.name}, where large ones are others"
            )
            raise invalid("corpus", str(folder), problem, "delete the corpus folder and prepare again")
        for source, splits in self.manifest["sources"].items():
            for split in splits:
                self.stream(source, split)
        if fingerprint(self.manifest) != self.fingerprint:
            raise invalid("corpus", str(folder), "has an altered manifest", "delete it and prepare again")
        self.verify(again=False)

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

    def identity(self, source: str, split: str) -> str:
        """A source's name and the hash of its tokens in a split: what its order of rows is keyed by."""
        shards = [shard["sha256"] for shard in self.manifest["sources"][source][split]["shards"]]
        return f"{source} {hash_text(canonical_json(shards))}"

    def stream(self, source: str, split: str) -> TokenStream:
        """The token stream of a source and split. Raises ValueError for a missing or truncated shard."""
        entry = self.manifest["sources"][source][split]
        dtype = np.dtype(self.manifest["dtype"])
        files = []
        for shard in entry["shards"]:
            file = self.folder / shard["file"]
            _check_inside(file, self.folder)
            _check_size(file, shard["tokens"] * dtype.itemsize)
            _check_size(file.with_suffix(".starts"), shard["documents"] * START.itemsize)
            files.append(file)
        sizes, counts = (tuple(shard[key] for shard in entry["shards"]) for key in ("tokens", "documents"))
        return TokenStream(tuple(files), sizes, counts, dtype)

    def whole_documents(self, source: str, split: str) -> Iterator[np.ndarray]:
        """The documents of a source and split with BOS and EOS, int64."""
        stream = self.stream(source, split)
        for shard, begin in enumerate(stream.edges[:-1].tolist()):
            starts = stream.starts(shard) + begin
            for first, end in itertools.pairwise(starts.tolist()):
                yield stream.read(first, end).astype(np.int64)

    def documents(self, split: str, limit: int | None = None) -> list[np.ndarray]:
        """Whole documents of a split with BOS and EOS, int64, sources in turn, at most `limit` in all."""
        return _in_turn(
            [itertools.islice(self.whole_documents(source, split), limit) for source in self.sources], limit
        )

    def held_out(self, split: str, limit: int | None = None) -> list[np.ndarray]:
        """Whole documents of "validation", on which choices are made, or of "test", which is reported; as `documents`.

        In a source without a test split every second validation document, from the first on, is test.
        """
        by_source = [itertools.islice(self._unseen(source, split), limit) for source in self.sources]
        return _in_turn(by_source, limit)

    def _unseen(self, source: str, split: str) -> Iterator[np.ndarray]:
        if self.manifest["sources"][source]["test"]["documents"]:
            return self.whole_documents(source, split)
        return itertools.islice(self.whole_documents(source, "validation"), int(split == "validation"), None, 2)

    @property
    def _hashes(self) -> dict[str, str]:
        """sha256 of every file of tokens and starts."""
        hashes = {}
        for splits in self.manifest["sources"].values():
            for shard in itertools.chain.from_iterable(entry["shards"] for entry in splits.values()):
                hashes[shard["file"]] = shard["sha256"]
                hashes[str(Path(shard["file"]).with_suffix(".starts"))] = shard["starts_sha256"]
        return hashes

    def verify(self, again: bool = True) -> None:
        """Read every shard and compare with the manifest; without `again`, those that this machine has not read as they are.

        Raises ValueError naming the damaged file.
        """
        expected = {self.folder / name: value for name, value in self._hashes.items()}
        hashes = hash_files(self.folder, list(expected), f"corpus {self.name}", again)
        for file, value in expected.items():
            if hashes[file] != value:
                raise invalid("shard", str(file), "is damaged", "delete the corpus folder and prepare again")


def _check_inside(file: Path, folder: Path) -> None:
    """Raises ValueError if a name or a link leads out of the folder: a corpus may come from somebody else."""
    for part in (file, file.with_suffix(".starts")):
        if part.resolve().parent != folder.resolve():
            raise invalid("shard", str(part), "is outside of the corpus folder", "put the file itself into the folder")


def _check_size(file: Path, wanted: int) -> None:
    size = file.stat().st_size if file.exists() else None
    if size != wanted:
        raise invalid(
            "shard",
            str(file),
            "is missing" if size is None else f"has {size} bytes instead of {wanted}",
            "restore it, or delete the corpus folder and prepare again",
        )


def _in_turn(by_source: Sequence[Iterator[np.ndarray]], limit: int | None) -> list[np.ndarray]:
    turns = itertools.chain.from_iterable(itertools.zip_longest(*by_source))
    return list(itertools.islice((ids for ids in turns if ids is not None), limit))


def fingerprint(manifest: dict[str, Any]) -> str:
    """Hash of the tokens (through the shards' hashes), their order, the tokenizer and the policy."""
    shards = {
        source: {split: [shard["sha256"] for shard in entry["shards"]] for split, entry in splits.items()}
        for source, splits in manifest["sources"].items()
    }
    return hash_text(canonical_json([FORMAT, manifest["dtype"], manifest["policy_hash"], shards]))
