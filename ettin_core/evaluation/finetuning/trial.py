"""One trial: train on the task's rows, look at dev after every epoch, test once with the weights of the best epoch."""

import itertools
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from ettin_core.data.tokenizer import Tokenizer
from ettin_core.evaluation.finetuning.encoding import (
    Encoded,
    Rows,
    batch_of,
    encode,
    reading_order,
    training_order,
)
from ettin_core.evaluation.finetuning.grid import FinetuningConfig, Trial
from ettin_core.evaluation.finetuning.heads import FineTuned
from ettin_core.evaluation.finetuning.metrics import TaskScore, scores, value_of
from ettin_core.evaluation.finetuning.rows import Example, TaskData
from ettin_core.foundation.randomness import derive
from ettin_core.foundation.storage import canonical_json, hash_text
from ettin_core.optim.build import build_optimizer
from ettin_core.optim.config import OptimizerConfig
from ettin_core.optim.schedules import Schedule


@dataclass(frozen=True)
class Prepared:
    """A task's rows as a member reads them: encoded once for all trials."""

    data: TaskData
    tokenizer: Tokenizer
    encoded: dict[str, list[Encoded]]
    cut: int
    centre: float
    scale: float

    @classmethod
    def of(cls, data: TaskData, tokenizer: Tokenizer, limit: int) -> "Prepared":
        """Encode a task's rows of at most `limit` tokens."""
        splits = {"train": data.train, "dev": data.dev, "test": data.test}
        results = {split: encode(data.task, examples, tokenizer, limit) for split, examples in splits.items()}
        gold = np.array([item.gold for item in data.train] if data.task.kind == "regression" else [0.0, 1.0])
        encoded = {split: rows for split, (rows, _) in results.items()}
        cut = sum(cut for _, cut in results.values())
        return cls(data, tokenizer, encoded, cut, float(gold.mean()), float(gold.std()) or 1.0)


@dataclass(frozen=True)
class TrialResult:
    """The scores of a trial. `weights` are those of the best epoch, without the classifier.

    A trial that `diverged` (a loss or a weight was not finite) is scored by the epochs before; without any, by its start.
    """

    dev: list[float]
    best_epoch: int
    test: list[TaskScore]
    predictions: list[Any]
    losses: list[float]
    order: str
    seconds: float
    diverged: bool
    weights: dict[str, torch.Tensor]


def run_trial(
    model: FineTuned, prepared: Prepared, trial: Trial, config: FinetuningConfig, device: torch.device
) -> TrialResult:
    """Fine-tune `model` (changed in place) and measure it. A score is a function of weights, rows, trial and config."""
    data, task = prepared.data, prepared.data.task
    started = time.monotonic()
    orders = [training_order(task.name, data.train, trial.batch_size, trial.seed, n) for n in range(trial.epochs)]

    def dev_value() -> float:
        predictions = _predict(model, prepared, "dev", config.batch_tokens, device)
        return value_of(task.metric, task, [item.gold for item in data.dev], predictions)

    dev: list[float] = []
    losses: list[float] = []
    best = _copy(model)
    for loss in train_epochs(model, prepared, trial, config, device, orders):
        losses.append(loss)
        value = dev_value()
        if not dev or value > max(dev):
            best = _copy(model)
        dev.append(value)
    model.load_state_dict(best)
    dev = dev or [dev_value()]
    predictions = _predict(model, prepared, "test", config.batch_tokens, device)
    return TrialResult(
        dev=dev,
        best_epoch=dev.index(max(dev)) + 1 if losses else 0,
        test=scores(
            task, [item.gold for item in data.test], predictions, [item.cluster or item.id for item in data.test]
        ),
        predictions=predictions,
        losses=losses,
        order=_hash_of(orders, data),
        seconds=time.monotonic() - started,
        diverged=len(losses) < len(orders),
        weights={name: tensor.cpu() for name, tensor in model.transformer.state_dict().items()},
    )


