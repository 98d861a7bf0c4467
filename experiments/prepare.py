"""python -m experiments.prepare data=text data.path=<folder>: corpus -> tokenizer, shards, manifest."""

from ettin_core.data.config import DataConfig
from ettin_core.data.corpus import Corpus
from ettin_core.data.documents import NotRead
from ettin_core.data.importers.folders import listed
from ettin_core.data.preparation.plan import make_plan
from ettin_core.data.preparation.progress_bar import prepared
from ettin_core.data.preparation.readback import read_back
from ettin_core.foundation.terminal import printable
from ettin_core.requests.prepare import PrepareRequest
from experiments.cli.entry import entry


@entry("prepare", PrepareRequest)
def main(request: PrepareRequest) -> None:
    """Prepare (or open) a corpus and print what it holds."""
    corpus = prepared(request.data, request.corpora_dir, request.workers)
    print(printable(describe(corpus)))
    if request.verify:
        print(_verified(request.data, corpus))


def _verified(data: DataConfig, corpus: Corpus) -> str:
    """What was verified. Raises ValueError for damaged shards, and for tokens that do not decode to their text."""
    corpus.verify()
    counts = read_back(make_plan(data), corpus)
    rest = counts.compared - counts.exact
    others = f", {rest:,} as the tokenizer normalises it" if rest else ""
    return f"verified every shard by its hash; {counts.exact:,} documents spell their text letter for letter{others}"


def describe(corpus: Corpus) -> str:
    """The manifest as text: a row per source and split, what was left out and why, and the fingerprint."""
    manifest = corpus.manifest
    width = max(16, *(len(name) + 2 for name in corpus.sources))
    lines = [f"{'source':<{width}}{'split':<12}{'documents':>11}{'tokens':>15}{'bytes':>15}{'bytes/token':>13}"]
    total = dict.fromkeys(("documents", "tokens", "bytes"), 0)
    for source in corpus.sources:
        for split, counted in manifest["sources"][source].items():
            total = {key: total[key] + counted[key] for key in total}
            lines.append(_row(source, split, counted, width))
    lines += [_row("all", "", total, width), ""]
    for source in corpus.sources:
        reading = manifest["reading"][source]
        left_out = ", ".join(f"{reason} {count:,}" for reason, count in sorted(reading["skipped"].items()))
        lines += [f"{source}: left out {left_out}"] if left_out else []
    both = manifest.get("held_out", {}).get("texts_in_both", 0)
    lines += [f"held out: {both:,} texts are in validation and test both"] if both else []
    not_read = {reason: NotRead(**entry) for reason, entry in manifest.get("not_read", {}).items()}
    lines += [f"not read: {listed(not_read)}"] if not_read else []
    lines.append(f"vocabulary {corpus.tokenizer.vocab_size:,}   fingerprint {corpus.fingerprint}")
    return "\n".join([*lines, f"corpus {corpus.folder}"])


def _row(source: str, split: str, counted: dict[str, int], width: int) -> str:
    ratio = f"{counted['bytes'] / counted['tokens']:.2f}" if counted["tokens"] else "—"
    counts = f"{counted['documents']:>11,}{counted['tokens']:>15,}{counted['bytes']:>15,}{ratio:>13}"
    return f"{source:<{width}}{split:<12}{counts}"


if __name__ == "__main__":
    main()
