"""Nats of answers under a causal model of transformers; bits per byte of conversations, accuracy of preferences.

Bits per byte: -log2 p of every answer's tokens given all before them, its EOS included, over the bytes of the answers' text.
A preference is right if the chosen answer is likelier than the rejected one, EOS included; a tie counts half.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from ettin_core.evaluation.chat.rows import Conversation, Preference
from ettin_core.evaluation.chat.template import EncodedConversation, encode
from ettin_core.evaluation.heldout import ratio, ratio_items
from ettin_core.evaluation.protocol import ItemResult, Measured, detail, mean_of, own_value, preferred, tie_rate

BATCH_TOKENS = 8192


@torch.no_grad()
def nats(model: Any, rows: Sequence[EncodedConversation], batch_tokens: int = BATCH_TOKENS) -> list[float]:
    """-log p of each row's answers, in nats, in the rows' order."""
    was_training = model.training
    model.eval()
    values = [0.0] * len(rows)
    for places in _batches([len(row.ids) for row in rows], batch_tokens):
        for place, value in zip(places, _batch_nats(model, [rows[place] for place in places]), strict=True):
            values[place] = value
    model.train(was_training)
    return values


def _batches(lengths: list[int], batch_tokens: int) -> list[list[int]]:
    """Places in batches of like length that hold at most `batch_tokens` with padding."""
    batches: list[list[int]] = []
    for place in sorted(range(len(lengths)), key=lambda place: lengths[place]):
        if not batches or (len(batches[-1]) + 1) * lengths[place] > batch_tokens:
            batches.append([])
        batches[-1].append(place)
    return batches


def _batch_nats(model: Any, rows: Sequence[EncodedConversation]) -> list[float]:
    """The nats of rows that are padded on the right, where a causal model does not see it."""
    width = max(len(row.ids) for row in rows)
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    mask, scored = torch.zeros_like(ids), torch.zeros(len(rows), width, dtype=torch.bool)
    for number, row in enumerate(rows):
        ids[number, : len(row.ids)] = torch.tensor(row.ids)
        mask[number, : len(row.ids)] = 1
        scored[number, row.answers] = True
    ids, mask, scored = (tensor.to(model.device) for tensor in (ids, mask, scored))
    logits = model(input_ids=ids, attention_mask=mask).logits[:, :-1].float()
    losses = torch.nn.functional.cross_entropy(logits.transpose(1, 2), ids[:, 1:], reduction="none")
    return torch.where(scored[:, 1:], losses, 0.0).double().sum(1).tolist()


def conversation_scores(
    task: str, rows: Sequence[Conversation], encoded: list[EncodedConversation], values: list[float]
) -> Measured:
    """Bits per byte and loss per token of the answers; items are conversations."""
    counts, losses = np.array([len(row.answers) for row in encoded]), np.array(values)
    texts = [[message["content"] for message in row.messages if message["role"] == "assistant"] for row in rows]
    sizes = np.array([len("".join(parts).encode()) for parts in texts])
    results = [
        ratio(task, "bits_per_byte", losses / np.log(2), sizes, int(counts.sum()), False),
        ratio(task, "loss", losses, counts, int(counts.sum()), False),
    ]
    return results, ratio_items(task, counts, losses, sizes, [row.name for row in rows])


def preference_rows(tokenizer: Any, rows: Sequence[Preference]) -> list[EncodedConversation]:
    """The chosen and the rejected answer of each row in turn; only the last message of each is scored."""
    encoded = []
    for row in rows:
        for answer in (row.chosen, row.rejected):
            begin = len(encode(tokenizer, row.prompt).ids)
            whole = encode(tokenizer, row.prompt + answer)
            encoded.append(EncodedConversation(whole.ids, [place for place in whole.answers if place >= begin]))
    return encoded


def preference_scores(
    task: str, rows: Sequence[Preference], values: list[float], before: list[float] | None = None
) -> Measured:
    """Accuracy over questions; given the values `before` tuning, also that of the rewards, which DPO maximises."""
    items = []
    for number, row in enumerate(rows):
        chosen, rejected = (-value for value in values[2 * number : 2 * number + 2])
        characters = [len(answer[0]["content"]) for answer in (row.chosen, row.rejected)]
        details: dict[str, Any] = {
            "log_probabilities": [chosen, rejected],
            "tied": chosen == rejected,
            "accuracy_per_character": preferred(chosen / characters[0], rejected / characters[1]),
            "cluster": row.prompt[-1]["content"],
        }
        if before is not None:
            start = before[2 * number : 2 * number + 2]
            details["accuracy_of_rewards"] = preferred(chosen + start[0], rejected + start[1])
        items.append(ItemResult(task, row.name, preferred(chosen, rejected), details))
    results = [
        mean_of(task, "accuracy", items, own_value, reference=0.5),
        mean_of(task, "accuracy_per_character", items, detail("accuracy_per_character"), reference=0.5),
        tie_rate(task, items),
    ]
    if before is not None:
        results.append(mean_of(task, "accuracy_of_rewards", items, detail("accuracy_of_rewards"), reference=0.5))
    return results, items
