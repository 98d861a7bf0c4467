"""python -m experiments.benchmark size=nano: training throughput as a ratio to transformers, measured in turns in one run.

Both sides get the same packed rows, the same visibility and the same targets, and compute the same loss; only forward, loss
and backward are timed, because the optimiser is the same for both.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from ettin_core.data.loader import Batch, lay_out
from ettin_core.data.tokenizer import SpecialTokens
from ettin_core.foundation.distributed import ProcessGroup, choose_device
from ettin_core.foundation.errors import invalid
from ettin_core.foundation.fields import check_threads
from ettin_core.foundation.randomness import below, uniform
from ettin_core.model.config import View
from ettin_core.model.transformer import Transformer
from ettin_core.model.visibility import row_visibility
from ettin_core.objectives.config import Part
from ettin_core.objectives.schedule import of_part
from ettin_core.objectives.targets import Masking, Targets, Vocabulary
from ettin_core.training.learner import Learner, tensors
from ettin_core.training.run import PlacementConfig
from ettin_core.training.step import autocast
from experiments.door import entry
from experiments.requests import SizeConfig

SPECIAL = SpecialTokens(unknown=0, bos=1, eos=2, pad=3, mask=4)
WARM_UP = 2
HEADER = (
    f"{'member':<10}{'ours tok/s':>12}{'transformers tok/s':>20}{'ratio':>8}{'10% to 90%':>20}{'loss difference':>17}"
)
Step = Callable[[], float]


@dataclass(frozen=True)
class BenchmarkRequest:
    """conf/benchmark.yaml."""

    size: SizeConfig
    placement: PlacementConfig
    context: int
    rows: int
    vocab_size: int
    document_length: int
    mask_rate: float
    rounds: int
    precision: str

    def __post_init__(self) -> None:
        check_threads("placement.threads", self.placement.threads)
        for name in ("context", "rows", "vocab_size", "document_length", "rounds"):
            if getattr(self, name) < 1:
                raise invalid(name, getattr(self, name), "is not positive", "give a positive number")


@entry("benchmark", BenchmarkRequest)
def main(request: BenchmarkRequest) -> None:
    """Print tokens per second of both sides and their ratio, for encoder and decoder."""
    torch.set_num_threads(request.placement.threads)
    device = choose_device(request.placement.device, ProcessGroup())
    batch = synthetic_batch(request)
    place = f"{request.precision}, {device}, {request.placement.threads} thread(s)"
    print(f"{request.size.name}, {request.rows} rows of {request.context}, {place}, {request.rounds} rounds")
    print(HEADER)
    for member, part in (("encoder", Part("mlm", "bidirectional")), ("decoder", Part("clm", "causal"))):
        print(compare(request, member, part, batch, device), flush=True)


def compare(request: BenchmarkRequest, member: str, part: Part, batch: Batch, device: torch.device) -> str:
    """One member's line: both speeds (median of the rounds), their ratio, its spread, and how far the losses differ."""
    vocabulary = Vocabulary(request.size.vocab_size or request.vocab_size, SPECIAL)
    targets, direction = of_part(part, batch, vocabulary, Masking(request.mask_rate), 0), part.direction
    model = Transformer(request.size.model(vocabulary.size), attention=request.placement.attention).to(device)
    sides = [
        our_step(model, batch, targets, View(direction), request, device),
        their_step(model, batch, targets, direction, request, device),
    ]
    losses, seconds = in_turns(sides, request.rounds, device, member)
    ratios = sorted(their / our for our, their in zip(*seconds, strict=True))
    ours, theirs = (batch.tokens.size / statistics.median(side) for side in seconds)
    spread = f"{ratios[len(ratios) // 10]:.2f} to {ratios[-1 - len(ratios) // 10]:.2f}"
    difference = abs(losses[0] - losses[1])
    return f"{member:<10}{ours:>12,.0f}{theirs:>20,.0f}{ours / theirs:>8.2f}{spread:>20}{difference:>17.1e}"


