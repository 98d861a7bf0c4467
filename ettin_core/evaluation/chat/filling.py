"""Answers of an encoder: masked at random and filled in training, revealed from the left to measure them.

Of all the answers' tokens a row hides k, uniform from 1 to all, and scores them with weight n / k: the mean over orders of the
loss of a model that reveals one token after the other (Hoogeboom et al. 2022, arXiv:2110.02037), a bound on -log p. Measured is
one of these orders: an answer's tokens from the left, each given all turns before, the tokens before it and masks for those to
come. The number of masks is given, which a decoder is not: the two do not share a row.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from ettin_core.evaluation.chat.rows import Conversation
from ettin_core.evaluation.chat.template import EncodedConversation, encode
from ettin_core.evaluation.chat.trainers import TuningConfig, adapter_of, arguments_of

ROWS = 16  # that are computed at once


def filling_trainer(model: Any, tokenizer: Any, rows: list[Conversation], config: TuningConfig, work: Path) -> Any:
    """transformers' Trainer on conversations whose answers are masked."""
    from transformers import Trainer, TrainingArguments

    class FillingTrainer(Trainer):
        def compute_loss(
            self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
        ) -> Any:
            ids, attention = inputs["input_ids"], inputs["attention_mask"]
            hides, weights = hidden(inputs["answers"])
            outputs = model(input_ids=ids.masked_fill(hides, tokenizer.mask_token_id), attention_mask=attention)
            losses = torch.nn.functional.cross_entropy(outputs.logits.float().transpose(1, 2), ids, reduction="none")
            loss = (losses * weights).sum() / weights.sum()
            return (loss, outputs) if return_outputs else loss

    if (lora := adapter_of(config, None)) is not None:
        from peft import get_peft_model

        model = get_peft_model(model, lora)
    encoded = [encode(tokenizer, row.messages) for row in rows]
    arguments = arguments_of(model, config, work)
    arguments.pop("max_length")  # TRL's
    return FillingTrainer(
        model=model,
        args=TrainingArguments(remove_unused_columns=False, **arguments),
        train_dataset=[{"ids": row.ids, "answers": row.answers} for row in encoded],
        data_collator=lambda batch: padded(batch, tokenizer.pad_token_id or 0),
        processing_class=tokenizer,
    )


def padded(rows: Sequence[dict[str, list[int]]], pad: int) -> dict[str, torch.Tensor]:
    """`input_ids` and `attention_mask` (B, S) int64, and the places of the `answers` (B, S) bool."""
    ids = [torch.tensor(row["ids"]) for row in rows]
    lengths = torch.tensor([len(row) for row in ids])
    tokens = torch.nn.utils.rnn.pad_sequence(ids, batch_first=True, padding_value=pad)
    answers = torch.zeros_like(tokens, dtype=torch.bool)
    for number, row in enumerate(rows):
        answers[number, row["answers"]] = True
    attention = (torch.arange(tokens.shape[1]) < lengths[:, None]).long()
    return {"input_ids": tokens, "attention_mask": attention, "answers": answers}


def hidden(answers: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Which of the answers' tokens are hidden (B, S) bool, and their weights (B, S), which sum to the row's number of answers.

    torch's own stream draws, on the CPU for every device, when the step is made: a Trainer restores it where it continues,
    while a collator would be a batch ahead.
    """
    count = answers.sum(1).cpu()
    chosen = (torch.rand(len(count)) * count).long() + 1
    order = torch.rand(answers.shape).masked_fill(~answers.cpu(), 2.0).argsort(1).argsort(1)
    hides = order < chosen[:, None]
    return hides.to(answers.device), (hides * (count / chosen)[:, None]).to(answers.device)


@torch.no_grad()
def nats(model: Any, tokenizer: Any, rows: Sequence[EncodedConversation]) -> list[float]:
    """-log p of each row's answers, in nats, revealed from the left."""
    was_training = model.training
    model.eval()
    asked = [(number, *each) for number, row in enumerate(rows) for each in _reveals(row, tokenizer.mask_token_id)]
    asked.sort(key=lambda each: len(each[1]))
    values = [0.0] * len(rows)
    for begin in tqdm(range(0, len(asked), ROWS), desc="answers", unit="batch", leave=False):
        some = asked[begin : begin + ROWS]
        batch = padded([{"ids": ids, "answers": []} for _, ids, _, _ in some], 0)
        logits = model(**{name: batch[name].to(model.device) for name in ("input_ids", "attention_mask")}).logits
        places = torch.tensor([place for _, _, place, _ in some])
        chosen = logits[torch.arange(len(some)), places.to(logits.device)].double().log_softmax(-1).cpu()
        for (number, _, _, target), row in zip(some, chosen, strict=True):
            values[number] -= float(row[target])
    model.train(was_training)
    return values


def _reveals(row: EncodedConversation, mask: int) -> list[tuple[list[int], int, int]]:
    """For each token of an answer: the row up to the answer's end with masks from the token on, its place, and its id."""
    answers = set(row.answers)
    asked = []
    for place in row.answers:
        end = place
        while end + 1 in answers:
            end += 1
        asked.append((row.ids[:place] + [mask] * (end + 1 - place), place, row.ids[place]))
    return asked
