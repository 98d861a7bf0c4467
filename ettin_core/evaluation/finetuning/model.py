"""What is fine-tuned: a checkpoint of a run, or a transformers folder, with its name, its hash and a folder for its records."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ettin_core.checkpoints.native import hash_tensors
from ettin_core.data.corpus import Corpus
from ettin_core.data.tokenizer import Tokenizer
from ettin_core.evaluation.protocol import MeasuredModel
from ettin_core.evaluation.suite import open_model
from ettin_core.foundation.distributed import ProcessGroup, choose_device
from ettin_core.foundation.storage import NAME_HASH_LENGTH
from ettin_core.interop import huggingface
from ettin_core.model.attention_backends import backend_of_varied_rows
from ettin_core.model.config import AttentionSpec
from ettin_core.model.transformer import Transformer
from ettin_core.records.folders import RunFolder
from ettin_core.training.config import RunConfig


@dataclass(frozen=True)
class BaseModel(MeasuredModel):
    """A model to be fine-tuned, and a copy of its `tensors` that every trial starts from.

    `earlier` names the checkpoint when it is not the run's last.
    """

    model: Transformer
    view: AttentionSpec
    tokenizer: Tokenizer
    context: int
    folder: RunFolder
    earlier: str | None
    tensors: dict[str, torch.Tensor]

    @property
    def parent(self) -> dict[str, Any]:
        """The first link of the chain of parents."""
        return {"run": self.run, "checkpoint": self.checkpoint, "weights": self.weights}

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.model.embedding.weight.device


def of_run(run: RunConfig, folder: RunFolder, corpus: Corpus, checkpoint: str | None, device: str) -> BaseModel:
    """A checkpoint of a run (None: the last). Raises ValueError for an unknown or damaged one."""
    evaluated, name, weights = open_model(run, folder, corpus, checkpoint, device)
    model, view = evaluated.transformer
    last = folder.complete and name == folder.summary()["final_checkpoint"]
    return BaseModel(
        model=model,
        view=view,
        tokenizer=corpus.tokenizer,
        context=evaluated.context,
        folder=folder,
        run=folder.name,
        member=run.member,
        size=run.size,
        seed=run.seeds.initialisation,
        checkpoint=name,
        weights=weights,
        earlier=None if last else name,
        tensors=_copied(model),
    )


def of_huggingface(source: str, records: Path, device: str) -> BaseModel:
    """A transformers folder or hub id; its records go to a folder under `records` that is named by it and its weights."""
    model, view, facts = huggingface.load(source)
    weights = hash_tensors(model.state_dict())
    metadata = facts["metadata"]
    slug = re.sub(r"[^A-Za-z0-9.-]+", "-", str(metadata.get("run") or Path(source).name)).strip("-.")
    name = f"{slug}-{weights[:NAME_HASH_LENGTH]}"
    model = model.to(choose_device(device, ProcessGroup()))
    model.attention_backend = backend_of_varied_rows(model.embedding.weight.device)
    return BaseModel(
        model=model,
        view=view,
        tokenizer=Tokenizer(Path(facts["folder"])),
        context=facts["max_positions"],
        folder=RunFolder(records / name),
        run=name,
        member="decoder" if view.direction == "causal" else "encoder",
        size=f"{model.config.num_layers}x{model.config.hidden_size}",
        seed=0,
        checkpoint=str(source),
        weights=weights,
        earlier=None,
        tensors=_copied(model),
    )


def _copied(model: Transformer) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}
