"""The sides of the benchmark: one whole optimiser step of ours or of transformers', on the same rows and targets.

A step is everything a training run does with a batch: forward, loss, backward, gradient norm, update. Ours is the training
loop's own. The peer's is what transformers' Trainer does by default, with fused AdamW and clipping of the norm, and its masks
and targets are prepared before the clock starts. Both get the same weights and, under bf16, the same autocast.
"""

import multiprocessing
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from ettin_core.data.loader import Batch, lay_out
from ettin_core.data.tokenizer import SpecialTokens
from ettin_core.foundation.distributed import ProcessGroup
from ettin_core.foundation.randomness import below
from ettin_core.interop.huggingface_config import config_values
from ettin_core.interop.weight_map import to_huggingface
from ettin_core.model.accounting import FlopCounter
from ettin_core.model.attention_mask import row_attention_mask
from ettin_core.model.config import AttentionSpec, ModelConfig
from ettin_core.model.transformer import Transformer
from ettin_core.objectives.assign import component_targets
from ettin_core.objectives.config import Component
from ettin_core.objectives.targets import Masking, Targets, Vocabulary
from ettin_core.optim.build import build_optimizer
from ettin_core.optim.config import OptimizerConfig
from ettin_core.optim.update import Update
from ettin_core.training.loss_module import LossModule, MicroBatch
from ettin_core.training.step import StepSettings, TrainState, autocast, optimizer_step
from experiments.benchmarks.tools import most_memory

SPECIAL = SpecialTokens(unknown=0, bos=1, eos=2, pad=3, mask=4)
COMPONENTS = {"encoder": Component("mlm", "bidirectional"), "decoder": Component("clm", "causal")}
OURS = "ettin"
# What transformers offers for a member: its class scoring masked positions only, its class as it is by default.
PEERS = {"encoder": ("sparse", "default"), "decoder": ("default",)}
LEARNING_RATE, WEIGHT_DECAY, CLIP_NORM = 1e-4, 3e-4, 1.0
Step = Callable[[], float]


@dataclass(frozen=True)
class Case:
    """What is computed: a member of one shape on rows of one layout. `document` None: one document fills each row."""

    member: str
    model: ModelConfig
    context: int
    rows: int
    document: int | None
    mask_rate: float
    device: str

    @property
    def layout(self) -> str:
        """The rows in words."""
        return f"{self.rows} x {self.context}, " + (
            f"documents of {self.document}" if self.document else "one document a row"
        )

    def batch(self) -> Batch:
        """Rows of random tokens, cut into documents of one length (the last of a row may be shorter)."""
        shape = (self.rows, self.context)
        tokens = 5 + below(1, np.arange(shape[0] * shape[1], dtype=np.uint64), self.model.vocab_size - 5).reshape(shape)
        tokens[:, :: self.document or self.context] = SPECIAL.bos
        documents, positions = lay_out(tokens, SPECIAL.bos, np.full(self.rows, self.context))
        return Batch(tokens, documents, positions, np.arange(self.rows), np.zeros(self.rows, dtype=np.int64))

    def targets(self, batch: Batch) -> Targets:
        """The member's objective on the batch."""
        return component_targets(
            COMPONENTS[self.member], batch, Vocabulary(self.model.vocab_size, SPECIAL), Masking(self.mask_rate), 0
        )

    def flops(self) -> int:
        """Floating-point operations of forward and backward, as the accounting counts them."""
        batch = self.batch()
        lengths = np.concatenate([np.bincount(row) for row in batch.document_ids])
        return FlopCounter(self.model, COMPONENTS[self.member].direction).training(
            lengths, len(self.targets(batch).labels)
        )


@dataclass(frozen=True)
class Side:
    """Who computes a step, and in which precision, compiled or not. `attention` is ours alone."""

    name: str
    precision: str
    attention: str = "auto"
    compiled: bool = False

    def step(self, case: Case) -> Step:
        """A step of this side, which returns the loss per scored token."""
        batch = case.batch()
        return (our_step if self.name == OURS else their_step)(self, case, batch, case.targets(batch))


