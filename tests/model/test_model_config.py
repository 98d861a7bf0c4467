"""Impossible shapes and views are refused by field, value and remedy."""

from typing import Any

import pytest

from ettin_core.model.config import AttentionSpec, ModelConfig

SHAPE = {"vocab_size": 100, "hidden_size": 64, "num_layers": 4, "num_heads": 2, "intermediate_size": 96}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vocab_size": 0}, r"model\.vocab_size=0 is not positive"),
        ({"local_window": -1}, r"model\.local_window=-1 is not positive"),
        ({"num_heads": 5}, r"model\.num_heads=5 does not split hidden_size=64.*use 1 heads of 64"),
        ({"num_heads": 64}, r"model\.num_heads=64 does not split .* even width"),
        ({"num_layers": 6}, r"model\.num_layers=6 leaves the last layer local"),
        ({"attention_output_dropout": 1.0}, r"model\.attention_output_dropout=1\.0 is not in \[0, 1\)"),
    ],
)
def test_an_impossible_shape_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ModelConfig(**{**SHAPE, **changes})


def test_layers_are_global_from_the_first_to_the_last() -> None:
    config = ModelConfig(**{**SHAPE, "num_layers": 10})
    assert [layer for layer in range(10) if config.is_global(layer)] == [0, 3, 6, 9]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"direction": "sideways"}, "direction='sideways' is not a direction; use one of bidirectional, causal"),
        ({"direction": "causal", "rope_base_local": 1.0}, "rope_base_local=1.0 is too small"),
    ],
)
def test_an_impossible_view_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AttentionSpec(**arguments)
