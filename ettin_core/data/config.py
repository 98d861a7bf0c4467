"""Which corpus, how its sources are read and curated, and which tokenizer it gets."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from ettin_core.data.curation.config import CurationConfig
from ettin_core.foundation.errors import invalid, unknown
from ettin_core.foundation.fields import check_name, check_within
from ettin_core.foundation.strict_config import build, plain

KINDS = ("world", "text", "huggingface", "mds")
MOST_WORLD_DOCUMENTS = 10**10  # months of writing
MOST_VOCABULARY = 10_000_000
ON_BAD = ("error", "skip")


@dataclass(frozen=True)
class SourceConfig:
    """How one source is read. `path` is not part of its identity: two copies of the same files are the same source.

    Args:
        kind: the importer: world | text (files by suffix) | huggingface | mds.
        path: a file, a folder, or for `huggingface` a hub id, a folder of data files or of `save_to_disk`.
        files: which files of the folder, as a pattern ("wiki.*").
        text_field, id_field: names of the columns of JSON lines, Parquet, datasets and MDS.
        token_field: a column of token ids to take instead of text (needs `tokenizer`).
        separator: splits plain text files into documents (None: one file is one document).
        at_least: smallest value by numeric column, e.g. {q: 85}; other documents are counted and left out.
        documents: training documents of `world`, or a limit by source and split (None: all).
        subset, revision: of a dataset on the hub.
        world_seed: which world.
        max_document_mb: the largest line or text file without a separator, in MiB as it is in memory: what is larger is bad.
        on_bad: `error` stops at the first document that cannot be read, `skip` counts it and keeps a sample.
        licence: stated in the manifest.
        curation: rules, language and duplicates; all are off unless named.
    """

    kind: str
    path: str | None = None
    files: str | None = None
    text_field: str = "text"
    id_field: str = "id"
    token_field: str | None = None
    separator: str | None = None
    at_least: dict[str, float] = field(default_factory=dict)
    documents: int | None = None
    subset: str | None = None
    revision: str | None = None
    world_seed: int = 0
    max_document_mb: float = 1024.0
    on_bad: str = "error"
    licence: str | None = None
    curation: CurationConfig = field(default_factory=CurationConfig)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise unknown("data.kind", self.kind, "is not a kind of corpus", KINDS)
        if self.on_bad not in ON_BAD:
            raise unknown("data.on_bad", self.on_bad, "is not a valid choice", ON_BAD)
        if self.documents is not None and self.documents < 1:
            raise invalid(
                "data.documents", self.documents, "is not positive", "give a positive number, or null for all"
            )
        check_within("data.world_seed", self.world_seed, 0, 2**63 - 1)
        if self.kind == "world" and self.documents is not None:
            check_within("data.documents", self.documents, 1, MOST_WORLD_DOCUMENTS)
        if not 0 < self.max_document_mb < float("inf"):
            raise invalid("data.max_document_mb", self.max_document_mb, "is not a positive size", "use 1024")

    @property
    def max_document(self) -> int:
        """The largest document in characters or bytes."""
        return int(self.max_document_mb * 2**20)

    def check_complete(self, name: str) -> None:
        """Raises ValueError if a field that the importer needs is missing."""
        if self.kind == "world" and not self.documents:
            raise invalid(
                "data.documents", self.documents, "is missing", "give the number of documents that world writes"
            )
        if self.kind != "world" and not self.path:
            raise invalid(
                "data.path", self.path, f"is missing for source {name!r}", "give a file or folder, or a hub id"
            )


@dataclass(frozen=True)
class DataConfig(SourceConfig):
    """A corpus to prepare: how its sources are read, and its tokenizer.

    The fields hold for every source; `sources` names sources and the fields that differ for each. If no sources are named,
    the file names name them ("books.train-00.jsonl.zst" belongs to `books`). `tokenizer` is a folder with
    tokenizer.json (None: train a byte-level BPE of `vocab_size` on the corpus itself). `mixtures` gives weights by
    source for each phase (None: by size); it belongs to the recipe and does not change the corpus.
    """

    name: str = "corpus"
    sources: dict[str, dict[str, Any]] = field(default_factory=dict)
    vocab_size: int = 2048
    tokenizer: str | None = None
    tokenizer_sample_mb: float = 32.0
    mixtures: dict[str, dict[str, float] | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.vocab_size < 300:
            raise invalid(
                "data.vocab_size", self.vocab_size, "is too small for 256 bytes, 5 special tokens and words", "use 2048"
            )
        check_within("data.vocab_size", self.vocab_size, 300, MOST_VOCABULARY)
        if not self.tokenizer_sample_mb > 0:
            problem = "leaves no text to train a tokenizer on"
            raise invalid("data.tokenizer_sample_mb", self.tokenizer_sample_mb, problem, "use 32")
        check_name("data.name", self.name)
        for name in self.sources:
            check_name("data.sources", name)
        for name, source in self.source_configs().items():
            source.check_complete(name)
        for phase, mixture in self.mixtures.items():
            check_mixture(f"data.mixtures.{phase}", mixture, list(self.sources) or None)

    def source_configs(self) -> dict[str, SourceConfig]:
        """The named sources, completed with what holds for all; one under the corpus's name when none are named.

        A source's relative path is taken from the corpus's path. Raises ValueError for unknown keys.
        """
        common = SourceConfig(**{item.name: getattr(self, item.name) for item in fields(SourceConfig)})
        if not self.sources:
            return {self.name: common}
        return {name: _completed(common, name, changes) for name, changes in self.sources.items()}


def _completed(common: SourceConfig, name: str, changes: Mapping[str, Any]) -> SourceConfig:
    source = build(SourceConfig, plain(common) | dict(changes), f"data.sources.{name}")
    if source.path and common.path and "path" in changes and source.kind != "huggingface":
        source = replace(source, path=str(Path(common.path) / source.path))
    return source


def check_mixture(field_name: str, mixture: dict[str, float] | None, sources: list[str] | None) -> None:
    """Raises ValueError for a weight that is not positive, or an unknown source (`sources` None: not known yet)."""
    known = None if sources is None else set(sources)
    for name, weight in (mixture or {}).items():
        if not 0 < weight < float("inf"):
            raise invalid(f"{field_name}.{name}", weight, "is not positive", "leave the source out instead")
        if known is not None and name not in known:
            raise invalid(field_name, name, "is not a source of the corpus", f"it has {', '.join(sorted(known))}")
