"""Preparation of a corpus against `datasets.map`: the same tokenizer, files and number of processes, in turns."""

import json
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ettin_core.data.config import DataConfig
from ettin_core.data.preparation.partitions import RemovalCounts, documents
from ettin_core.data.preparation.plan import make_plan
from ettin_core.data.preparation.prepare import prepare
from ettin_core.foundation.errors import RunStopped, invalid, with_extra
from experiments.benchmarks.tools import PeakMemory

FILES = 8
Side = tuple[Callable[[Path], Any], Callable[[Any], int]]  # prepare into a folder; count the tokens of the result


def preparation(data: DataConfig, megabytes: float, workers: int, rounds: int, folder: Path) -> list[str]:
    """Lines with tokens per second and peak memory of `prepare` and of `datasets.map`, on the first megabytes of `data`."""
    size = _write_files(data, megabytes, folder / "text")
    config = DataConfig(kind="text", name="benchmark", path=str(folder / "text"), vocab_size=data.vocab_size)
    tokenizer = prepare(config, folder / "first").folder / "tokenizer"
    config = replace(config, tokenizer=str(tokenizer))
    sides = {"ettin": _ours(config, workers), "datasets.map": _theirs(config, folder, workers)}
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    peaks: dict[str, float] = dict.fromkeys(sides, 0.0)
    tokens: dict[str, int] = {}
    for number in tqdm(range(rounds), desc="benchmark preparation", unit="round", leave=False):
        for name, (prepare_it, count) in sides.items():
            with PeakMemory() as memory:
                begin = time.perf_counter()
                prepared = prepare_it(folder / f"{name}-{number}")
                seconds[name].append(time.perf_counter() - begin)
            peaks[name] = max(peaks[name], memory.peak)
            tokens[name] = count(prepared)
    if len(set(tokens.values())) > 1:
        raise RunStopped(f"the two sides did not write the same number of tokens: {tokens}")
    lines = [f"preparation of {size / 1e6:.0f} MB of JSON lines in {FILES} files, {workers} processes"]
    for name in sides:
        rate = tokens[name] / statistics.median(seconds[name])
        lines.append(f"  {name:<16}{rate:>12,.0f} tokens/s   peak memory {peaks[name] / 2**20:,.0f} MiB, all processes")
    ratios = sorted(their / our for our, their in zip(*seconds.values(), strict=True))
    lines.append(f"  {'ratio':<16}{statistics.median(ratios):>12.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})")
    return lines


def whole_preparation(data: DataConfig, workers: int, folder: Path) -> list[str]:
    """Lines with the speed of preparing the whole of `data` as it is configured, and the seconds of each stage."""
    clock = _StageClock()
    corpus = prepare(data, folder / "whole", workers, clock)
    seconds = clock.seconds()
    sources = corpus.manifest["sources"].values()
    size, tokens = (sum(split[unit] for source in sources for split in source.values()) for unit in ("bytes", "tokens"))
    total = sum(seconds.values())
    lines = [f"preparation of the whole of {data.name}, {size / 1e6:,.0f} MB of text, {workers} processes"]
    lines.append(f"  {total:.1f} s, {size / total / 1e6:.1f} MB/s, {tokens / total:,.0f} tokens/s")
    return lines + [f"  {stage:<16}{taken:>8.1f} s" for stage, taken in seconds.items()]


class _StageClock:
    """A progress report that notes when each stage reports first; what is before is the tokenizer's training."""

    def __init__(self) -> None:
        self._begun = {"tokenizer": time.perf_counter()}

    def __call__(self, stage: str, done: float, total: float, documents: int) -> None:
        self._begun.setdefault(stage, time.perf_counter())

    def seconds(self) -> dict[str, float]:
        """Seconds of each stage until the next one, of the last until now."""
        ends = [*self._begun.values(), time.perf_counter()][1:]
        return {stage: end - begin for (stage, begin), end in zip(self._begun.items(), ends, strict=True)}


def _write_files(data: DataConfig, megabytes: float, folder: Path) -> int:
    """Write the first megabytes of the data's training documents as JSON lines; returns the bytes of text."""
    folder.mkdir()
    files = [(folder / f"text.train-{number}.jsonl").open("w") for number in range(FILES)]
    size = 0
    for number, text in enumerate(_texts(data)):
        files[number % FILES].write(json.dumps({"id": str(number), "text": text}) + "\n")
        size += len(text.encode())
        if size >= megabytes * 1e6:
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


def _count(dataset: Any) -> int:
    """Token ids in a mapped dataset."""
    return sum(len(chunk.flatten()) for chunk in dataset.data.column("input_ids").chunks)
