"""python -m experiments.benchmark_data: how fast text becomes tokens and rows here, as ratios to named peers, in one run.

Preparation is timed against `datasets.map` with the same tokenizer, the same files and the same number of processes, in
turns; the loader against random crops of one memory map, the least that any loader has to do; the order of rows on an index
of two trillion tokens, which it must not hold in memory.
"""

import itertools
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ettin_core.data.batch_schedule import BatchSchedule
from ettin_core.data.config import DataConfig
from ettin_core.data.corpus import Corpus
from ettin_core.data.loader import Loader
from ettin_core.data.order import Order
from ettin_core.data.packing import PACKINGS
from ettin_core.data.preparation.partitions import RemovalCounts, documents
from ettin_core.data.preparation.plan import make_plan
from ettin_core.data.preparation.prepare import prepare
from ettin_core.foundation.errors import RunStopped, invalid, with_extra
from experiments.benchmark_tools import PeakMemory, anonymous_memory, random_corpus
from experiments.cli.entry import entry

FILES = 8
_SECONDS = 1.5

Side = tuple[Callable[[Path], Any], Callable[[Any], int]]  # prepare into a folder; count the tokens of what was made


@dataclass(frozen=True)
class BenchmarkDataRequest:
    """conf/benchmark_data.yaml."""

    data: DataConfig
    megabytes: float
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
    """Print the three comparisons."""
    with tempfile.TemporaryDirectory(prefix="ettin-benchmark-") as folder:
        for part in (preparation, loading, ordering):
            print("\n".join(part(request, Path(folder))), flush=True)


def preparation(request: BenchmarkDataRequest, folder: Path) -> list[str]:
    """Tokens per second and peak memory of `prepare` and of `datasets.map`."""
    size = _write_files(request, folder / "text")
    config = DataConfig(kind="text", name="benchmark", path=str(folder / "text"), vocab_size=request.data.vocab_size)
    tokenizer = prepare(config, folder / "first").folder / "tokenizer"
    config = replace(config, tokenizer=str(tokenizer))
    sides = {"ettin": _ours(config, request.workers), "datasets.map": _theirs(config, folder, request.workers)}
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    peaks: dict[str, float] = dict.fromkeys(sides, 0.0)
    tokens: dict[str, int] = {}
    for number in tqdm(range(request.rounds), desc="benchmark preparation", unit="round", leave=False):
        for name, (prepare_it, count) in sides.items():
            with PeakMemory() as memory:
                begin = time.perf_counter()
                made = prepare_it(folder / f"{name}-{number}")
                seconds[name].append(time.perf_counter() - begin)
            peaks[name] = max(peaks[name], memory.peak)
            tokens[name] = count(made)
    if len(set(tokens.values())) > 1:
        raise RunStopped(f"the two sides did not write the same number of tokens: {tokens}")
    lines = [f"preparation of {size / 1e6:.0f} MB of JSON lines in {FILES} files, {request.workers} processes"]
    for name in sides:
        rate = tokens[name] / statistics.median(seconds[name])
        lines.append(f"  {name:<16}{rate:>12,.0f} tokens/s   peak memory {peaks[name] / 2**20:,.0f} MiB, all processes")
    ratios = sorted(their / our for our, their in zip(*seconds.values(), strict=True))
    lines.append(f"  {'ratio':<16}{statistics.median(ratios):>12.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})")
    return lines


def _write_files(request: BenchmarkDataRequest, folder: Path) -> int:
    """The first megabytes of the data's training documents as JSON lines; returns the bytes of text."""
    folder.mkdir()
    files = [(folder / f"text.train-{number}.jsonl").open("w") for number in range(FILES)]
    size = 0
    for number, text in enumerate(_texts(request.data)):
        files[number % FILES].write(json.dumps({"id": str(number), "text": text}) + "\n")
        size += len(text.encode())
        if size >= request.megabytes * 1e6:
            break
    for file in files:
        file.close()
    (folder / "text.validation.jsonl").write_text(json.dumps({"id": "v", "text": "A line."}) + "\n")
    return size


def _texts(config: DataConfig) -> Iterator[str]:
    plan = make_plan(config)
    for part in plan.parts:
        for split, document in documents(part, plan.source(part.source).config, RemovalCounts()):
            if split == "train":
                yield document.text


def _ours(config: DataConfig, workers: int) -> Side:
    """This project's preparation: reads the files, tokenises, writes shards and manifest."""
    return lambda out: prepare(config, out, workers), lambda corpus: corpus.tokens("text", "train")


def _theirs(config: DataConfig, folder: Path, workers: int) -> Side:
    """`datasets.map` with the tokenizer's batched call; the files have been read into its own format before."""
    try:
        import datasets
    except ImportError as error:
        raise invalid("datasets", None, "is not installed", with_extra("data")) from error
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast.from_pretrained(str(config.tokenizer))
    bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
    datasets.disable_progress_bars()
    files = sorted(str(path) for path in Path(str(config.path)).glob("*.train-*.jsonl"))
    loaded = datasets.load_dataset("json", data_files=files, split="train", cache_dir=str(folder / "cache"))

    def encode(batch: dict[str, list[str]]) -> dict[str, list[list[int]]]:
        encoded = tokenizer(
            batch["text"], add_special_tokens=False, return_attention_mask=False, return_token_type_ids=False
        )
        return {"input_ids": [[bos, *ids, eos] for ids in encoded["input_ids"]]}

    def prepare_it(out: Path) -> Any:
        return loaded.map(
            encode,
            batched=True,
            num_proc=workers,
            remove_columns=loaded.column_names,
            cache_file_name=f"{out}.arrow",
            load_from_cache_file=False,
        )

    return prepare_it, _count


def _count(made: Any) -> int:
    """Token ids in a mapped dataset."""
    return sum(len(chunk.flatten()) for chunk in made.data.column("input_ids").chunks)


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


def ordering(request: BenchmarkDataRequest, folder: Path) -> list[str]:
    """Time and memory to find the rows of a step in an index of trillions of tokens, early and late."""
    context, batch_rows, sources = 1024, 4608, 12
    rows = [request.index_tokens // context // sources] * sources
    before = anonymous_memory()
    names = [f"source {number}" for number in range(sources)]
    order = Order(names, 1, "pretrain", rows, [float(2**number) for number in range(sources)])
    lines = [f"order of {sum(rows):,} rows ({request.index_tokens / 1e12:g} trillion tokens) in {sources} sources"]
    for step in (0, 1_000_000, 10**9):
        begin = time.perf_counter()
        order.locate(np.arange(batch_rows, dtype=np.int64) + step * batch_rows)
        lines.append(f"  step {step:<14,}{(time.perf_counter() - begin) * 1e3:8.1f} ms for {batch_rows:,} rows")
    grown = (anonymous_memory() - before) / 2**20
    return [*lines, f"  memory {grown:+.0f} MiB"]


if __name__ == "__main__":
    main()
