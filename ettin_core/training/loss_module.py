"""Model and loss as one module, so that DDP and FSDP wrap a single forward call."""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from ettin_core.data.loader import Batch
from ettin_core.model.config import AttentionSpec
from ettin_core.model.transformer import Transformer
from ettin_core.objectives.loss import UNSCORED, summed_cross_entropy
from ettin_core.objectives.targets import Targets

PARTS = 32  # of a micro-batch's positions; the scored ones are padded to whole parts, at most 3 % of all


class MicroBatch(NamedTuple):
    """Rows that are computed at once, and their targets."""

    batch: Batch
    targets: Targets


class LossModule(nn.Module):
    """Rows and targets in, cross-entropy out."""

    def __init__(self, model: Transformer, compile_model: bool = False) -> None:
        super().__init__()
        self.model = model
        self.forward_model = torch.compile(model) if compile_model else model

    def forward(
        self,
        inputs: torch.Tensor,
        document_ids: torch.Tensor,
        position_ids: torch.Tensor,
        scored_positions: torch.Tensor,
        labels: torch.Tensor,
        prefix_mask: torch.Tensor | None,
        attention: AttentionSpec,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Cross-entropy in nats: summed over the N scored positions, and of each (N,).

        inputs, document_ids, position_ids, prefix_mask (B, S); scored_positions (flat) and labels (N,).
        """
        model = self.forward_model if self.model.probe is None else self.model
        states = (
            model(inputs, document_ids, position_ids, attention, prefix_mask)
            .flatten(0, 1)
            .index_select(0, scored_positions)
        )
        return summed_cross_entropy(
            self.model.head(states), self.model.embedding.weight, self.model.output_bias, labels
        )


def tensors(micro: MicroBatch, device: torch.device) -> tuple[torch.Tensor | None, ...]:
    """The loss module's tensor arguments on its device; on a GPU the scored positions are padded."""
    batch, targets = micro
    if device.type != "cpu":
        targets = padded(targets)
    arrays = (targets.inputs, batch.document_ids, batch.position_ids, targets.scored_positions, targets.labels)
    if targets.prefix_mask is None:
        return *to_device(arrays, device), None
    *integers, prefix_mask = to_device((*arrays, targets.prefix_mask), device)
    return *integers, prefix_mask.bool()


def padded(targets: Targets) -> Targets:
    """The targets with scored positions that have no label, up to a number that is the same in nearly all micro-batches.

    A GPU's kernels are chosen and compiled for a shape. The number of positions that a mask rate selects is never the same.
    """
    missing = -len(targets.labels) % -(-targets.inputs.size // PARTS)
    return replace(
        targets,
        scored_positions=np.pad(targets.scored_positions, (0, missing)),
        labels=np.pad(targets.labels, (0, missing), constant_values=UNSCORED),
    )


def to_device(arrays: Sequence[np.ndarray], device: torch.device) -> list[torch.Tensor]:
    """Arrays of integers (or booleans) below 2^31 on a device; a CPU shares their memory.

    A GPU gets all of them as one copy of 32-bit integers from pinned memory, for which the process does not wait, and widens
    them there to int64.
    """
    if device.type == "cpu":
        return [torch.from_numpy(array) for array in arrays]
    packed = pack(arrays).pin_memory().to(device, non_blocking=True)
    return unpack(packed, arrays)


def pack(arrays: Sequence[np.ndarray]) -> torch.Tensor:
    """Arrays one after the other as 32-bit integers, (N,)."""
    return torch.from_numpy(np.concatenate([array.ravel().astype(np.int32) for array in arrays]))


def unpack(packed: torch.Tensor, arrays: Sequence[np.ndarray]) -> list[torch.Tensor]:
    """The packed arrays as int64 tensors of their shapes, where `packed` is."""
    pieces = packed.long().split([array.size for array in arrays])
    return [piece.view(array.shape) for piece, array in zip(pieces, arrays, strict=True)]
