"""Our logits and transformers' agree, for every published shape, direction and row layout, beyond the window.

Shapes keep the published depth and head size at reduced width; one published model is compared at full size.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from ettin_core.interop.huggingface_config import LAYOUT_OF
from ettin_core.model.config import AttentionSpec, ModelConfig
from ettin_core.model.transformer import Transformer

TOLERANCE = 1e-4
LENGTH = 200  # three windows and a little
# layers and the published intermediate size at 128 / hidden of the published width
PUBLISHED = {"17m": (7, 192), "32m": (10, 192), "68m": (19, 192), "150m": (22, 192), "400m": (28, 328), "1b": (28, 274)}


def reduced(size: str) -> ModelConfig:
    layers, intermediate = PUBLISHED[size]
    return ModelConfig(293, 128, layers, 2, intermediate)


def row_layout(kind: str, vocab_size: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Two rows: padded on the right, or packed with several documents of which one is longer than the window."""
    lengths = {"padded": [[LENGTH], [150]], "packed": [[90, 3, 107], [12, 188]]}[kind]
    documents = torch.full((2, LENGTH), -1)
    positions = torch.arange(LENGTH).repeat(2, 1)
    for row, parts in enumerate(lengths):
        begin = 0
        for number, length in enumerate(parts):
            documents[row, begin : begin + length] = number
            positions[row, begin : begin + length] = torch.arange(length)
            begin += length
    generator = torch.Generator().manual_seed(7)
    return torch.randint(5, vocab_size, (2, LENGTH), generator=generator), documents, positions


def explicit_masks(documents: torch.Tensor, direction: str, window: int) -> dict[str, torch.Tensor]:
    """4-D masks by layer type, written out without our visibility rule."""
    same = documents[:, :, None] == documents[:, None, :]
    index = torch.arange(documents.shape[1])
    distance = index[:, None] - index[None, :]
    full = same & (distance >= 0) if direction == "causal" else same
    return {"full_attention": full[:, None], "sliding_attention": (full & (distance.abs() <= window))[:, None]}


@torch.no_grad()
def our_logits(
    model: Transformer, attention: AttentionSpec, tokens: torch.Tensor, documents: torch.Tensor, positions: torch.Tensor
) -> torch.Tensor:
    return model.logits(model(tokens, documents, positions, attention).flatten(0, 1)).unflatten(0, tokens.shape)


@torch.no_grad()
def their_logits(
    theirs: Any, kind: str, attention: AttentionSpec, window: int, rows: tuple[torch.Tensor, ...]
) -> torch.Tensor:
    tokens, documents, positions = rows
    if kind == "padded":
        return theirs(input_ids=tokens, attention_mask=(documents >= 0).long()).logits
    masks = explicit_masks(documents, attention.direction, window)
    return theirs(input_ids=tokens, attention_mask=masks, position_ids=positions).logits


@pytest.mark.parametrize("direction", LAYOUT_OF)
@pytest.mark.parametrize("size", PUBLISHED)
def test_logits_agree(
    size: str,
    direction: str,
    random_model: Callable[..., Transformer],
    through_folder: Callable[..., Any],
    record_property: Callable[[str, object], None],
) -> None:
    config, attention = reduced(size), AttentionSpec(direction, rope_base_global=160_000.0, rope_base_local=10_000.0)
    model = random_model(config)
    theirs = through_folder(model, attention)
    for kind in ("padded", "packed"):
        rows = row_layout(kind, config.vocab_size)
        real = rows[1] >= 0
        ours = our_logits(model, attention, *rows)
        difference = (ours - their_logits(theirs, kind, attention, config.local_window, rows))[real].abs().max().item()
        record_property(f"{kind} difference", difference)
        assert ours[real].std() > 0.3  # the comparison is of something
        assert difference < TOLERANCE, kind


