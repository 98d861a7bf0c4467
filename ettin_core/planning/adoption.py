"""A model that was not trained here, as a run without a step: a transformers folder or hub id of a supported model.

Its only checkpoint has the model's weights, and its configuration names their source. It is converted, measured, exported
and compared like any other run.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ettin_core.checkpoints.native import hash_tensors
from ettin_core.data.corpus import Corpus
from ettin_core.data.tokenizer import Tokenizer
from ettin_core.foundation.errors import invalid
from ettin_core.interop import huggingface
from ettin_core.interop.reading import readout_of
from ettin_core.objectives.config import ObjectiveConfig
from ettin_core.objectives.kinds import OBJECTIVES
from ettin_core.optim.config import OptimizerConfig
from ettin_core.records.readout import name_of
from ettin_core.training.config import RunConfig, Seeds
from ettin_core.training.parents import Parent
from ettin_core.training.phases import PhaseRecipe, RecipeConfig

MEMBER_OF = {"bidirectional": "encoder", "causal": "decoder"}
UNTOUCHED = ("truncation", "padding", "post_processor")  # fields of tokenizer.json that do not change the ids of a text


@dataclass(frozen=True)
class Adopted:
    """A model from elsewhere: its run and its weights."""

    run: RunConfig
    weights: dict[str, torch.Tensor]


def adopt(source: str, revision: str | None, corpus: Corpus, optimizer: OptimizerConfig, precision: str) -> Adopted:
    """A transformers folder or hub id as a run on a corpus of its tokenizer; its conversions use the `optimizer`.

    Raises ValueError, in one line, if the model cannot be fetched or loaded, and for a corpus of another tokenizer.
    """
    model, attention, facts = huggingface.load(source, revision)
    folder = Path(facts["folder"])
    _check_tokenizer(folder, corpus)
    local = Path(source).is_dir()
    called = folder.name if local else source
    weights = model.state_dict()
    phase = PhaseRecipe(
        1.0,
        facts["max_positions"],
        1,
        "step",
        rope_base_global=attention.rope_base_global,
        rope_base_local=attention.rope_base_local,
    )
    run = RunConfig(
        member=MEMBER_OF[attention.direction],
        size=re.sub(r"[^A-Za-z0-9.]+", "_", called.rpartition("/")[2]).strip("_.") or "model",
        direction=attention.direction,
        objective=ObjectiveConfig(_objective(folder)),
        model=model.config,
        recipe=RecipeConfig(0, {"elsewhere": phase}),
        optimizer=optimizer,
        corpus=corpus.name,
        fingerprint=corpus.fingerprint,
        precision=precision,
        seeds=Seeds(0, 0, 0),
        parent=Parent(called, "main" if local else folder.name, hash_tensors(weights)),
    )
    return Adopted(run, weights)


def _objective(folder: Path) -> str:
    """The objective whose readout a folder's model has."""
    readout = name_of(readout_of(folder))
    for name, objective in OBJECTIVES.items():
        if objective.readout == readout:
            return name
    raise invalid("parent", str(folder), f"is read as {readout}, which no objective is", "give another parent")


def _check_tokenizer(folder: Path, corpus: Corpus) -> None:
    """Raises ValueError if a text has other ids in the corpus than in the model."""
    tokenizer = Tokenizer(folder)
    if _ids(tokenizer) != _ids(corpus.tokenizer):
        problem = f"was made with another tokenizer than that of {folder.name}"
        raise invalid("corpus", corpus.name, problem, f"prepare one with data.tokenizer={folder}")


def _ids(tokenizer: Tokenizer) -> Any:
    """All fields that decide the ids of a text, and the special tokens."""
    values = json.loads(tokenizer.backend.to_str())
    added = sorted((token["id"], token["content"]) for token in values.pop("added_tokens"))
    return {name: value for name, value in values.items() if name not in UNTOUCHED}, added, tokenizer.special
