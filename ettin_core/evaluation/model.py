"""The one interface to every checkpoint: log-probabilities of tokens at positions of rows, batched, by any member.

A protocol asks for readings and does not know which member answers, beyond whether it is causal (sees the past and predicts
the next token) or masked (sees both sides and predicts masked tokens).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ettin_core.checkpoints import native
from ettin_core.data.loader import Batch, pack
from ettin_core.data.tokenizer import Tokenizer
from ettin_core.foundation.distributed import ProcessGroup, choose_device
from ettin_core.foundation.errors import invalid
from ettin_core.model.config import View
from ettin_core.model.transformer import Transformer
from ettin_core.objectives.targets import Vocabulary

LOGIT_ROWS = 2048  # logits held at once


@dataclass(frozen=True)
class Reading:
    """A row of ids (BOS first) and the log-probabilities wanted from it: of `targets` at output positions `reads`."""

    ids: tuple[int, ...]
    reads: tuple[int, ...]
    targets: tuple[int, ...]


class EvaluatedModel:
    """A checkpoint ready to be measured."""

    def __init__(
        self,
        model: Transformer,
        view: View,
        objective: str,
        tokenizer: Tokenizer,
        context: int,
        device: str = "auto",
        batch_tokens: int = 8192,
    ) -> None:
        """`objective` is what the model was trained for last; `context` the longest row it was trained on."""
        self.device = choose_device(device, ProcessGroup())
        self.model = model.to(self.device).eval()
        self.view = view
        self.objective = objective
        self.tokenizer = tokenizer
        self.context = context
        self.batch_tokens = batch_tokens

    @property
    def is_causal(self) -> bool:
        """Whether the model predicts the next token from the past (otherwise masked tokens from both sides)."""
        return self.objective == "clm"

    @property
    def vocabulary(self) -> Vocabulary:
        """What objectives must know of the tokenizer."""
        return Vocabulary(self.tokenizer.vocab_size, self.tokenizer.special)

    def read_position(self, position: int) -> int:
        """The output position that predicts the token at `position`: one earlier for CLM and MNTP."""
        return position if self.objective == "mlm" else position - 1

    def sums(self, readings: Sequence[Reading]) -> list[float]:
        """For each reading the sum of its log-probabilities (nats). Independent of batching up to fp32 rounding."""
        return [float(values.sum()) for values in self.log_probabilities(readings)]

    def log_probabilities(self, readings: Sequence[Reading]) -> list[np.ndarray]:
        """For each reading the log-probability (nats, float64) of each of its targets."""
        return [values for values, _ in self.answers(readings)]

    def answers(self, readings: Sequence[Reading]) -> list[tuple[np.ndarray, np.ndarray]]:
        """For each reading the log-probability (nats, float64) of each target, and whether it is the likeliest token.

        Raises ValueError for a model that answers with anything but finite numbers: no comparison would mean anything.
        """
        results: list[tuple[np.ndarray, np.ndarray]] = [(np.empty(0), np.empty(0, dtype=bool))] * len(readings)
        order = sorted(range(len(readings)), key=lambda number: len(readings[number].ids))
        for chunk in _chunks(order, [len(reading.ids) for reading in readings], self.batch_tokens):
            special = self.tokenizer.special
            rows = [np.array(readings[number].ids, dtype=np.int64) for number in chunk]
            batch = pack(rows, np.array(chunk), special.bos, special.pad)
            width = batch.tokens.shape[1]
            read = [place * width + at for place, number in enumerate(chunk) for at in readings[number].reads]
            targets = [target for number in chunk for target in readings[number].targets]
            values, right = self._score(batch, np.array(read, dtype=np.int64), np.array(targets, dtype=np.int64))
            edges = np.cumsum([len(readings[number].reads) for number in chunk])[:-1]
            for number, *answer in zip(chunk, np.split(values, edges), np.split(right, edges), strict=True):
                results[number] = answer[0], answer[1]
        if not all(np.isfinite(values).all() for values, _ in results):
            raise invalid("model", self.objective, "gives log-probabilities that are not finite", "measure another")
        return results

    @torch.no_grad()
    def _score(self, batch: Batch, read: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        arrays = (torch.from_numpy(array).to(self.device) for array in (batch.tokens, batch.documents, batch.positions))
        states = self.model(*arrays, self.view).flatten(0, 1)
        values, best = [], []
        for begin in range(0, len(read), LOGIT_ROWS):
            rows = torch.from_numpy(read[begin : begin + LOGIT_ROWS]).to(self.device)
            target = torch.from_numpy(labels[begin : begin + LOGIT_ROWS]).to(self.device)
            scores = self.model.logits(states[rows]).float().log_softmax(-1)
            values.append(scores.gather(-1, target[:, None])[:, 0].double().cpu().numpy())
            best.append((scores.argmax(-1) == target).cpu().numpy())
        if not values:
            return np.empty(0), np.empty(0, dtype=bool)
        return np.concatenate(values), np.concatenate(best)


def load_weights(model: Transformer, checkpoint: Path, identity: str) -> str:
    """Load a run's checkpoint into a model after checking it whole; returns the hash of the weights."""
    weights = native.load(checkpoint, identity).model
    model.load_state_dict(weights)
    return native.hash_tensors(weights)


def _chunks(order: list[int], lengths: list[int], budget: int) -> list[list[int]]:
    """Consecutive groups of `order` (sorted by length) whose padded size stays within `budget` tokens."""
    chunks: list[list[int]] = []
    for number in order:
        if chunks and (len(chunks[-1]) + 1) * lengths[number] <= budget:
            chunks[-1].append(number)
        else:
            chunks.append([number])
    return chunks
