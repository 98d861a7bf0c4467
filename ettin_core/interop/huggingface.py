"""Transformers folders in and out, with no custom code on either side.

A bidirectional view becomes `ModernBertForMaskedLM`, a causal one `ModernBertDecoderForCausalLM`. Converting an encoder
into a decoder, or back, needs nothing here: it is the same native state under another `AttentionSpec`.

The two classes count a local window differently. `sliding_window` = w shows an encoder w neighbours on each side, as
ours does, but a decoder only w keys in all, the query's own included; so a causal window of 64 (65 keys) is written as
65, and a decoder that says 64 is read as a window of 63.
"""

import dataclasses
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from ettin_core.data.tokenizer import SpecialTokens, Tokenizer
from ettin_core.foundation.errors import invalid, unknown
from ettin_core.foundation.fields import check_within
from ettin_core.foundation.folders import folder_under_construction
from ettin_core.foundation.storage import read_json, read_mapping, write_json, write_text
from ettin_core.interop.card import card
from ettin_core.interop.embedding import check_pooling, write_pooling
from ettin_core.interop.weight_map import from_huggingface, to_huggingface
from ettin_core.interop.weights import SHARDS_FILE, WEIGHTS_FILE, read_weights
from ettin_core.model.config import MOST, AttentionSpec, ModelConfig
from ettin_core.model.transformer import Transformer
from ettin_core.records.readout import fills_masks

LAYOUT_OF = {"bidirectional": "encoder", "causal": "decoder"}
DIRECTION_OF = {"modernbert": "bidirectional", "modernbert-decoder": "causal"}
ARCHITECTURE_OF = {"bidirectional": "ModernBertForMaskedLM", "causal": "ModernBertDecoderForCausalLM"}
METADATA_FILE = "ettin.json"
MAKER = "export"
CARD_FILE = "README.md"
TOKENIZER_FILES = ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"]
DOWNLOADS = ["config.json", METADATA_FILE, "model*.safetensors", SHARDS_FILE, *TOKENIZER_FILES]

# What every model of ours is, in the words of a Hugging Face config. Written on export, demanded on import.
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


