"""python -m experiments.preview data=text data.path=<folder>: what an importer reads from text, before it is prepared."""

import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace

from ettin_core.data.config import DataConfig, SourceConfig
from ettin_core.data.documents import SPLITS, Document
from ettin_core.data.held_out import text_key
from ettin_core.data.importers.folders import listed
from ettin_core.data.preparation.partitions import Partition, RemovalCounts, documents
from ettin_core.data.preparation.plan import Plan, make_plan
from ettin_core.foundation.errors import invalid
from ettin_core.foundation.terminal import printable
from experiments.cli.entry import entry

WIDTH = 300
WHOLE = 2**24  # bytes of input


@dataclass(frozen=True)
class PreviewRequest:
    """conf/preview.yaml."""

    data: DataConfig
    count: int

    def __post_init__(self) -> None:
        if self.count < 1:
            raise invalid("count", self.count, "is not positive", "use 10")


@entry("preview", PreviewRequest)
def main(request: PreviewRequest) -> None:
    """Print the first documents of each source in turn, and what was left out on the way."""
    print(printable(describe(request.data, request.count)))


def describe(config: DataConfig, count: int) -> str:
    """The first `count` documents over all sources, the reasons for what was left out before them, and samples of that."""
    plan = make_plan(replace(config, on_bad="skip"))  # bad input is shown here, and stops nothing
    each = -(-count // len(plan.sources))
    lines, shown = [], 0
    for source in plan.sources:
        tally, splits = RemovalCounts(), Counter[str]()
        parts = sorted(
            (part for part in plan.parts if part.source == source.name),
            key=lambda part: part.split not in (None, "train"),
        )
        size = sum(part.size for part in parts)
        lines.append(f"source {source.name}: {len(parts)} parts, {size / 1e6:,.1f} MB of input ({source.config.kind})")
        for split, document in _first(parts, source.config, tally, min(each, count - shown)):
            splits[split] += 1
            shown += 1
            lines += [f"\n[{shown}] {document.id}  ({split}, {_length(document)})", _beginning(document)]
        lines.append(f"\n  read: {dict(splits)}; left out on the way: {dict(tally.skipped) or 'nothing'}")
        if tally.lines_removed:
            lines.append(f"  lines removed: {dict(tally.lines_removed)}")
        for reason, samples in tally.samples.items():
            lines += [f"    {reason}: {sample['id']}: {_short(sample['text'], 120)}" for sample in samples]
        lines.append("")
    lines.append(_overlap(plan))
    lines += [f"not read: {listed(plan.not_read)}"] if plan.not_read else []
    return "\n".join(lines).rstrip()


def _overlap(plan: Plan) -> str:
    """How many training documents copy a held-out one; only a small text is read whole for that."""
    if sum(part.size for part in plan.parts) > WHOLE:
        return "copies of held-out documents in train are counted when the corpus is prepared"
    keys: dict[str, list[int]] = {split: [] for split in SPLITS}
    for part in plan.parts:
        for split, document in documents(part, plan.source(part.source).config, RemovalCounts()):
            given = document.tokens is not None
            keys[split].append(text_key(str(document.tokens.tolist()) if given else document.text))  # type: ignore[union-attr]
    held_out = set(keys["validation"] + keys["test"])
    copies = sum(key in held_out for key in keys["train"])
    return f"held out: {copies:,} of {len(keys['train']):,} training documents are copies of {len(held_out):,} held-out texts"


def _first(
    parts: list[Partition], config: SourceConfig, tally: RemovalCounts, count: int
) -> Iterator[tuple[str, Document]]:
    kept = itertools.chain.from_iterable(documents(part, config, tally) for part in parts)
    return itertools.islice(kept, max(0, count))


def _length(document: Document) -> str:
    return f"{len(document.tokens)} token ids" if document.tokens is not None else f"{len(document.text):,} characters"


def _beginning(document: Document) -> str:
    return str(document.tokens[:40].tolist()) if document.tokens is not None else _short(document.text, WIDTH)


def _short(text: str, width: int) -> str:
    text = " ".join(text.split())
    return text if len(text) <= width else text[:width] + "…"


if __name__ == "__main__":
    main()
