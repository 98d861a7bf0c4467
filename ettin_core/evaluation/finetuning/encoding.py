"""From examples to batches: the same ids for every member, and an order that depends on (task, seed) alone.

A row is BOS text EOS, or BOS text EOS text EOS, which an encoder reads as [CLS] text [SEP] text [SEP]; a decoder was trained on
the same special tokens and gets them, too. A row longer than the context or `max_length` loses tokens from the end of its
longer text, as with transformers' longest_first. A cut word of a tagging task counts as wrong.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ettin_core.data.loader import pack
from ettin_core.data.tokenizer import SpecialTokens, Tokenizer
from ettin_core.evaluation.finetuning.rows import Example
from ettin_core.evaluation.finetuning.tasks import FinetuningTask
from ettin_core.foundation.randomness import derive, permute

POOL = 32  # batches among which rows are sorted by length


@dataclass(frozen=True)
class Encoded:
    """A row of ids; for tags, the position of each word's last sub-token and which words these are (others were cut)."""

    ids: np.ndarray
    reads: tuple[int, ...] = ()
    words: tuple[int, ...] = ()


@dataclass(frozen=True)
class Rows:
    """A padded batch: (B, S) tokens, documents and positions, (B,) lengths, and flat places (N,) at which words are read."""

    tokens: torch.Tensor
    documents: torch.Tensor
    positions: torch.Tensor
    lengths: torch.Tensor
    reads: torch.Tensor


def encode(
    task: FinetuningTask, examples: Sequence[Example], tokenizer: Tokenizer, limit: int
) -> tuple[list[Encoded], int]:
    """Rows of at most `limit` tokens, and how many lost some."""
    special = tokenizer.special
    if task.kind == "tagging":
        rows = [_tagged(example.texts, tokenizer, limit) for example in examples]
        return rows, sum(len(row.words) < len(example.texts) for row, example in zip(rows, examples, strict=True))
    texts = [text for example in examples for text in example.texts]
    ids = iter(tokenizer.encode(texts))
    rows, cut = [], 0
    for example in examples:
        parts = [next(ids) for _ in example.texts]
        shorter = shorten(parts, limit - 1 - len(parts))
        cut += shorter != parts
        rows.append(Encoded(_joined(shorter, special)))
    return rows, cut


def shorten(parts: list[list[int]], limit: int) -> list[list[int]]:
    """Parts that fit into `limit` tokens together; the longer one is cut first."""
    if sum(map(len, parts)) <= limit:
        return parts
    if len(parts) == 1:
        return [parts[0][:limit]]
    first, second = map(len, parts)
    half = limit // 2
    if first <= half:
        return [parts[0], parts[1][: limit - first]]
    if second <= half:
        return [parts[0][: limit - second], parts[1]]
    return [parts[0][: limit - half], parts[1][:half]]


def _joined(parts: list[list[int]], special: SpecialTokens) -> np.ndarray:
    ids = [special.bos]
    for part in parts:
        ids += [*part, special.eos]
    return np.array(ids, dtype=np.int64)


def _tagged(words: Sequence[str], tokenizer: Tokenizer, limit: int) -> Encoded:
    ids, ends = tokenizer.encode_with_ends(" ".join(words))
    ids, ends = ids[: limit - 2], ends[: limit - 2]
    edges = np.cumsum([len(word) + 1 for word in words]) - 1  # characters up to the end of each word
    covering = np.searchsorted(
        ends, edges, side="left"
    )  # the first token that reaches it; others may hold its last bytes
    read = np.flatnonzero(covering < len(ids))
    last = np.searchsorted(ends, np.asarray(ends)[covering[read]], side="right") - 1
    places = tuple((last + 1).tolist())  # BOS comes first
    return Encoded(_joined([ids], tokenizer.special), places, tuple(read.tolist()))


def batch_of(rows: Sequence[Encoded], special: SpecialTokens, device: torch.device) -> Rows:
    """Rows padded to the longest of them."""
    batch = pack([row.ids for row in rows], np.arange(len(rows)), special.bos, special.pad)
    width = batch.tokens.shape[1]
    reads = np.array([place * width + at for place, row in enumerate(rows) for at in row.reads], dtype=np.int64)
    lengths = np.array([len(row.ids) for row in rows])
    arrays = (batch.tokens, batch.document_ids, batch.position_ids, lengths, reads)
    return Rows(*(torch.from_numpy(array).to(device) for array in arrays))


def training_order(task: str, examples: Sequence[Example], batch_size: int, seed: int, epoch: int) -> list[list[int]]:
    """The batches of an epoch: a permutation, sorted by characters within pools of batches, and the batches permuted again.

    Characters, not tokens: the order is the same for members with different tokenizers.
    """
    count = len(examples)
    order = permute(np.arange(count), count, derive(seed, "finetune.order", task, epoch)).tolist()
    batches: list[list[int]] = []
    for begin in range(0, count, POOL * batch_size):
        pool = sorted(order[begin : begin + POOL * batch_size], key=lambda place: examples[place].characters)
        batches += [pool[at : at + batch_size] for at in range(0, len(pool), batch_size)]
    mixed = permute(np.arange(len(batches)), len(batches), derive(seed, "finetune.batches", task, epoch))
    return [batches[place] for place in mixed.tolist()]


def reading_order(rows: Sequence[Encoded], batch_tokens: int) -> Iterator[list[int]]:
    """Every row once, in batches of rows of like length that hold at most `batch_tokens` with padding."""
    chunk: list[int] = []
    for place in sorted(range(len(rows)), key=lambda place: len(rows[place].ids)):
        if chunk and (len(chunk) + 1) * len(rows[place].ids) > batch_tokens:
            yield chunk
            chunk = []
        chunk.append(place)
    if chunk:
        yield chunk
