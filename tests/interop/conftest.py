"""Randomised models, a real tokenizer, and transformers classes loaded from the folders we export."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ettin_core.data import tokenizer as tokenizers
from ettin_core.interop import huggingface
from ettin_core.interop.huggingface_config import ARCHITECTURE_OF
from ettin_core.model.config import AttentionSpec, ModelConfig
from ettin_core.model.transformer import Transformer

os.environ.setdefault("HF_HUB_OFFLINE", "1")

TEXTS = ["the cat sat on the mat", "a dog met the other dog", "she said that the ship had sailed away"]


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained byte-level BPE of 290 tokens."""
    folder = tmp_path_factory.mktemp("tokenizer")
    tokenizers.train(TEXTS * 20, 290, folder)
    return folder


def build_random(config: ModelConfig, seed: int = 0) -> Transformer:
    """A model whose every tensor matters: initial weights alone (norms of one, biases of zero) hide mistakes."""
    model = Transformer(config, seed).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 1:
                parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.2)
            elif "query_key_value" in name:
                parameter.mul_(6.0)  # attention far from uniform
            elif name != "embedding.weight":
                parameter.mul_(2.0)
            else:
                parameter.mul_(4.0)
    return model


@pytest.fixture(scope="session")
def random_model() -> Callable[..., Transformer]:
    """`random_model(config, seed)`: a model in evaluation mode with every tensor randomised."""
    return build_random


@pytest.fixture
def through_folder(tokenizer_folder: Path, tmp_path: Path) -> Callable[..., Any]:
    """`through_folder(model, attention)`: the transformers model that our exported folder loads as."""

    def convert(model: Transformer, attention: AttentionSpec, **changes: Any) -> Any:
        from transformers import AutoModelForCausalLM, AutoModelForMaskedLM

        out = tmp_path / f"{attention.direction}-{len(list(tmp_path.iterdir()))}"
        huggingface.export(model, attention, tokenizer_folder, out, max_positions=1024, metadata={})
        auto = AutoModelForMaskedLM if attention.direction == "bidirectional" else AutoModelForCausalLM
        loaded = auto.from_pretrained(out, trust_remote_code=False, **changes).eval()
        assert type(loaded).__name__ == ARCHITECTURE_OF[attention.direction]
        return loaded

    return convert
