"""Held-out loss: next tokens for causal models, masked tokens for masked ones, on the same documents.

Documents of the validation split are cut at the model's context into pieces, one piece per row. Errors are over documents
(a ratio estimator), because tokens of one document are not independent.
"""

import math

import numpy as np

from ettin_core.data.corpus import Corpus
from ettin_core.data.loader import pack
from ettin_core.evaluation.model import EvaluatedModel
from ettin_core.evaluation.protocol import ItemResult, Measured, Result, SuiteConfig
from ettin_core.foundation.randomness import derive
from ettin_core.objectives.targets import Masking, clm, mlm, mntp

MASK_RATE = 0.15


def measure_clm(model: EvaluatedModel, corpus: Corpus, suite: SuiteConfig) -> Measured:
    """Loss per token, bits per token (with the generator's entropy as reference where it is known), bits per byte."""
    documents = _documents(corpus, suite)
    counts, losses, _ = _losses(model, documents, masked=False)
    tokens, loss = counts.sum(), losses.sum()
    texts = [model.tokenizer.decode(ids) for ids in documents]
    size = sum(len(text.encode()) for text in texts)
    error = _ratio_error(losses, counts)
    bits = loss / math.log(2)
    name = corpus.manifest["name"]
    entropy = _entropy_bits(corpus)
    results = [
        Result(name, "loss", loss / tokens, int(tokens), error, higher_is_better=False),
        Result(name, "bits_per_token", bits / tokens, int(tokens), error / math.log(2), False, entropy),
        Result(name, "bits_per_byte", bits / size, int(tokens), error / math.log(2) * tokens / size, False),
    ]
    return results, _items(name, counts, losses)


def measure_mlm(model: EvaluatedModel, corpus: Corpus, suite: SuiteConfig) -> Measured:
    """Loss and accuracy on 15% of the tokens, always replaced by the mask token; the same ones for every model.

    The reference of the accuracy is the best constant guess on the scored tokens.
    """
    documents = _documents(corpus, suite)
    counts, losses, hits = _losses(model, documents, masked=True)
    tokens = counts.sum()
    name = corpus.manifest["name"]
    error = _ratio_error(hits, counts)
    results = [
        Result(name, "loss", losses.sum() / tokens, int(tokens), _ratio_error(losses, counts), False),
        Result(name, "accuracy", hits.sum() / tokens, int(tokens), error, True, _constant_guess(model, documents)),
    ]
    return results, _items(name, counts, losses)


def _documents(corpus: Corpus, suite: SuiteConfig) -> list[np.ndarray]:
    """Whole validation documents, sources in turn, up to the suite's number of tokens (at least one)."""
    chosen: list[np.ndarray] = []
    tokens = 0
    for ids in corpus.documents("validation", limit=max(1, suite.heldout_tokens // 16)):
        if chosen and tokens + len(ids) > suite.heldout_tokens:
            break
        chosen.append(ids)
        tokens += len(ids)
    return chosen


def _losses(
    model: EvaluatedModel, documents: list[np.ndarray], masked: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scored tokens, summed loss in nats and right guesses of each document."""
    pieces = [
        (number, ids[begin : begin + model.context])
        for number, ids in enumerate(documents)
        for begin in range(0, len(ids), model.context)
    ]
    counts, losses, hits = (np.zeros(len(documents)) for _ in range(3))
    special = model.tokenizer.special
    key = derive(0, "heldout_mlm@1")
    order = sorted(range(len(pieces)), key=lambda index: len(pieces[index][1]))
    rows = max(1, model.batch_tokens // model.context)
    objective = (mntp if model.objective == "mntp" else mlm) if masked else clm
    for begin in range(0, len(order), rows):
        chosen = order[begin : begin + rows]
        batch = pack([pieces[index][1] for index in chosen], np.array(chosen), special.bos, special.pad)
        targets = objective(batch, model.vocabulary, Masking(MASK_RATE, 1.0, 0.0), key)
        values, right = model.score(batch, targets.inputs, targets.read, targets.labels)
        owners = np.array([pieces[index][0] for index in chosen])[targets.read // batch.tokens.shape[1]]
        np.add.at(counts, owners, 1)
        np.add.at(losses, owners, -values)
        np.add.at(hits, owners, right)
    return counts, losses, hits


def _ratio_error(sums: np.ndarray, counts: np.ndarray) -> float:
    """Standard error of sum(sums) / sum(counts) over documents."""
    ratio = sums.sum() / counts.sum()
    spread = ((sums - ratio * counts) ** 2).sum() * len(sums) / max(1, len(sums) - 1)
    return float(spread**0.5 / counts.sum())


def _constant_guess(model: EvaluatedModel, documents: list[np.ndarray]) -> float:
    tokens = np.concatenate(documents)
    tokens = tokens[~np.isin(tokens, model.tokenizer.special.ids)]
    return float(np.bincount(tokens).max() / len(tokens))


def _entropy_bits(corpus: Corpus) -> float | None:
    """The generator's own bits per predicted token over the whole validation split, where it is known."""
    entries = [splits["validation"] for splits in corpus.manifest["sources"].values()]
    if any(entry["log_probability"] is None for entry in entries):
        return None
    predicted = sum(entry["tokens"] - entry["documents"] for entry in entries)  # BOS is given, EOS is predicted
    return -sum(entry["log_probability"] for entry in entries) / math.log(2) / predicted


def _items(task: str, counts: np.ndarray, losses: np.ndarray) -> list[ItemResult]:
    return [
        ItemResult(task, str(number), float(loss / count), {"tokens": int(count)})
        for number, (count, loss) in enumerate(zip(counts, losses, strict=True))
        if count
    ]