def export(
    model: Transformer,
    view: AttentionSpec,
    tokenizer_folder: Path,
    out: Path,
    max_positions: int,
    metadata: dict[str, Any],
    overwrite: bool = False,
    pooling: str = "mean",
    alongside: tuple[str, ...] = (),
) -> Path:
    """Write `out`, a folder that `AutoModelForMaskedLM` or `AutoModelForCausalLM` loads; returns its absolute path.

    The weights keep their precision. `max_positions` is the longest row the model is meant for; `metadata` (JSON-able)
    goes to ettin.json and, in words, to the card; Sentence Transformers loads the folder with `pooling` of its states. The
    folder appears whole or not at all; what it holds of the names in `alongside` stays. Dropout is a matter of training
    and is not exported.
    Raises ValueError for a prefix model, if `out` exists and is not an earlier export that `overwrite` may replace, or
    if the tokenizer does not fit the model.
    """
    if view.direction not in LAYOUT_OF:
        remedy = f"export a {' or '.join(LAYOUT_OF)} model, or convert it first"
        raise invalid("direction", view.direction, "has no class in transformers", remedy)
    check_pooling(pooling)
    out = Path(out).resolve()
    _check_target(out, overwrite)
    tokenizer = Tokenizer(Path(tokenizer_folder))
    if tokenizer.vocab_size > model.config.vocab_size:
        problem = f"has ids up to {tokenizer.vocab_size - 1}, the model has {model.config.vocab_size} rows for them"
        raise invalid("tokenizer", str(tokenizer_folder), problem, "give the tokenizer the model was trained with")
    state = to_huggingface(model.state_dict(), LAYOUT_OF[view.direction], model.config.num_layers)
    state = {name: tensor.cpu().contiguous() for name, tensor in state.items()}
    dtype = str(model.embedding.weight.dtype).removeprefix("torch.")
    with folder_under_construction(out, MAKER, alongside) as building:
        config = config_values(model.config, view, tokenizer.special, max_positions, dtype)
        write_json(building / "config.json", config)
        save_file(state, building / WEIGHTS_FILE, metadata={"format": "pt"})
        # safetensors writes for the owner alone; others may read what the umask lets them read of any other file.
        (building / WEIGHTS_FILE).chmod((building / "config.json").stat().st_mode)
        ends = view.direction == "bidirectional" or fills_masks(str(metadata.get("readout")))
        _write_tokenizer(tokenizer, view, building, max_positions, ends)
        write_json(building / METADATA_FILE, metadata)
        write_pooling(building, pooling, model.config.hidden_size, max_positions)
        parameters = sum(tensor.numel() for tensor in state.values())
        text = card(metadata, view.direction, parameters, max_positions, pooling)
        write_text(building / CARD_FILE, text)
        if view.direction == "causal":
            ids = {name: config[name] for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
            write_json(building / "generation_config.json", ids)
        _check_reads_back(building, model.config, view)
    return out


def load(source: Path | str, revision: str | None = None) -> tuple[Transformer, AttentionSpec, dict[str, Any]]:
    """Load a local transformers folder, or a hub id (at a branch, tag or commit): safetensors only, no remote code.

    Returns the model (fp32, on the CPU, in training mode), the view it was made for, and a dictionary: `source`,
    `folder` (where its files lie, the tokenizer's among them), `max_positions`, and `metadata` (ettin.json, or empty).
    Raises ValueError, in one line, for what cannot be fetched, is not a ModernBERT of ours, or has no safetensors.
    """
    folder = fetch(source, revision)
    config, view, max_positions = read_config(folder)
    model = _around(read_weights(folder), config, view).float()
    metadata_file = folder / METADATA_FILE
    metadata = read_mapping(metadata_file) if metadata_file.is_file() else {}
    facts = {"source": str(source), "folder": str(folder), "max_positions": max_positions, "metadata": metadata}
    return model, view, facts


def read_config(folder: Path) -> tuple[ModelConfig, AttentionSpec, int]:
    """Shape, view and longest row that a transformers folder describes, older keys included.

    Raises ValueError naming the field that asks for something our transformer does not have.
    """
    file = folder / "config.json"
    if not file.is_file():
        raise invalid("model", str(folder), "holds no config.json", "give a folder written by save_pretrained")
    return _understood(read_mapping(file, "fetch the folder again"), f"in {file}")


def adopt(pretrained: Any) -> tuple[Transformer, AttentionSpec]:
    """Our transformer around the weights of a loaded transformers model, which both then share; and its view.

    Raises ValueError naming what our transformer does not have.
    """
    config, view, _ = _understood(pretrained.config.to_dict(), "of the loaded model")
    return _around(pretrained.state_dict(), config, view).train(pretrained.training), view


def _around(weights: dict[str, torch.Tensor], config: ModelConfig, view: AttentionSpec) -> Transformer:
    """Our transformer holding the weights of a transformers state, under our names. Raises ValueError naming a tensor."""
    native = from_huggingface(weights, LAYOUT_OF[view.direction], config.num_layers)
    with torch.device("meta"):
        model = Transformer(config)
    expected = {name: parameter.shape for name, parameter in model.named_parameters()}
    for name, tensor in native.items():
        if tensor.shape != expected[name]:
            problem = f"has shape {list(tensor.shape)}, but config.json says {list(expected[name])}"
            raise invalid("tensor", name, problem, "give weights and config.json of the same model")
    model.load_state_dict(native, assign=True)
    return model


def _understood(values: dict[str, Any], where: str) -> tuple[ModelConfig, AttentionSpec, int]:
    from transformers import ModernBertConfig, ModernBertDecoderConfig

    kind = values.get("model_type")
    if kind not in DIRECTION_OF:
        raise unknown("model_type", kind, f"{where} is not supported", DIRECTION_OF)
    direction = DIRECTION_OF[kind]
    architectures = values.get("architectures") or [ARCHITECTURE_OF[direction]]
    if not isinstance(architectures, list) or ARCHITECTURE_OF[direction] not in architectures:
        remedy = f"give a {ARCHITECTURE_OF[direction]}"
        raise invalid("architectures", architectures, f"{where} lacks the prediction head or adds another", remedy)
    config_class: Any = ModernBertConfig if direction == "bidirectional" else ModernBertDecoderConfig
    layers = values.get("num_hidden_layers", 1)
    if isinstance(layers, int):  # before a list of so many is made
        check_within("num_hidden_layers", layers, 1, MOST["num_layers"])
    try:
        config = config_class.from_dict(values)
        head_size = config.hidden_size // config.num_attention_heads
    except Exception as error:  # the library checks each field in its own way
        reason = " ".join(str(error).split())[:200]
        raise invalid("config", where, f"is no configuration of {kind} ({reason})", "fetch the folder again") from error
    for field, wanted in FIXED.items():
        _demand(field, getattr(config, field), wanted)
    _demand("head_dim", getattr(config, "head_dim", None) or head_size, head_size)
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
    view = AttentionSpec(direction, _rope_base(rope, "full_attention"), _rope_base(rope, "sliding_attention"))
    return shape, view, config.max_position_embeddings


def config_values(
    config: ModelConfig, view: AttentionSpec, special: SpecialTokens, max_positions: int, dtype: str
) -> dict[str, Any]:
    """config.json. Nothing is left to a default, and the keys of older transformers versions say the same again."""
    causal = view.direction == "causal"
    sliding_window = config.local_window + causal
    layer_types = ["full_attention" if config.is_global(i) else "sliding_attention" for i in range(config.num_layers)]
    values = {
        "model_type": next(kind for kind, direction in DIRECTION_OF.items() if direction == view.direction),
        "architectures": [ARCHITECTURE_OF[view.direction]],
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
            "full_attention": {"rope_type": "default", "rope_theta": view.rope_base_global},
            "sliding_attention": {"rope_type": "default", "rope_theta": view.rope_base_local},
        },
        "global_rope_theta": view.rope_base_global,
        "local_rope_theta": view.rope_base_local,
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


def _write_tokenizer(tokenizer: Tokenizer, view: AttentionSpec, folder: Path, max_positions: int, ends: bool) -> None:
    """Tokenizer files whose output is what the model was trained on.

    A model that fills masks reads [CLS] text [SEP] (`ends`). Another reads [CLS] text, because after [SEP] a document is over
    and nothing is left to continue. [MASK] takes the space before it, as the word it stands for did.
    """
    causal = view.direction == "causal"
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


def _template(marks: dict[str, int]) -> dict[str, Any]:
    """The post-processor that puts the first mark before a text and the second, if there is one, after each text."""
    before, *after = ({"SpecialToken": {"id": name, "type_id": 0}} for name in marks)
    first, second = ({"Sequence": {"id": name, "type_id": 0}} for name in "AB")
    return {
        "type": "TemplateProcessing",
        "single": [before, first, *after],
        "pair": [before, first, *after, second, *after],
        "special_tokens": {name: {"id": name, "ids": [number], "tokens": [name]} for name, number in marks.items()},
    }


def _check_target(out: Path, overwrite: bool) -> None:
    if out.exists() and not overwrite:
        raise invalid("out", str(out), "exists", "name another folder, or set overwrite=true to replace it")


def _check_reads_back(folder: Path, config: ModelConfig, view: AttentionSpec) -> None:
    """Refuse to publish a folder which the installed transformers understands as another model."""
    read, read_view, _ = read_config(folder)
    if (read, read_view) != (dataclasses.replace(config, attention_output_dropout=0.0), view):
        raise RuntimeError(f"transformers reads the exported config.json as {read}, {read_view}; not {config}, {view}.")


def _demand(field: str, value: object, wanted: object) -> None:
    if value != wanted:
        raise invalid(field, value, "is not something our transformer has", f"give a model with {field}={wanted!r}")


def _global_every(layer_types: list[str], stated: int | None) -> int:
    """How often a layer is global, by the layers themselves; where only the first is, as older keys state it."""
    globals_after_first = (i for i, kind in enumerate(layer_types) if i and kind == "full_attention")
    every = next(globals_after_first, stated or ModelConfig.global_every)
    pattern = ["sliding_attention" if i % every else "full_attention" for i in range(len(layer_types))]
    _demand("layer_types", layer_types, pattern)
    return every


def _rope_base(parameters: dict[str, dict[str, Any]], layer_type: str) -> float:
    kind = dict(parameters[layer_type])
    base = kind.pop("rope_theta")
    _demand(f"rope_parameters.{layer_type}", kind, {"rope_type": "default"})
    return float(base)


def fetch(source: Path | str, revision: str | None) -> Path:
    """The local folder of `source`, downloaded from the hub when it is an id and not a folder.

    Raises ValueError for what cannot be fetched, and for a revision of a folder, which has none.
    """
    if Path(source).is_dir():
        if revision is not None:
            problem = f"belongs to ids of the hub, and {source} is a folder"
            raise invalid("revision", revision, problem, "leave it out, or give an id")
        return Path(source).resolve()
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        return Path(snapshot_download(str(source), revision=revision, allow_patterns=DOWNLOADS))
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].split(". ")[0]
        problem = f"is neither a folder nor a model that can be fetched ({reason})"
        remedy = (
            f"give a transformers folder, or fetch it once with the network on (HF_HUB_OFFLINE=0): hf download {source}"
        )
        raise invalid("model", str(source), problem, remedy) from error
