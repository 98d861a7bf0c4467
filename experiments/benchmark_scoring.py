"""python -m experiments.benchmark_scoring model=<folder> eval_data=<folder>: how fast continuations are scored.

The peer is the published way: transformers' model on one request at a time (for an encoder also one token at a time), with
the logits of every position. All sides answer the same HellaSwag items under the model's first protocol, block by block in
turn, and must agree. A decoder runs on our own transformer, as that of a run does, with contexts shared and without.
"""

import itertools
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from ettin_core.evaluation.evaluated_model import EvaluatedModel
from ettin_core.evaluation.lines import need, rows_of
from ettin_core.evaluation.pretrained import load_model, open_pretrained
from ettin_core.evaluation.scoring import TRAILING_MASKS, Pair, score_pairs, split_pair
from ettin_core.foundation.errors import invalid
from ettin_core.foundation.fields import check_threads
from ettin_core.interop.huggingface import adopt
from ettin_core.model.accounting import FlopCounter
from ettin_core.training.hardware import measured_flops
from experiments.cli.entry import entry

HELLASWAG = "mc/hellaswag.jsonl.gz"
TOLERANCE = 1e-5  # nats per token
Sides = dict[str, Callable[[list[Pair]], list[float]]]


@dataclass(frozen=True)
class BenchmarkScoringRequest:
    """conf/benchmark_scoring.yaml."""

    model: str
    eval_data: str
    items: int
    block: int
    threads: int

    def __post_init__(self) -> None:
        check_threads("threads", self.threads)
        need(Path(self.eval_data), HELLASWAG)
        if min(self.items, self.block, self.threads) < 1:
            raise invalid("items", self.items, "block or threads are not positive", "give positive numbers")


@entry("benchmark_scoring", BenchmarkScoringRequest)
def main(request: BenchmarkScoringRequest) -> None:
    """Time all sides and print the ratios."""
    torch.set_num_threads(request.threads)
    model, peer = load_both(request.model)
    lines = itertools.islice(rows_of(need(Path(request.eval_data), HELLASWAG)), request.items)
    rows = [row for _, row in lines]
    pairs = [split_pair(model.tokenizer, row["context"], f" {choice}") for row in rows for choice in row["choices"]]
    sides = sides_of(model, peer)
    for side in sides.values():  # warm up
        side(pairs[:2])
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    processor: dict[str, list[float]] = {name: [] for name in sides}
    rates, worst = [], 0.0
    size = request.block * 4
    for begin in tqdm(range(0, len(pairs), size), desc="blocks", unit="block"):
        block, scores = pairs[begin : begin + size], []
        for name, side in sides.items():
            before = time.perf_counter(), time.process_time()
            scores.append(np.array(side(block)) / [len(pair.positions) for pair in block])
            seconds[name].append(time.perf_counter() - before[0])
            processor[name].append(time.process_time() - before[1])
        worst = max(worst, *(float(np.abs(values - scores[0]).max()) for values in scores))
        rates.append(measured_flops(torch.device("cpu"), torch.float32))
    if worst > TOLERANCE:
        raise RuntimeError(f"the sides disagree by {worst:.1e} nats per token; no ratio is printed.")
    tokens = sum(len(pair.positions) for pair in pairs)
    print(
        f"{len(rows)} items, {tokens:,} tokens, {request.threads} threads, largest difference {worst:.0e} nats per token"
    )
    for name in sides:
        wall, used = sum(seconds[name]), sum(processor[name])
        print(f"{name:<14}{wall:>9.1f} s{1e3 * wall / tokens:>8.2f} ms per token{used:>9.1f} s of processor time")
    first, *others = sides
    for name in others:
        ratio, by_processor = (sum(times[name]) / sum(times[first]) for times in (seconds, processor))
        print(f"ratio of {name} to {first} {ratio:.2f} (of processor time {by_processor:.2f})")
    if not model.is_causal:
        # By processor time, of which the products take all threads: other work on the machine does not count.
        reached = masked_arithmetic(model, pairs, size) / sum(processor[first]) * request.threads
        rate = statistics.median(rates)
        print(f"{first}: {reached / 1e9:.0f} GFLOP/s, {reached / rate:.2f} of the matrix rate of {rate / 1e9:.0f}")


def load_both(folder: str) -> tuple[EvaluatedModel, torch.nn.Module]:
    """The model on our transformer, and transformers' own. Raises ValueError for a shape that is not ours."""
    model = open_pretrained(folder, device="cpu")
    peer = load_model(Path(folder), causal=model.is_causal)
    body, view = adopt(peer)
    return EvaluatedModel(body.eval(), view, model.readout, model.tokenizer, model.context, "cpu"), peer


def sides_of(model: EvaluatedModel, peer: torch.nn.Module) -> Sides:
    """What is compared: log-probabilities of pairs, ours as it is used first."""

    def ours(pairs: list[Pair], shares: bool = model.shares_beginnings) -> list[float]:
        model.shares_beginnings = shares
        return [result.log_probability for result in score_pairs(model, pairs)]

    published = causal_published if model.is_causal else masked_published
    sides: Sides = {"shared": ours} if model.is_causal else {}
    sides["batched"] = lambda pairs: ours(pairs, shares=False)
    sides["one at a time"] = lambda pairs: [published(model, peer, pair) for pair in pairs]
    return sides


@torch.no_grad()
def masked_published(model: EvaluatedModel, peer: torch.nn.Module, pair: Pair) -> float:
    """One request, one token at a time, batch 1, full logits."""
    special, ids = model.tokenizer.special, pair.text.ids
    tail = (*[special.mask] * TRAILING_MASKS, special.eos)
    total = 0.0
    for place in pair.positions:
        before = (special.bos, *ids[:place])[-(model.context - len(tail)) :]
        tokens = torch.tensor([[*before, *tail]])
        logits = peer(input_ids=tokens, attention_mask=torch.ones_like(tokens)).logits
        total += float(logits[0, model.read_position(len(before))].log_softmax(-1)[ids[place]])
    return total


@torch.no_grad()
def causal_published(model: EvaluatedModel, peer: torch.nn.Module, pair: Pair) -> float:
    """One request at a time, batch 1, full logits."""
    row = torch.tensor([(model.tokenizer.special.bos, *pair.text.ids[: pair.positions[-1]])])[:, -model.context :]
    logits = peer(input_ids=row, attention_mask=torch.ones_like(row)).logits[0, -len(pair.positions) :]
    targets = [pair.text.ids[place] for place in pair.positions]
    return float(logits.log_softmax(-1)[range(len(targets)), targets].sum())


def masked_arithmetic(model: EvaluatedModel, pairs: list[Pair], size: int) -> int:
    """FLOPs of the rows that an encoder computes, block by block: one for each token, those of equal texts before it once."""
    counter, flops = FlopCounter(model.transformer[0].config, "bidirectional"), 0
    for begin in range(0, len(pairs), size):
        befores = {pair.text.ids[:place] for pair in pairs[begin : begin + size] for place in pair.positions}
        lengths = np.array([min(1 + len(ids) + TRAILING_MASKS + 1, model.context) for ids in befores])
        flops += counter.reading(lengths, np.ones_like(lengths))
    return flops


if __name__ == "__main__":
    main()
