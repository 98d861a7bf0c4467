"""python -m experiments.benchmark_scoring model=<folder> eval_data=<folder>: how fast an encoder's continuations are scored.

The peer is the published way: transformers' model on one request and one token at a time, with the logits of every position.
Both answer the same HellaSwag items under `masked_left_to_right`, block by block in turn, and must agree.
"""

import itertools
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from tqdm import tqdm

from ettin_core.evaluation.evaluated_model import EvaluatedModel
from ettin_core.evaluation.lines import need, rows_of
from ettin_core.evaluation.pretrained import load_model, open_pretrained
from ettin_core.evaluation.scoring import TRAILING_MASKS, Segmented, score, split_pair
from ettin_core.foundation.errors import invalid
from ettin_core.foundation.fields import check_threads
from experiments.cli.entry import entry

HELLASWAG = "mc/hellaswag.jsonl.gz"
TOLERANCE = 1e-5  # nats per token


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
    """Time both sides and print the ratio."""
    torch.set_num_threads(request.threads)
    model = open_pretrained(request.model, device="cpu")
    if model.is_causal:
        raise invalid(
            "model", request.model, "is causal", "give an encoder: this compares two methods of scoring masked models"
        )
    peer = load_model(Path(request.model), causal=False)
    lines = itertools.islice(rows_of(need(Path(request.eval_data), HELLASWAG)), request.items)
    rows = [row for _, row in lines]
    pairs = [split_pair(model.tokenizer, row["context"], f" {choice}")[:2] for row in rows for choice in row["choices"]]
    size = request.block * 4
    _batched(model, pairs[:4]), _published(model, peer, *pairs[0])  # warm up
    seconds, processor, tokens, worst = [0.0, 0.0], [0.0, 0.0], 0, 0.0
    for begin in tqdm(range(0, len(pairs), size), desc="blocks", unit="block"):
        block = pairs[begin : begin + size]
        clocks = [(time.perf_counter(), time.process_time())]
        ours = _batched(model, block)
        clocks.append((time.perf_counter(), time.process_time()))
        theirs = [_published(model, peer, *pair) for pair in block]
        clocks.append((time.perf_counter(), time.process_time()))
        for side in (0, 1):
            seconds[side] += clocks[side + 1][0] - clocks[side][0]
            processor[side] += clocks[side + 1][1] - clocks[side][1]
        for our_score, their_score, (_, places) in zip(ours, theirs, block, strict=True):
            worst = max(worst, abs(our_score - their_score) / len(places))
            tokens += len(places)
    if worst > TOLERANCE:
        raise RuntimeError(f"the two sides disagree by {worst:.1e} nats per token; no ratio is printed.")
    print(
        f"{len(rows)} items, {tokens:,} tokens, {request.threads} threads, largest difference {worst:.0e} nats per token"
    )
    for name, wall, used in zip(("batched", "one at a time"), seconds, processor, strict=True):
        print(f"{name:<14}{wall:>9.1f} s{1e3 * wall / tokens:>8.2f} ms per token{used:>9.1f} s of processor time")
    print(f"ratio {seconds[1] / seconds[0]:.1f} (of processor time {processor[1] / processor[0]:.1f})")


def _batched(model: EvaluatedModel, pairs: list[tuple[Segmented, tuple[int, ...]]]) -> list[float]:
    """The protocol as it is used."""
    scores = score(model, [text for text, _ in pairs], [places for _, places in pairs])
    return [result.log_probability for result in scores]


@torch.no_grad()
def _published(model: EvaluatedModel, peer: torch.nn.Module, text: Segmented, places: tuple[int, ...]) -> float:
    """One request, one token at a time, batch 1, full logits."""
    special = model.tokenizer.special
    tail = (*[special.mask] * TRAILING_MASKS, special.eos)
    total = 0.0
    for place in places:
        before = (special.bos, *text.ids[:place])[-(model.context - len(tail)) :]
        tokens = torch.tensor([[*before, *tail]])
        logits = peer(input_ids=tokens, attention_mask=torch.ones_like(tokens)).logits
        scores = logits[0, model.read_position(len(before))].log_softmax(-1)
        total += float(scores[text.ids[place]])
    return total


if __name__ == "__main__":
    main()
