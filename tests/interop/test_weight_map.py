"""The name table: exact both ways, and strict."""

from collections.abc import Callable

import pytest
import torch

from ettin_core.interop.weight_map import LAYOUTS, from_huggingface, to_huggingface
from ettin_core.model.config import ModelConfig
from ettin_core.model.transformer import Transformer

CONFIG = ModelConfig(vocab_size=97, hidden_size=32, num_layers=4, num_heads=2, intermediate_size=48)


@pytest.fixture
def state(random_model: Callable[..., Transformer]) -> dict[str, torch.Tensor]:
    return random_model(CONFIG).state_dict()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_round_trip_is_bitwise(state: dict[str, torch.Tensor], layout: str) -> None:
    back = from_huggingface(to_huggingface(state, layout, 4), layout, 4)
    assert set(back) == set(state)
    assert all(torch.equal(back[name], state[name]) for name in state)


@pytest.mark.parametrize(("layout", "kind"), [("encoder", "ModernBert"), ("decoder", "ModernBertDecoder")])
def test_names_and_shapes_are_those_of_transformers(state: dict[str, torch.Tensor], layout: str, kind: str) -> None:
    import transformers

    task = {"encoder": "ForMaskedLM", "decoder": "ForCausalLM"}[layout]
    config = getattr(transformers, f"{kind}Config")(
        vocab_size=97, hidden_size=32, num_hidden_layers=4, num_attention_heads=2, intermediate_size=48, pad_token_id=3
    )
    with torch.device("meta"):
        theirs = getattr(transformers, f"{kind}{task}")(config).state_dict()
    ours = to_huggingface(state, layout, 4)
    assert {name: tensor.shape for name, tensor in theirs.items() if name != "decoder.weight"} == {
        name: tensor.shape for name, tensor in ours.items()
    }


def test_parts_of_the_fused_matrix_are_query_key_value_in_order(state: dict[str, torch.Tensor]) -> None:
    decoder = to_huggingface(state, "decoder", 4)
    parts = [decoder[f"model.layers.2.attn.{part}_proj.weight"] for part in "qkv"]
    assert torch.equal(torch.cat(parts), state["layers.2.attention.query_key_value.weight"])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_tied_copy_is_left_out_and_accepted_only_when_equal(state: dict[str, torch.Tensor], layout: str) -> None:
    theirs = to_huggingface(state, layout, 4)
    assert "decoder.weight" not in theirs
    theirs["decoder.weight"] = state["embedding.weight"].clone()
    assert set(from_huggingface(theirs, layout, 4)) == set(state)
    theirs["decoder.weight"][5, 5] += 1
    with pytest.raises(ValueError, match=r"decoder\.weight.*differs"):
        from_huggingface(theirs, layout, 4)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_missing_unknown_or_misshapen_tensor_is_named(state: dict[str, torch.Tensor], layout: str) -> None:
    theirs = to_huggingface(state, layout, 4)
    for convert, source in ((to_huggingface, state), (from_huggingface, theirs)):
        for name, tensor in source.items():
            with pytest.raises(ValueError, match=f"'{name}' is missing"):
                convert({key: value for key, value in source.items() if key != name}, layout, 4)
            wrong = torch.cat([tensor, tensor[:1]])
            with pytest.raises(ValueError, match="has shape"):
                convert({**source, name: wrong}, layout, 4)
        with pytest.raises(ValueError, match="'stray' is unknown"):
            convert({**source, "stray": torch.zeros(1)}, layout, 4)
        with pytest.raises(ValueError, match="layers.3.* is unknown"):
            convert(source, layout, 3)


def test_the_first_layer_has_no_attention_norm(state: dict[str, torch.Tensor]) -> None:
    stray = {**state, "layers.0.attention_norm.weight": torch.ones(32)}
    with pytest.raises(ValueError, match=r"layers\.0\.attention_norm\.weight' is unknown"):
        to_huggingface(stray, "encoder", 4)


def test_an_unknown_layout_is_refused(state: dict[str, torch.Tensor]) -> None:
    with pytest.raises(ValueError, match="layout='prefix'"):
        to_huggingface(state, "prefix", 4)
