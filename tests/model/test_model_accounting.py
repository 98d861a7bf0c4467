"""Parameters and FLOPs against three independent counts: the published numbers, transformers, and PyTorch's counter."""

from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from ettin_core.model.accounting import (
    FlopCounter,
    attention_pairs,
    parameter_count,
    parameters_by_group,
    parameters_of_shape,
)
from ettin_core.model.attention_mask import row_attention_mask
from ettin_core.model.config import DIRECTIONS, AttentionSpec, ModelConfig
from ettin_core.model.transformer import Transformer

# layers, hidden, intermediate, heads, and the published count of parameters and of those outside head and output bias
PUBLISHED = {
    "17m": (7, 256, 384, 4, 16_913_600, 16_797_440),
    "32m": (10, 384, 576, 6, 32_081_344, 31_883_136),
    "68m": (19, 512, 768, 8, 68_457_664, 68_144_640),
    "150m": (22, 768, 1152, 12, 149_655_232, 149_014_272),
    "400m": (28, 1024, 2624, 16, 395_881_664, 394_781_696),
    "1b": (28, 1792, 3840, 28, 1_031_314_112, 1_028_050_688),
}


def published_config(size: str) -> ModelConfig:
    layers, hidden, intermediate, heads, _, _ = PUBLISHED[size]
    return ModelConfig(50368, hidden, layers, heads, intermediate)


@pytest.mark.parametrize("size", PUBLISHED)
def test_parameters_are_the_published_ones(size: str) -> None:
    config, (*_, total, backbone) = published_config(size), PUBLISHED[size]
    assert parameter_count(config) == total
    with torch.device("meta"):
        model = Transformer(config)
    assert sum(parameter.numel() for parameter in model.parameters()) == total
    groups = parameters_by_group(model)
    assert sum(groups.values()) == total and groups == parameters_of_shape(config)
    assert total - groups["head"] == backbone
    assert groups["embedding"] == 50368 * config.hidden_size
    assert groups["norms"] == (2 * config.num_layers + 1) * config.hidden_size  # two per layer but the first's, and two


@pytest.mark.parametrize("kind", ["ModernBertForMaskedLM", "ModernBertDecoderForCausalLM"])
@pytest.mark.parametrize("size", PUBLISHED)
def test_transformers_has_as_many(size: str, kind: str) -> None:
    import transformers

    config = published_config(size)
    model_class: Any = getattr(transformers, kind)
    their_config = model_class.config_class(
        hidden_size=config.hidden_size,
        num_hidden_layers=config.num_layers,
        num_attention_heads=config.num_heads,
        intermediate_size=config.intermediate_size,
    )
    with torch.device("meta"):
        theirs = model_class(their_config)
    theirs.tie_weights()
    assert sum(parameter.numel() for parameter in theirs.parameters()) == parameter_count(config)


@pytest.mark.parametrize("window", [1, 4, 64, None])
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_attention_pairs_are_those_that_are_visible(direction: str, window: int | None) -> None:
    for lengths in ([1], [4], [5], [6], [130], [3, 1, 70, 5, 64, 65, 66]):
        documents = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))[None]
        prefixes = np.array(lengths) * 2 // 3
        positions = torch.cat([torch.arange(length) for length in lengths])[None]
        prefix_mask = positions < torch.from_numpy(prefixes)[documents]
        seen = row_attention_mask(documents, direction, window, prefix_mask if direction == "prefix" else None)
        assert attention_pairs(np.array(lengths), direction, window, prefixes) == seen.sum()


@pytest.mark.parametrize("shape", ["all layers global", "windows as wide as the row"])
def test_flops_are_those_that_pytorch_counts(shape: str) -> None:
    """PyTorch counts dense products, so the case compared is the one where every key is visible.

    Local and causal layers differ from it only in the number of pairs, which the test above compares exactly.
    """
    length = 96
    changes = {"global_every": 1} if shape == "all layers global" else {"local_window": length}
    config = ModelConfig(211, 64, 4, 2, 96, **changes)
    model = Transformer(config, attention="reference")
    tokens, documents = torch.arange(length)[None], torch.zeros(1, length, dtype=torch.long)
    lengths, ours = np.array([length]), FlopCounter(config, "bidirectional")
    scored = torch.arange(0, length, 3)
    with FlopCounterMode(display=False) as forward:
        states = model(tokens, documents, tokens, AttentionSpec("bidirectional"))[0, scored]
        loss = model.logits(states).square().sum()
    assert ours.forward(lengths, len(scored)) == pytest.approx(forward.get_total_flops(), rel=0.02)
    with FlopCounterMode(display=False) as reading, torch.inference_mode():
        model.eval().logits(model(tokens, documents, tokens, AttentionSpec("bidirectional"), None, scored[None])[0])
    uncounted = (
        4 * config.hidden_size * len(scored) * length
    )  # the last layer's attention, by a kernel it does not know
    assert ours.reading(lengths, np.array([len(scored)])) == reading.get_total_flops() + uncounted
    with FlopCounterMode(display=False) as backward:
        loss.backward()
    both = forward.get_total_flops() + backward.get_total_flops()
    assert ours.training(lengths, len(scored)) == pytest.approx(both, rel=0.02)


def test_flops_add_up_over_documents_and_see_the_direction() -> None:
    config = ModelConfig(211, 64, 4, 2, 96, local_window=8)
    for direction in DIRECTIONS:
        counter = FlopCounter(config, direction)
        together = counter.forward(np.array([50, 7]), 9, np.array([20, 3]))
        alone = counter.forward(np.array([50]), 9, np.array([20])), counter.forward(np.array([7]), 0, np.array([3]))
        assert together == sum(alone)
    bidirectional, causal, all_open, none_open = (
        FlopCounter(config, direction).forward(np.array([50]), 0, np.array([prefix]))
        for direction, prefix in (("bidirectional", 0), ("causal", 0), ("prefix", 50), ("prefix", 0))
    )
    assert (all_open, none_open) == (bidirectional, causal), "the two directions are the ends of a prefix"
    pairs = 2 * (50 * 50 - 50 * 51 // 2) + 2 * sum(
        min(8, 49 - i) for i in range(50)
    )  # keys ahead: global, local layers
    assert bidirectional - causal == 4 * config.hidden_size * pairs