@pytest.mark.parametrize("direction", LAYOUT_OF)
@pytest.mark.parametrize(
    ("layers", "window", "every", "epsilon"),
    [(4, 1, 3, 1e-5), (5, 9, 2, 1e-2), (3, 64, 1, 1e-12), (1, 7, 2, 1e-5), (7, 500, 6, 1e-3)],
)
def test_logits_agree_at_other_windows_patterns_and_epsilons(
    layers: int,
    window: int,
    every: int,
    epsilon: float,
    direction: str,
    random_model: Callable[..., Transformer],
    through_folder: Callable[..., Any],
) -> None:
    """What size.local_window, size.global_every and size.norm_epsilon set, transformers holds too."""
    config = ModelConfig(293, 128, layers, 2, 192, window, every, epsilon)
    model, attention = (
        random_model(config),
        AttentionSpec(direction, rope_base_global=160_000.0, rope_base_local=10_000.0),
    )
    theirs = through_folder(model, attention)
    for kind in ("padded", "packed"):
        rows = row_layout(kind, config.vocab_size)
        ours = our_logits(model, attention, *rows)
        difference = ours - their_logits(theirs, kind, attention, window, rows)
        assert difference[rows[1] >= 0].abs().max() < TOLERANCE, kind


@pytest.mark.parametrize("direction", LAYOUT_OF)
def test_logits_agree_at_full_size(
    direction: str,
    random_model: Callable[..., Transformer],
    through_folder: Callable[..., Any],
    record_property: Callable[[str, object], None],
) -> None:
    config = ModelConfig(vocab_size=50368, hidden_size=256, num_layers=7, num_heads=4, intermediate_size=384)
    attention = AttentionSpec(direction, rope_base_global=160_000.0, rope_base_local=160_000.0)
    model = random_model(config)
    rows = row_layout("padded", config.vocab_size)
    real = rows[1] >= 0
    ours = our_logits(model, attention, *rows)
    theirs = their_logits(through_folder(model, attention), "padded", attention, 64, rows)
    difference = (ours - theirs)[real].abs().max().item()
    record_property("difference", difference)
    assert difference < TOLERANCE


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"rope_base_global": 10_000.0}, id="global rope base"),
        pytest.param({"rope_base_local": 160_000.0}, id="local rope base"),
    ],
)
@pytest.mark.parametrize("direction", LAYOUT_OF)
def test_parity_notices_a_wrong_rope_base(
    direction: str,
    changes: dict[str, float],
    random_model: Callable[..., Transformer],
    through_folder: Callable[..., Any],
) -> None:
    config, attention = reduced("17m"), AttentionSpec(direction, rope_base_global=160_000.0, rope_base_local=10_000.0)
    model = random_model(config)
    rows = row_layout("padded", config.vocab_size)
    wrong = AttentionSpec(**{**vars(attention), **changes})
    theirs = their_logits(through_folder(model, wrong), "padded", wrong, 64, rows)
    assert (our_logits(model, attention, *rows) - theirs).abs().max() > 100 * TOLERANCE


def test_a_decoder_left_at_the_default_window_differs(
    random_model: Callable[..., Transformer], through_folder: Callable[..., Any]
) -> None:
    config, attention = reduced("17m"), AttentionSpec("causal")
    model = random_model(config)
    rows = row_layout("padded", config.vocab_size)
    ours = our_logits(model, attention, *rows)
    default = through_folder(model, attention, sliding_window=64)
    difference = (ours - their_logits(default, "padded", attention, 64, rows))[0].abs().amax(-1)
    assert difference[:64].max() < TOLERANCE  # up to 64 keys the two windows are one
    assert difference[64:].max() > 100 * TOLERANCE


@pytest.mark.parametrize("direction", LAYOUT_OF)
@pytest.mark.parametrize("kind", ["padded", "packed"])
def test_with_masks_exchanged_each_class_is_the_other(
    direction: str, kind: str, random_model: Callable[..., Transformer], through_folder: Callable[..., Any]
) -> None:
    """Conversion is the same state under another mask: ours under `direction` is the opposite class given its masks."""
    config = reduced("17m")
    opposite = {"bidirectional": "causal", "causal": "bidirectional"}[direction]
    attention = AttentionSpec(direction, rope_base_global=160_000.0, rope_base_local=10_000.0)
    model = random_model(config)
    theirs = through_folder(model, AttentionSpec(opposite, attention.rope_base_global, attention.rope_base_local))
    tokens, documents, positions = row_layout(kind, config.vocab_size)
    masks = explicit_masks(documents, direction, config.local_window)
    with torch.no_grad():
        exchanged = theirs(input_ids=tokens, attention_mask=masks, position_ids=positions).logits
    assert (our_logits(model, attention, tokens, documents, positions) - exchanged).abs().max() < 1e-5
