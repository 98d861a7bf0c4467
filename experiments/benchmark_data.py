"""python -m experiments.benchmark_data: how fast text becomes tokens and rows here, as ratios to named peers, in one run.

Preparation is timed against `datasets.map` with the same tokenizer, the same files and the same number of processes, in
turns; with `whole=true` all of the data is also prepared as it is configured (tokenizer, held-out text, curation), and each
stage is timed. The loader is timed against random crops of one memory map, the least that any loader has to do; the order of
rows on an index of two trillion tokens, which it must not hold in memory.
"""

import itertools
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ettin_core.data.batch_schedule import BatchSchedule
from ettin_core.data.config import DataConfig
from ettin_core.data.corpus import Corpus
from ettin_core.data.loader import Loader
from ettin_core.data.order import Order
from ettin_core.data.packing import PACKINGS
from ettin_core.foundation.errors import invalid
from experiments.benchmarks.preparation import preparation, whole_preparation
from experiments.benchmarks.tools import anonymous_memory, random_corpus
from experiments.cli.entry import entry

_SECONDS = 1.5


@dataclass(frozen=True)
class BenchmarkDataRequest:
    """conf/benchmark_data.yaml."""

    data: DataConfig
    megabytes: float
    whole: bool
    workers: int
    rounds: int
    corpus_tokens: int
    contexts: tuple[int, ...]
    batch_tokens: int
    index_tokens: int

    def __post_init__(self) -> None:
        for name in ("megabytes", "workers", "rounds", "corpus_tokens", "batch_tokens", "index_tokens"):
            if getattr(self, name) <= 0:
                raise invalid(name, getattr(self, name), "is not positive", "give a positive number")


@entry("benchmark_data", BenchmarkDataRequest)
def main(request: BenchmarkDataRequest) -> None:
    """Print the comparisons."""
    with tempfile.TemporaryDirectory(prefix="ettin-benchmark-") as temporary:
        folder = Path(temporary)
        if request.whole:
            print("\n".join(whole_preparation(request.data, request.workers, folder)), flush=True)
        print(
            "\n".join(preparation(request.data, request.megabytes, request.workers, request.rounds, folder)), flush=True
        )
        print("\n".join(loading(request, folder)), flush=True)
        print("\n".join(ordering(request.index_tokens)), flush=True)


def loading(request: BenchmarkDataRequest, folder: Path) -> list[str]:
    """Tokens per second of the loader by packing and context, as a ratio to random crops of one memory map."""
    corpus = random_corpus(folder / "random", request.corpus_tokens)
    lines = [
        f"loading from {request.corpus_tokens / 1e6:,.0f}M tokens, {request.batch_tokens:,} tokens a batch, one process"
    ]
    lines.append(
        f"  {'packing':<10}{'context':>9}{'tokens/s':>14}{'ratio to crops':>16}{'utilisation':>13}{'memory':>10}"
    )
    for packing, context in itertools.product(PACKINGS, request.contexts):
        before = anonymous_memory()
        loader = Loader(
            corpus, context, BatchSchedule(max(1, request.batch_tokens // context)), 1, "benchmark", packing=packing
        )
        rates = [
            _rate(loader.batch, loader.batches.rows * context),
            _rate(_crops(corpus, loader), loader.batches.rows * context),
        ]
        grown = (anonymous_memory() - before) / 2**20
        used = statistics.mean(loader.utilisation.values())
        lines.append(
            f"  {packing:<10}{context:>9,}{rates[0]:>14,.0f}{rates[0] / rates[1]:>16.2f}{used:>13.3f}{grown:>+6.0f} MiB"
        )
    return lines


def _rate(make: Callable[[int], object], tokens: int) -> float:
    """Tokens per second over a second or more, the first batch aside."""
    make(0)
    begin, step = time.perf_counter(), 0
    while time.perf_counter() - begin < _SECONDS:
        step += 1
        make(step)
    return step * tokens / (time.perf_counter() - begin)


def _crops(corpus: Corpus, loader: Loader) -> Callable[[int], np.ndarray]:
    """What many small trainers do: crops at random places of one file; no documents, no positions, no epochs."""
    ids = np.memmap(corpus.stream(corpus.sources[0], "train").files[0], dtype="<u2", mode="r")
    generator = np.random.default_rng(0)

    def batch(step: int) -> np.ndarray:
        places = generator.integers(0, len(ids) - loader.context, loader.batches.rows)
        return np.stack([ids[place : place + loader.context].astype(np.int64) for place in places])

    return batch


def ordering(index_tokens: int) -> list[str]:
    """Time and memory to find the rows of a step in an index of trillions of tokens, early and late."""
    context, batch_rows, sources = 1024, 4608, 12
    rows = [index_tokens // context // sources] * sources
    before = anonymous_memory()
    names = [f"source {number}" for number in range(sources)]
    order = Order(names, 1, "pretrain", rows, [float(2**number) for number in range(sources)])
    lines = [f"order of {sum(rows):,} rows ({index_tokens / 1e12:g} trillion tokens) in {sources} sources"]
    for step in (0, 1_000_000, 10**9):
        begin = time.perf_counter()
        order.locate(np.arange(batch_rows, dtype=np.int64) + step * batch_rows)
        lines.append(f"  step {step:<14,}{(time.perf_counter() - begin) * 1e3:8.1f} ms for {batch_rows:,} rows")
    grown = (anonymous_memory() - before) / 2**20
    return [*lines, f"  memory {grown:+.0f} MiB"]


if __name__ == "__main__":
    main()
