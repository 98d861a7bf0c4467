"""python -m experiments.prepare data=text data.path=<folder>: corpus -> tokenizer, shards, manifest."""

from dataclasses import dataclass

from ettin_core.data.config import DataConfig
from ettin_core.data.corpus import Corpus
from experiments.door import entry
from experiments.requests import prepared


@dataclass(frozen=True)
class PrepareRequest:
    """conf/prepare.yaml."""

    data: DataConfig
    verify: bool
    corpora_dir: str


@entry("prepare", PrepareRequest)
def main(request: PrepareRequest) -> None:
    """Prepare (or open) a corpus and say what it holds."""
    corpus = prepared(request.data, request.corpora_dir)
    if request.verify:
        corpus.verify()
    print(describe(corpus))


def describe(corpus: Corpus) -> str:
    """The manifest for people: a row per source, and the fingerprint."""
    lines = [f"{'source':<16}{'split':<12}{'documents':>10}{'tokens':>13}{'bytes/token':>13}{'skipped':>9}"]
    for source, splits in sorted(corpus.manifest["sources"].items()):
        for split, counted in splits.items():
            ratio = f"{counted['bytes'] / counted['tokens']:.2f}" if counted["tokens"] else "—"
            counts = f"{counted['documents']:>10,}{counted['tokens']:>13,}{ratio:>13}{counted['skipped_empty']:>9,}"
            lines.append(f"{source:<16}{split:<12}{counts}")
    lines.append(f"vocabulary {corpus.tokenizer.vocab_size:,}   fingerprint {corpus.fingerprint}")
    return "\n".join([*lines, f"corpus {corpus.folder}"])


if __name__ == "__main__":
    main()