def synthetic_batch(request: BenchmarkRequest) -> Batch:
    """Rows of random tokens cut into documents at random."""
    shape = (request.rows, request.context)
    index = np.arange(shape[0] * shape[1], dtype=np.uint64)
    tokens = 5 + below(1, index, (request.size.vocab_size or request.vocab_size) - 5).reshape(shape)
    tokens[uniform(2, index).reshape(shape) < 1 / request.document_length] = SPECIAL.bos
    documents, positions = lay_out(tokens, SPECIAL.bos, np.full(shape[0], shape[1]))
    return Batch(tokens, documents, positions, np.arange(shape[0]), np.zeros(shape[0], dtype=np.int64))


def our_step(
    model: Transformer, batch: Batch, targets: Targets, view: View, request: BenchmarkRequest, device: torch.device
) -> Step:
    """A step of this project's learner; returns the loss per scored token."""
    learner = Learner(model, request.placement.compile)

    def step() -> float:
        learner.zero_grad(set_to_none=True)
        with autocast(request.precision, device):
            loss = learner(*tensors(batch, targets, device), view)[0] / len(targets.labels)
        loss.backward()
        return float(loss.detach())

    return step


def their_step(
    model: Transformer, batch: Batch, targets: Targets, direction: str, request: BenchmarkRequest, device: torch.device
) -> Step:
    """The same step by transformers' class with the same weights, given the same visibility as explicit masks."""
    peer = transformers_model(model, direction).to(device).train()
    documents = torch.from_numpy(batch.documents).to(device)
    window = model.config.local_window
    masks = {
        "full_attention": row_visibility(documents, direction, None)[:, None],
        "sliding_attention": row_visibility(documents, direction, window)[:, None],
    }
    inputs, positions = (torch.from_numpy(array).to(device) for array in (targets.inputs, batch.positions))
    labels = torch.full(inputs.shape, -100, device=device)
    labels.view(-1)[torch.from_numpy(targets.read).to(device)] = torch.from_numpy(targets.labels).to(device)

    def step() -> float:
        peer.zero_grad(set_to_none=True)
        with autocast(request.precision, device):
            logits = peer(input_ids=inputs, attention_mask=masks, position_ids=positions).logits
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), labels.flatten())
        loss.backward()
        return float(loss.detach())

    return step


def transformers_model(model: Transformer, direction: str) -> torch.nn.Module:
    """transformers' model of the same shape and weights."""
    from transformers import (
        ModernBertConfig,
        ModernBertDecoderConfig,
        ModernBertDecoderForCausalLM,
        ModernBertForMaskedLM,
    )

    from ettin_core.interop.weight_map import to_huggingface

    config = model.config
    shape: dict[str, Any] = {
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "intermediate_size": config.intermediate_size,
        "pad_token_id": SPECIAL.pad,
        "bos_token_id": SPECIAL.bos,
        "eos_token_id": SPECIAL.eos,
        "cls_token_id": SPECIAL.bos,
        "sep_token_id": SPECIAL.eos,
        "global_rope_theta": View(direction).rope_base_global,
        "local_rope_theta": View(direction).rope_base_local,
        "attn_implementation": "sdpa",
    }
    encoder = direction == "bidirectional"
    if encoder:
        peer: torch.nn.Module = ModernBertForMaskedLM(ModernBertConfig(**shape))
    else:
        peer = ModernBertDecoderForCausalLM(ModernBertDecoderConfig(**shape))
    state = to_huggingface(model.state_dict(), "encoder" if encoder else "decoder", config.num_layers)
    missing, unexpected = peer.load_state_dict(state, strict=False)
    assert not unexpected and all("decoder.weight" in name for name in missing), (missing, unexpected)
    return peer


def in_turns(sides: list[Step], rounds: int, device: torch.device, name: str) -> tuple[list[float], list[list[float]]]:
    """Each side's loss and seconds per step, one step of each in turn so that both meet the same machine."""
    losses = [0.0 for _ in sides]
    seconds: list[list[float]] = [[] for _ in sides]
    for number in tqdm(range(rounds + WARM_UP), desc=f"benchmark {name}", unit="round", leave=False):
        for place, side in enumerate(sides):
            begin = time.perf_counter()
            losses[place] = side()  # reading the loss waits for the device
            if number >= WARM_UP:
                seconds[place].append(time.perf_counter() - begin)
    return losses, seconds


if __name__ == "__main__":
    main()
