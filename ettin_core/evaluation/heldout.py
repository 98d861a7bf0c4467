"""Held-out loss: next tokens for causal models, masked tokens for masked ones, on the same documents.

Reports show documents of the test split (`heldout_*`). Choices such as the learning rate's are made on the validation split
(`validation_*`). Documents are cut at the model's context into pieces, one piece per row. A piece begins with the last token of
the one before, so every token but BOS is predicted by exactly one piece. Which tokens are masked is decided in the whole
document: models of any context and objective are scored on the same tokens. For a model that predicts n tokens ahead, a piece
begins with the last n, and the first n - 1 tokens of a document are not predicted. Errors are over documents (a ratio
estimator), because tokens of one document are not independent.
"""

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ettin_core.data.corpus import Corpus
from ettin_core.data.loader import pack
from ettin_core.evaluation.datasets import corpus_world
from ettin_core.evaluation.protocol import ItemResult, Measure, Measured, Result, SuiteSizes
from ettin_core.evaluation.requests import ScoringRequest
from ettin_core.foundation.errors import invalid
from ettin_core.foundation.randomness import derive
from ettin_core.objectives.assign import component_targets
from ettin_core.objectives.config import Component
from ettin_core.objectives.targets import Masking

if TYPE_CHECKING:
    from ettin_core.evaluation.evaluated_model import EvaluatedModel

MASK_RATE = 0.15
CHOSEN, REPORTED = "validation", "test"  # the split that choices are made on, and the one that reports show


def measure_clm(model: "EvaluatedModel", corpus: Corpus | None, suite: SuiteSizes, split: str = REPORTED) -> Measured:
    """Loss per token, bits per token (with the generator's entropy as reference where it is known), bits per byte."""
    assert corpus is not None, "held-out text is a corpus's"
    documents = _readable(model, corpus, held_out(corpus, suite, split))
    counts, losses, _ = _losses(model, documents, masked=False)
    bits = losses / math.log(2)
    sizes = _bytes(model, documents)
    name, tokens = corpus.manifest["name"], int(counts.sum())
    results = [
        ratio(name, "loss", losses, counts, tokens, False),
        ratio(name, "bits_per_token", bits, counts, tokens, False, entropy_bits(corpus, documents, split)),
        ratio(name, "bits_per_byte", bits, sizes, tokens, False),
    ]
    return results, ratio_items(name, counts, losses, _bytes(model, documents))


def measure_ahead(model: "EvaluatedModel", corpus: Corpus | None, suite: SuiteSizes, split: str = REPORTED) -> Measured:
    """Loss per token of a model that predicts tokens further on, each from those up to as many before it."""
    assert corpus is not None, "held-out text is a corpus's"
    documents = _readable(model, corpus, held_out(corpus, suite, split))
    counts, losses, _ = _losses(model, documents, masked=False)
    name = corpus.manifest["name"]
    results = [ratio(name, "loss", losses, counts, int(counts.sum()), False)]
    return results, ratio_items(name, counts, losses, _bytes(model, documents))


def measure_mlm(model: "EvaluatedModel", corpus: Corpus | None, suite: SuiteSizes, split: str = REPORTED) -> Measured:
    """Loss and accuracy on 15% of the tokens, always replaced by the mask token; the same ones for every model.

    The reference of the accuracy is the best constant guess on the tokens that could have been masked.
    """
    assert corpus is not None, "held-out text is a corpus's"
    documents = _readable(model, corpus, held_out(corpus, suite, split))
    counts, losses, hits = _losses(model, documents, masked=True)
    name, tokens = corpus.manifest["name"], int(counts.sum())
    results = [
        ratio(name, "loss", losses, counts, tokens, False),
        ratio(name, "accuracy", hits, counts, tokens, True, _constant_guess(model, documents)),
    ]
    return results, ratio_items(name, counts, losses, _bytes(model, documents))


def for_choices(measure: Callable[..., Measured]) -> Measure:
    """A measurement of the reported split on the validation split instead."""

    def measured(model: "EvaluatedModel", corpus: Corpus | None, suite: SuiteSizes) -> Measured:
        return measure(model, corpus, suite, CHOSEN)

    return measured


