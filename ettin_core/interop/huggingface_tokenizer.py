"""The tokenizer files of a transformers folder."""

from pathlib import Path
from typing import Any

from ettin_core.data.tokenizer import Tokenizer
from ettin_core.foundation.storage import read_json, write_json


def write_tokenizer(tokenizer: Tokenizer, direction: str, folder: Path, max_positions: int, ends: bool) -> None:
    """Write the tokenizer so that a text becomes what a model of this direction was trained on.

    With `ends` a text becomes [CLS] text [SEP], for models that fill masks. Without, it becomes [CLS] text, because
    nothing continues a document after [SEP]. [MASK] takes the space before it, as the word it replaces did.
    """
    causal = direction == "causal"
    special = tokenizer.special
    names = {number: str(tokenizer.backend.id_to_token(number)) for number in special.ids}
    bos, eos = names[special.bos], names[special.eos]

    values = read_json(tokenizer.folder / "tokenizer.json")
    for token in values["added_tokens"]:
        token["lstrip"] = token["lstrip"] or token["id"] == special.mask
    values |= {"truncation": None, "padding": None}
    values["post_processor"] = _template({bos: special.bos, eos: special.eos} if ends else {bos: special.bos})
    write_json(folder / "tokenizer.json", values)

    roles = {
        "bos_token": bos,
        "cls_token": bos,
        "eos_token": eos,
        "sep_token": eos,
        "unk_token": names[special.unknown],
        "pad_token": names[special.pad],
        "mask_token": names[special.mask],
    }
    write_json(folder / "special_tokens_map.json", roles)
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        "model_max_length": max_positions,
        "model_input_names": ["input_ids", "attention_mask"],
        "padding_side": "left" if causal else "right",  # generation continues the end of each row
        **roles,
    }
    write_json(folder / "tokenizer_config.json", config)


def _template(specials: dict[str, int]) -> dict[str, Any]:
    """The post-processor that puts the first special token before a text, and the second, if any, after each text."""
    before, *after = ({"SpecialToken": {"id": name, "type_id": 0}} for name in specials)
    first, second = ({"Sequence": {"id": name, "type_id": 0}} for name in "AB")
    return {
        "type": "TemplateProcessing",
        "single": [before, first, *after],
        "pair": [before, first, *after, second, *after],
        "special_tokens": {name: {"id": name, "ids": [number], "tokens": [name]} for name, number in specials.items()},
    }
