"""Which corpus, how it is read, and which tokenizer it gets."""

from dataclasses import dataclass

from ettin_core.foundation.errors import invalid

KINDS = ("world", "text")


@dataclass(frozen=True)
class DataConfig:
    """A corpus to prepare. `path` is only where it lies: two copies of the same files are the same corpus.

    `documents` is the number of training documents of `world`, or a limit per source for text (None: all).
    `tokenizer` is a folder with tokenizer.json (None: train a byte-level BPE of `vocab_size` on the corpus itself).
    `separator` splits plain text files into documents (None: one file is one document).
    """

    kind: str
    name: str
    path: str | None = None
    text_field: str = "text"
    id_field: str = "id"
    separator: str | None = None
    documents: int | None = None
    world_seed: int = 0
    vocab_size: int = 2048
    tokenizer: str | None = None
    tokenizer_sample_mb: float = 32.0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise invalid("data.kind", self.kind, "is not a kind of corpus", f"use one of {', '.join(KINDS)}")
        if self.kind == "text" and not self.path:
            raise invalid("data.path", self.path, "is missing", "give a file or folder of .txt, .jsonl(.gz, .zst)")
        if self.kind == "world" and not self.documents:
            raise invalid("data.documents", self.documents, "is missing", "say how many documents world shall write")
        if self.documents is not None and self.documents < 1:
            raise invalid(
                "data.documents", self.documents, "is not positive", "give a positive number, or null for all"
            )
        if self.vocab_size < 300:
            raise invalid(
                "data.vocab_size", self.vocab_size, "leaves no room beside 256 bytes and 5 special tokens", "use 2048"
            )