def held_out(corpus: Corpus, suite: SuiteSizes, split: str = REPORTED) -> list[np.ndarray]:
    """Whole documents of a held-out split, sources in turn, up to the suite's number of tokens (at least one).

    Raises ValueError for a corpus that has none.
    """
    chosen: list[np.ndarray] = []
    tokens = 0
    for ids in corpus.held_out(split, limit=max(1, suite.heldout_tokens // 16)):
        if chosen and tokens + len(ids) > suite.heldout_tokens:
            break
        chosen.append(ids)
        tokens += len(ids)
    if not chosen:
        remedy = "prepare a corpus with two validation documents or more, or with a test split"
        raise invalid("corpus", corpus.name, f"has no {split} document", remedy)
    return chosen


def _readable(model: "EvaluatedModel", corpus: Corpus, documents: list[np.ndarray]) -> list[np.ndarray]:
    """The documents in the model's own tokens, where its tokenizer is not the corpus's: BOS, text, EOS."""
    if model.tokenizer is corpus.tokenizer:
        return documents
    special = model.tokenizer.special
    texts = [corpus.tokenizer.decode(ids.tolist()) for ids in documents]
    return [np.array([special.bos, *ids, special.eos]) for ids in model.tokenizer.encode(texts)]


def _bytes(model: "EvaluatedModel", documents: list[np.ndarray]) -> np.ndarray:
    return np.array([len(model.tokenizer.decode(ids).encode()) for ids in documents])


def _losses(
    model: "EvaluatedModel", documents: list[np.ndarray], masked: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scored tokens, summed loss in nats and right guesses of each document."""
    requests, owners = [], []
    for number, ids in enumerate(documents):
        for request in _pieces(model, ids, number, masked):
            requests.append(request)
            owners.append(number)
    counts, losses, hits = (np.zeros(len(documents)) for _ in range(3))
    for number, (values, hit) in zip(owners, model.score_requests(requests), strict=True):
        counts[number] += len(values)
        losses[number] -= values.sum()
        hits[number] += hit.sum()
    return counts, losses, hits


def _pieces(model: "EvaluatedModel", ids: np.ndarray, number: int, masked: bool) -> list[ScoringRequest]:
    """What is asked about document `number`, piece by piece."""
    special = model.tokenizer.special
    whole = pack([ids], np.array([number]), special.bos, special.pad)
    key = derive(0, "heldout_mlm@1")
    part = Component("mntp", "bidirectional") if masked else Component("clm", "causal")
    targets = component_targets(part, whole, model.vocabulary, Masking(MASK_RATE, 1.0, 0.0), key)
    lead = max(1, model.reading.ahead)  # tokens at the beginning of a piece that it does not predict
    requests = []
    for begin in range(0, len(ids) - lead, model.context - lead):
        predicted = targets.scored_positions + 1 - begin
        within = (predicted >= lead) & (predicted < model.context)
        predicted = predicted[within]
        if len(predicted):
            row = tuple(targets.inputs[0, begin : begin + model.context].tolist())
            reads = tuple(model.read_position(position) for position in predicted.tolist())
            requests.append(ScoringRequest(row, reads, tuple(targets.labels[within].tolist())))
    return requests


def ratio(
    task: str,
    metric: str,
    sums: np.ndarray,
    weights: np.ndarray,
    n: int,
    higher_is_better: bool,
    reference: float | None = None,
) -> Result:
    """sum(sums) / sum(weights) with its standard error over documents (None: fewer than two documents)."""
    total = float(weights.sum())
    if not total:
        return Result(task, metric, None, n, None, higher_is_better, reference)
    ratio = float(sums.sum()) / total
    spread = float(((sums - ratio * weights) ** 2).sum()) * len(sums) / max(1, len(sums) - 1)
    error = spread**0.5 / total if len(sums) > 1 else None
    return Result(task, metric, ratio, n, error, higher_is_better, reference)


def _constant_guess(model: "EvaluatedModel", documents: list[np.ndarray]) -> float:
    tokens = np.concatenate(documents)
    tokens = tokens[~np.isin(tokens, model.tokenizer.special.ids)]
    return float(np.bincount(tokens).max() / len(tokens))


def entropy_bits(corpus: Corpus, documents: list[np.ndarray], split: str = REPORTED) -> float | None:
    """The generator's own bits per predicted token of exactly these documents (the split's first), where it is known."""
    world = corpus_world(corpus)
    if world is None:
        return None
    nats = -sum(document.log_probability for document in world.documents(split, len(documents)))
    predicted = sum(len(ids) - 1 for ids in documents)  # BOS is given, EOS is predicted
    return nats / math.log(2) / predicted


def ratio_items(
    task: str, counts: np.ndarray, losses: np.ndarray, sizes: np.ndarray, names: Sequence[object] | None = None
) -> list[ItemResult]:
    """Documents as items whose mean is the loss per token and whose spread is its error; their bytes are `sizes`.

    A ratio has no items of its own; its linearisation has: ratio + (loss - ratio * tokens) / mean tokens.
    """
    if not counts.sum():
        return []
    mean = losses.sum() / counts.sum()
    values = mean + (losses - mean * counts) / counts.mean()
    rows = zip(names or range(len(values)), values, counts, losses, sizes, strict=True)
    return [
        ItemResult(
            task,
            str(name),
            float(value),
            {"tokens": int(count), "loss": float(loss / max(1, count)), "bytes": int(size)},
        )
        for name, value, count, loss, size in rows
    ]