def our_step(side: Side, case: Case, batch: Batch, targets: Targets) -> Step:
    """A step of the training loop."""
    device = torch.device(case.device)
    loss_module = LossModule(Transformer(case.model, attention=side.attention), side.compiled).to(device)
    optimizer = build_optimizer(OptimizerConfig("stable_adamw", LEARNING_RATE, WEIGHT_DECAY), loss_module.model)
    state = TrainState(loss_module, Update(optimizer), ProcessGroup(), device)
    settings = StepSettings(AttentionSpec, LEARNING_RATE, side.precision)

    def step() -> float:
        result = optimizer_step(state, [MicroBatch(batch, targets)], settings)
        return result.loss_sum / result.loss_tokens

    return step


def their_step(side: Side, case: Case, batch: Batch, targets: Targets) -> Step:
    """The same by transformers' class with the same weights.

    A row that is one document needs no mask of ours; packed documents are shown to it as explicit masks, made beforehand.
    """
    device, direction = torch.device(case.device), COMPONENTS[case.member].direction
    model = Transformer(case.model)
    peer = transformers_model(model, direction, sparse=side.name == "sparse").to(device).train()
    forward = torch.compile(peer) if side.compiled else peer
    optimizer = torch.optim.AdamW(peer.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY, fused=True)
    masks = None
    if case.document is not None:
        documents = torch.from_numpy(batch.document_ids).to(device)
        windows = {"full_attention": None, "sliding_attention": case.model.local_window}
        masks = {kind: row_attention_mask(documents, direction, window)[:, None] for kind, window in windows.items()}
    inputs, positions = (torch.from_numpy(array).to(device) for array in (targets.inputs, batch.position_ids))
    labels = torch.full(inputs.shape, -100, device=device)
    labels.view(-1)[torch.from_numpy(targets.scored_positions).to(device)] = torch.from_numpy(targets.labels).to(device)
    shifted = {"labels": labels, "shift_labels": labels} if case.member == "decoder" else {"labels": labels}

    def step() -> float:
        optimizer.zero_grad(set_to_none=True)
        with autocast(side.precision, device):
            loss = forward(input_ids=inputs, attention_mask=masks, position_ids=positions, **shifted).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(peer.parameters(), CLIP_NORM)
        optimizer.step()
        return float(loss.detach())

    return step


def transformers_model(model: Transformer, direction: str, sparse: bool = False) -> torch.nn.Module:
    """transformers' model of the same shape and weights; `sparse` computes the logits of masked positions only."""
    from transformers import (
        ModernBertConfig,
        ModernBertDecoderConfig,
        ModernBertDecoderForCausalLM,
        ModernBertForMaskedLM,
    )

    values = config_values(model.config, AttentionSpec(direction), SPECIAL, 8192, "float32") | {
        "attn_implementation": "sdpa"
    }
    encoder = direction == "bidirectional"
    if encoder:
        peer: torch.nn.Module = ModernBertForMaskedLM(ModernBertConfig(**values | {"sparse_prediction": sparse}))
    else:
        peer = ModernBertDecoderForCausalLM(ModernBertDecoderConfig(**values | {"use_cache": False}))
    state = to_huggingface(model.state_dict(), "encoder" if encoder else "decoder", model.config.num_layers)
    missing, unexpected = peer.load_state_dict(state, strict=False)
    assert not unexpected and all("decoder.weight" in name for name in missing), (missing, unexpected)
    return peer


def peak_memory(case: Case, side: Side, threads: int) -> int:
    """The most bytes that a new process holds while it makes two steps (on a GPU: that it allocates there)."""
    with multiprocessing.get_context("spawn").Pool(1) as fresh:
        return fresh.apply(_two_steps, (case, side, threads))


def _two_steps(case: Case, side: Side, threads: int) -> int:
    torch.set_num_threads(threads)
    step = side.step(case)
    step(), step()
    return torch.cuda.max_memory_allocated() if case.device == "cuda" else most_memory()
