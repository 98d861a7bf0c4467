"""A small model whose every weight matters, rows of every layout, and one step on them, for any device."""

from dataclasses import dataclass

import torch

from ettin_core.model.config import AttentionSpec, ModelConfig
from ettin_core.model.transformer import Transformer
from ettin_core.training.loss_module import LossModule
from ettin_core.training.step import autocast

SHAPE = ModelConfig(512, 128, 4, 2, 192, local_window=16)  # heads of 64, as in every published size
VIEWS = {"encoder": AttentionSpec("bidirectional", rope_base_global=160_000.0), "decoder": AttentionSpec("causal")}
LAYOUTS = {"one document": [[1.0]], "packed": [[0.4, 0.05, 0.55], [0.02, 0.9]], "padded": [[0.7], [0.3, 0.5]]}


def build_model(attention: str = "auto", shape: ModelConfig = SHAPE) -> Transformer:
    """A transformer with weights so large that attention is far from uniform, the same each time."""
    model = Transformer(shape, 3, attention)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1:
                parameter.mul_(6.0 if "query_key_value" in name else 3.0)
    return model


def documents_of(length: int) -> torch.Tensor:
    """Document numbers (B, S) of rows of every layout; what a row's documents leave over is padding (-1)."""
    rows = [shares for layout in LAYOUTS.values() for shares in layout]
    documents = torch.full((len(rows), length), -1)
    for row, shares in zip(documents, rows, strict=True):
        edges = [0, *(torch.tensor(shares).cumsum(0) * length).round().long().tolist()]
        for number, (begin, end) in enumerate(zip(edges, edges[1:], strict=False)):
            row[begin:end] = number
    return documents


@dataclass(frozen=True)
class Rows:
    """The tensor arguments of a learner."""

    inputs: torch.Tensor
    documents: torch.Tensor
    positions: torch.Tensor
    read: torch.Tensor
    labels: torch.Tensor

    def on(self, device: torch.device) -> tuple[torch.Tensor, ...]:
        """In the learner's order, on a device."""
        return tuple(getattr(self, name).to(device) for name in self.__dataclass_fields__)


def rows_of(length: int) -> Rows:
    """Rows of every layout with random tokens, every third of which is scored, the same each time."""
    generator = torch.Generator().manual_seed(length)
    documents = documents_of(length)
    index = torch.arange(length).expand_as(documents)
    begins = torch.cat([torch.ones_like(documents[:, :1]), documents.diff(dim=1) != 0], dim=1).bool()
    positions = index - torch.where(begins, index, 0).cummax(dim=1).values
    inputs = torch.randint(SHAPE.vocab_size, documents.shape, generator=generator)
    read = torch.nonzero(documents.flatten() >= 0).flatten()[::3]
    return Rows(inputs, documents, positions, read, torch.randint(SHAPE.vocab_size, read.shape, generator=generator))


@dataclass(frozen=True)
class Outcome:
    """Mean loss in nats, logits (N, V), and gradients of the mean loss by name."""

    loss: float
    logits: torch.Tensor
    gradients: dict[str, torch.Tensor]


def outcome(
    learner: LossModule, rows: Rows, view: AttentionSpec, device: torch.device, precision: str = "fp32"
) -> Outcome:
    """One forward and backward pass, its results in fp32 on the CPU."""
    learner.zero_grad(set_to_none=True)
    arguments = rows.on(device)
    with autocast(precision, device):
        loss, _ = learner(*arguments, view)
        with torch.no_grad():
            states = learner.forward_model(*arguments[:3], view).flatten(0, 1)
            logits = learner.model.logits(states[arguments[3]])
    loss = loss / len(rows.read)
    loss.backward()
    gradients = {name: one.grad.cpu() for name, one in learner.model.named_parameters() if one.grad is not None}
    return Outcome(loss.item(), logits.float().cpu(), gradients)


def distance(found: torch.Tensor, expected: torch.Tensor) -> float:
    """|found - expected| / |expected|, Euclidean."""
    return float((found.double() - expected.double()).norm() / expected.double().norm())


def assert_near(found: Outcome, expected: Outcome, tolerance: float) -> None:
    """Loss, logits and every gradient agree to a relative tolerance, the direction of the whole gradient included."""
    assert abs(found.loss - expected.loss) < tolerance * expected.loss
    assert distance(found.logits, expected.logits) < tolerance
    assert found.gradients.keys() == expected.gradients.keys()
    distances = {name: distance(found.gradients[name], one) for name, one in expected.gradients.items()}
    assert max(distances.values()) < tolerance, max(distances.items(), key=lambda item: item[1])
