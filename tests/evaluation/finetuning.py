"""Small things to fine-tune: a planted task, an untrained member, a grid."""

import gzip
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from ettin_core.checkpoints.native import hash_tensors
from ettin_core.data.corpus import Corpus
from ettin_core.evaluation.finetuning.grid import FinetuningConfig
from ettin_core.evaluation.finetuning.model import BaseModel
from ettin_core.evaluation.finetuning.rows import TaskData, read
from ettin_core.evaluation.finetuning.tasks import task_of
from ettin_core.model.config import AttentionSpec, ModelConfig
from ettin_core.model.transformer import Transformer
from ettin_core.records.folders import RunFolder

GRID = FinetuningConfig(
    learning_rates=(1e-3,),
    weight_decays=(1e-5,),
    batch_sizes=(16,),
    epochs=(1,),
    seeds=(0, 1),
    train_rows=None,
    max_length=48,
    warmup_share=0.1,
    dropout=0.0,
    clip_norm=1.0,
    unmasked=(False, True),
    batch_tokens=2048,
)
SENTENCE = "the small green house stood near a river where old boats were slowly going home"
WORDS = SENTENCE.split()
MEMBER = {"bidirectional": "encoder", "causal": "decoder"}


def config(**changes: Any) -> FinetuningConfig:
    """The grid with some changes."""
    return replace(GRID, **changes)


def write(file: Path, rows: list[dict[str, Any]]) -> None:
    """Write rows as an evaluation set."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(file, "wt", encoding="utf-8") as stream:
        stream.writelines(json.dumps(row) + "\n" for row in rows)


def text(number: int, length: int = 9) -> list[str]:
    """Words in an order that depends on the number."""
    return [WORDS[(number * 7 + place * (1 + number % 5)) % len(WORDS)] for place in range(length)]


def plant(folder: Path, rows: int = 240) -> Path:
    """Sets whose labels can be read off the words: of sentences, of pairs with a score, of words."""
    for name, split_of in (
        ("sst2", ("train",) * 4 + ("validation", "test")),
        ("rte", ("train",) * 4 + ("validation",)),
    ):
        examples = []
        for number in range(rows):
            words = text(number)
            label = number // 7 % 2
            words[number % 8] = "wonderful" if label else "terrible"
            texts = {"text": " ".join(words)} if name == "sst2" else {"text1": " ".join(words), "text2": words[0]}
            split = split_of[number % len(split_of)]
            examples.append({"id": f"{name}.{number}", "split": split, **texts, "label": label})
        write(folder / f"cls/{name}.jsonl.gz", examples)
    splits = ("train",) * 4 + ("validation", "test")
    pairs, mnli, tagged = [], [], []
    for number in range(rows):
        base = {"id": str(number), "split": splits[number % len(splits)]}
        words = text(number)
        length = number // 6 % 6
        joined = {"text1": " ".join(words), "text2": " ".join(["same"] * length + words[:3])}
        pairs.append({**base, **joined, "score": float(length), "genre": "g", "file": "f", "year": "2000"})
        mnli.append({**base, **joined, "label": number // 6 % 3})
        tags = ["NOUN" if word in ("house", "river", "boats", "home") else "X" for word in words]
        tagged.append({**base, "tokens": words, "upos": tags})
    write(folder / "sts/stsb.jsonl.gz", pairs)
    write(folder / "cls/mnli.jsonl.gz", mnli)
    write(folder / "token/ewt_upos.jsonl.gz", tagged)
    return folder


def planted(folder: Path, task: str, train_rows: int | None = None) -> TaskData:
    """A planted task's rows."""
    return read(task_of(task), str(folder), train_rows)


def member(direction: str, corpus: Corpus, root: Path, seed: int = 4) -> BaseModel:
    """An untrained member on the corpus's tokenizer, with weights large enough for attention to differ."""
    shape = ModelConfig(-(-corpus.tokenizer.vocab_size // 64) * 64, 32, 4, 2, 48, local_window=16)
    model = Transformer(shape, seed=seed, attention="sdpa")
    for parameter in model.parameters():
        if parameter.ndim == 2:
            parameter.data.mul_(3.0)
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    return BaseModel(
        model=model,
        view=AttentionSpec(direction, 160_000.0, 160_000.0),
        tokenizer=corpus.tokenizer,
        context=64,
        folder=RunFolder(root / f"tiny-{direction}"),
        run=f"tiny-{direction}",
        member=MEMBER[direction],
        size="tiny",
        seed=seed,
        checkpoint="step0",
        weights=hash_tensors(weights),
        earlier=None,
        tensors=weights,
    )
