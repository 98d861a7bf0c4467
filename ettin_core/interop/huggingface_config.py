"""config.json of a transformers folder, in both directions: written for a model of this library, and read into one.

The two classes count a local window differently. `sliding_window` = w shows an encoder w neighbours on each side, as
this library does. It shows a decoder w keys in all, the query's included. So a causal window of 64 (65 keys) is
written as 65, and a decoder's 64 is read as a window of 63.
"""

from pathlib import Path
from typing import Any

from ettin_core.data.tokenizer import SpecialTokens
from ettin_core.foundation.errors import invalid, unknown
from ettin_core.foundation.fields import check_within
from ettin_core.foundation.storage import read_mapping
from ettin_core.model.config import MOST, AttentionSpec, ModelConfig

LAYOUT_OF = {"bidirectional": "encoder", "causal": "decoder"}
DIRECTION_OF = {"modernbert": "bidirectional", "modernbert-decoder": "causal"}
ARCHITECTURE_OF = {"bidirectional": "ModernBertForMaskedLM", "causal": "ModernBertDecoderForCausalLM"}

# What every model of this library is, as fields of a transformers configuration: written on export, required on import.
FIXED = {
    "hidden_activation": "gelu",
    "classifier_activation": "gelu",
    "norm_bias": False,
    "attention_bias": False,
    "mlp_bias": False,
    "classifier_bias": False,
    "decoder_bias": True,
    "tie_word_embeddings": True,
    "attention_dropout": 0.0,
    "embedding_dropout": 0.0,
    "mlp_dropout": 0.0,
}


def read_config(folder: Path) -> tuple[ModelConfig, AttentionSpec, int]:
    """Shape, attention and longest row of the model in a transformers folder; older keys are understood.

    Raises ValueError naming the field that asks for something our transformer does not have.
    """
    file = folder / "config.json"
    if not file.is_file():
        raise invalid("model", str(folder), "holds no config.json", "give a folder written by save_pretrained")
    return model_of_config(read_mapping(file, "fetch the folder again"), f"in {file}")


def model_of_config(values: dict[str, Any], where: str) -> tuple[ModelConfig, AttentionSpec, int]:
    """Shape, attention and longest row of the fields of a config.json; `where` names it in errors.

    Raises ValueError naming the field that asks for something our transformer does not have.
    """
    kind = values.get("model_type")
    if kind not in DIRECTION_OF:
        raise unknown("model_type", kind, f"{where} is not supported", DIRECTION_OF)
    direction = DIRECTION_OF[kind]
    architectures = values.get("architectures") or [ARCHITECTURE_OF[direction]]
    if not isinstance(architectures, list) or ARCHITECTURE_OF[direction] not in architectures:
        remedy = f"give a {ARCHITECTURE_OF[direction]}"
        raise invalid("architectures", architectures, f"{where} lacks the prediction head or adds another", remedy)
    if "quantization_config" in values:
        method = values["quantization_config"].get("quant_method")
        remedy = "give the plain folder that it was made of"
        raise invalid("quantization_config", method, f"{where}: our transformer has plain weights", remedy)
    config, head_size = _configuration(values, direction, where)
    for field, wanted in FIXED.items():
        _require(field, getattr(config, field), wanted)
    _require("head_dim", getattr(config, "head_dim", None) or head_size, head_size)
    shape = ModelConfig(
        vocab_size=config.vocab_size,
        hidden_size=config.hidden_size,
        num_layers=config.num_hidden_layers,
        num_heads=config.num_attention_heads,
        intermediate_size=config.intermediate_size,
        local_window=config.sliding_window - (direction == "causal"),
        global_every=_global_every(config.layer_types, values.get("global_attn_every_n_layers")),
        norm_epsilon=config.norm_eps,
    )
    rope = config.rope_parameters
    attention = AttentionSpec(direction, _rope_base(rope, "full_attention"), _rope_base(rope, "sliding_attention"))
    return shape, attention, config.max_position_embeddings


def _configuration(values: dict[str, Any], direction: str, where: str) -> tuple[Any, int]:
    """The configuration object of transformers, which fills in what older files leave out, and the size of a head."""
    from transformers import ModernBertConfig, ModernBertDecoderConfig

    config_class: Any = ModernBertConfig if direction == "bidirectional" else ModernBertDecoderConfig
    layers = values.get("num_hidden_layers", 1)
    if isinstance(layers, int):  # before a list of that length is made
        check_within("num_hidden_layers", layers, 1, MOST["num_layers"])
    try:
        config = config_class.from_dict(values)
        return config, config.hidden_size // config.num_attention_heads
    except Exception as error:  # the library checks each field in its own way
        reason = " ".join(str(error).split())[:200]
        problem = f"is not a valid configuration of {values['model_type']} ({reason})"
        raise invalid("config", where, problem, "fetch the folder again") from error


def config_values(
    config: ModelConfig, attention: AttentionSpec, special: SpecialTokens, max_positions: int, dtype: str
) -> dict[str, Any]:
    """The fields of config.json: all of them, without defaults, and once more under the names of older versions."""
    causal = attention.direction == "causal"
    sliding_window = config.local_window + causal
    layer_types = ["full_attention" if config.is_global(i) else "sliding_attention" for i in range(config.num_layers)]
    values = {
        "model_type": next(kind for kind, direction in DIRECTION_OF.items() if direction == attention.direction),
        "architectures": [ARCHITECTURE_OF[attention.direction]],
        "dtype": dtype,
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "intermediate_size": config.intermediate_size,
        "norm_eps": config.norm_epsilon,
        "max_position_embeddings": max_positions,
        "local_attention": 2 * sliding_window,
        "layer_types": layer_types,
        "global_attn_every_n_layers": config.global_every,
        "rope_parameters": {
            "full_attention": {"rope_type": "default", "rope_theta": attention.rope_base_global},
            "sliding_attention": {"rope_type": "default", "rope_theta": attention.rope_base_local},
        },
        "global_rope_theta": attention.rope_base_global,
        "local_rope_theta": attention.rope_base_local,
        "bos_token_id": special.bos,
        "cls_token_id": special.bos,
        "eos_token_id": special.eos,
        "sep_token_id": special.eos,
        "pad_token_id": special.pad,
        "mask_token_id": special.mask,
        **FIXED,
    }
    if causal:
        values |= {"sliding_window": sliding_window, "use_cache": True}
    return values


def _require(field: str, value: object, wanted: object) -> None:
    if value != wanted:
        raise invalid(field, value, "is not something our transformer has", f"give a model with {field}={wanted!r}")


def _global_every(layer_types: list[str], stated: int | None) -> int:
    """How often a layer is global, read from the layers; where only the first is global, from `stated`, the older key."""
    globals_after_first = (i for i, kind in enumerate(layer_types) if i and kind == "full_attention")
    every = next(globals_after_first, stated or ModelConfig.global_every)
    pattern = ["sliding_attention" if i % every else "full_attention" for i in range(len(layer_types))]
    _require("layer_types", layer_types, pattern)
    return every


def _rope_base(parameters: dict[str, dict[str, Any]], layer_type: str) -> float:
    kind = dict(parameters[layer_type])
    base = kind.pop("rope_theta")
    _require(f"rope_parameters.{layer_type}", kind, {"rope_type": "default"})
    return float(base)