def train_epochs(
    model: FineTuned,
    prepared: Prepared,
    trial: Trial,
    config: FinetuningConfig,
    device: torch.device,
    orders: list[list[list[int]]],
) -> Iterator[float]:
    """Train on the batches of each epoch and yield its mean loss; `orders` are the places of rows by epoch and batch.

    Ends early, before it yields, in an epoch whose loss or weights are not finite.
    """
    steps = sum(map(len, orders))
    optimizer = build_optimizer(OptimizerConfig("adamw", trial.learning_rate, trial.weight_decay), model)
    warmup = round(config.warmup_share * steps)
    schedule = Schedule("warmup_stable_decay", steps + 1, warmup, steps + 1 - warmup)  # no step has a rate of zero
    factors = map(schedule.factor, itertools.count(1))
    torch.manual_seed(derive(trial.seed, "finetune.dropout", prepared.data.task.name))
    for batches in orders:
        model.train()
        total = 0.0
        for places in batches:
            learning_rate = trial.learning_rate * next(factors)
            for group in optimizer.param_groups:
                group["lr"] = learning_rate
            rows = batch_of([prepared.encoded["train"][place] for place in places], prepared.tokenizer.special, device)
            loss = _loss(model, rows, prepared, places)
            total += float(loss.detach())
            if not np.isfinite(total):
                return
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm)
            optimizer.step()
        if not all(bool(parameter.isfinite().all()) for parameter in model.parameters()):
            return
        yield total / len(batches)


def _hash_of(orders: list[list[list[int]]], data: TaskData) -> str:
    return hash_text(canonical_json([[[data.train[at].id for at in places] for places in order] for order in orders]))


def _copy(model: FineTuned) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def _loss(model: FineTuned, rows: Rows, prepared: Prepared, places: Sequence[int]) -> torch.Tensor:
    """Mean over rows, or over the words of the batch that are read."""
    examples = [prepared.data.train[place] for place in places]
    outputs = model(rows).float()
    if prepared.data.task.kind == "regression":
        gold = torch.tensor([(item.gold - prepared.centre) / prepared.scale for item in examples])
        return F.mse_loss(outputs[:, 0], gold.to(outputs))
    encoded = [prepared.encoded["train"][place] for place in places]
    return F.cross_entropy(outputs, torch.tensor(list(_labels(examples, encoded)), device=outputs.device))


def _labels(examples: Sequence[Example], encoded: Sequence[Encoded]) -> Iterator[int]:
    for example, row in zip(examples, encoded, strict=True):
        if isinstance(example.gold, list):
            yield from (example.gold[word] for word in row.words)
        else:
            yield example.gold


@torch.no_grad()
def _predict(model: FineTuned, prepared: Prepared, split: str, batch_tokens: int, device: torch.device) -> list[Any]:
    """The class, score or tags of each row, in the rows' order; a word that was cut is an "O", or -1 where there is no "O"."""
    model.eval()
    task, encoded = prepared.data.task, prepared.encoded[split]
    examples: list[Example] = getattr(prepared.data, split)
    predictions: list[Any] = [None] * len(encoded)
    unread = task.labels.index("O") if "O" in task.labels else -1
    for places in reading_order(encoded, batch_tokens):
        rows = [encoded[place] for place in places]
        outputs = model(batch_of(rows, prepared.tokenizer.special, device)).float().cpu()
        if task.kind == "regression":
            values = (outputs[:, 0] * prepared.scale + prepared.centre).nan_to_num().tolist()
        else:
            values = outputs.argmax(-1).tolist()
        if task.kind != "tagging":
            for place, value in zip(places, values, strict=True):
                predictions[place] = value
            continue
        remaining = iter(values)
        for place, row in zip(places, rows, strict=True):
            tags = [unread] * len(examples[place].texts)
            for word in row.words:
                tags[word] = next(remaining)
            predictions[place] = tags
    return predictions
