"""Transformers folders in and out, with no custom code on either side.

A bidirectional model becomes `ModernBertForMaskedLM`, a causal one `ModernBertDecoderForCausalLM`. Converting an encoder
into a decoder, or back, needs nothing here: it is the same native state under another `AttentionSpec`.
"""

import dataclasses
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from ettin_core.data.tokenizer import Tokenizer
from ettin_core.foundation.errors import invalid
from ettin_core.foundation.folders import folder_under_construction
from ettin_core.foundation.storage import read_mapping, write_json, write_text
from ettin_core.interop.card import card
from ettin_core.interop.embedding import check_pooling, write_pooling
from ettin_core.interop.huggingface_config import LAYOUT_OF, config_values, model_of_config, read_config
from ettin_core.interop.huggingface_tokenizer import write_tokenizer
from ettin_core.interop.weight_map import from_huggingface, to_huggingface
from ettin_core.interop.weights import SHARDS_FILE, WEIGHTS_FILE, read_weights
from ettin_core.model.config import AttentionSpec, ModelConfig
from ettin_core.model.transformer import Transformer
from ettin_core.records.readout import fills_masks

METADATA_FILE = "ettin.json"
FACTS_OF_WEIGHTS = ("tensors", "measured", "weights")  # in ettin.json: not true of a copy with other weights
MAKER = "export"
CARD_FILE = "README.md"
TOKENIZER_FILES = ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"]
DOWNLOADS = ["config.json", METADATA_FILE, "model*.safetensors", SHARDS_FILE, *TOKENIZER_FILES, "chat_template.jinja"]


def export(
    model: Transformer,
    attention: AttentionSpec,
    tokenizer_folder: Path,
    out: Path,
    max_positions: int,
    metadata: dict[str, Any],
    overwrite: bool = False,
    pooling: str = "mean",
    alongside: tuple[str, ...] = (),
) -> Path:
    """Write `out`, a folder that `AutoModelForMaskedLM` or `AutoModelForCausalLM` loads; returns its absolute path.

    The weights keep their precision. `max_positions` is the longest row the model is meant for. `metadata` (JSON-able)
    goes to ettin.json and, in words, to the card. Sentence Transformers loads the folder with `pooling` of its states.
    The folder appears whole or not at all; its entries named in `alongside` stay. Dropout is not exported.
    Raises ValueError for a prefix model, for a tokenizer that does not fit, and if `out` exists and is not an earlier
    export that `overwrite` may replace.
    """
    if attention.direction not in LAYOUT_OF:
        remedy = f"export a {' or '.join(LAYOUT_OF)} model, or convert it first"
        raise invalid("direction", attention.direction, "has no class in transformers", remedy)
    check_pooling(pooling)
    out = Path(out).resolve()
    if out.exists() and not overwrite:
        raise invalid("out", str(out), "exists", "name another folder, or set overwrite=true to replace it")
    tokenizer = Tokenizer(Path(tokenizer_folder))
    if tokenizer.vocab_size > model.config.vocab_size:
        problem = f"has ids up to {tokenizer.vocab_size - 1}, the model has {model.config.vocab_size} rows for them"
        raise invalid("tokenizer", str(tokenizer_folder), problem, "give the tokenizer the model was trained with")
    with folder_under_construction(out, MAKER, alongside) as building:
        parameters = _write_model(building, model, attention, tokenizer, max_positions)
        ends = attention.direction == "bidirectional" or fills_masks(str(metadata.get("readout")))
        write_tokenizer(tokenizer, attention.direction, building, max_positions, ends)
        write_json(building / METADATA_FILE, metadata)
        write_pooling(building, pooling, model.config.hidden_size, max_positions)
        write_text(building / CARD_FILE, card(metadata, attention.direction, parameters, max_positions, pooling))
        _check_reads_back(building, model.config, attention)
    return out


def _write_model(
    folder: Path, model: Transformer, attention: AttentionSpec, tokenizer: Tokenizer, max_positions: int
) -> int:
    """Write configuration and weights; returns the number of parameters."""
    state = to_huggingface(model.state_dict(), LAYOUT_OF[attention.direction], model.config.num_layers)
    state = {name: tensor.cpu().contiguous() for name, tensor in state.items()}
    dtype = str(model.embedding.weight.dtype).removeprefix("torch.")
    config = config_values(model.config, attention, tokenizer.special, max_positions, dtype)
    write_json(folder / "config.json", config)
    save_file(state, folder / WEIGHTS_FILE, metadata={"format": "pt"})
    # safetensors lets only the owner read its file; give it the mode that the umask gives every other file.
    (folder / WEIGHTS_FILE).chmod((folder / "config.json").stat().st_mode)
    if attention.direction == "causal":
        ids = {name: config[name] for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
        write_json(folder / "generation_config.json", ids)
    return sum(tensor.numel() for tensor in state.values())


def load(source: Path | str, revision: str | None = None) -> tuple[Transformer, AttentionSpec, dict[str, Any]]:
    """Load a local transformers folder, or a hub id (at a branch, tag or commit): safetensors only, without remote code.

    Returns the model (fp32, on the CPU, in training mode), its attention, and a dictionary: `source`, `folder` (the
    local one, with the tokenizer), `max_positions`, and `metadata` (ettin.json, or empty).
    Raises ValueError, in one line, for a source that cannot be fetched, is another architecture, or has no safetensors.
    """
    folder = fetch(source, revision)
    config, attention, max_positions = read_config(folder)
    model = _around(read_weights(folder), config, attention).float()
    metadata_file = folder / METADATA_FILE
    metadata = read_mapping(metadata_file) if metadata_file.is_file() else {}
    facts = {"source": str(source), "folder": str(folder), "max_positions": max_positions, "metadata": metadata}
    return model, attention, facts


def adopt(pretrained: Any) -> tuple[Transformer, AttentionSpec]:
    """Our transformer around the weights of a loaded transformers model, which both then share; and its attention.

    Raises ValueError naming what our transformer does not have.
    """
    config, attention, _ = model_of_config(pretrained.config.to_dict(), "of the loaded model")
    return _around(pretrained.state_dict(), config, attention).train(pretrained.training), attention


def _around(weights: dict[str, torch.Tensor], config: ModelConfig, attention: AttentionSpec) -> Transformer:
    """Our transformer with the weights of a transformers state. Raises ValueError naming a tensor that does not fit."""
    native = from_huggingface(weights, LAYOUT_OF[attention.direction], config.num_layers)
    with torch.device("meta"):
        model = Transformer(config)
    expected = {name: parameter.shape for name, parameter in model.named_parameters()}
    for name, tensor in native.items():
        if tensor.shape != expected[name]:
            problem = f"has shape {list(tensor.shape)}, but config.json says {list(expected[name])}"
            raise invalid("tensor", name, problem, "give weights and config.json of the same model")
    model.load_state_dict(native, assign=True)
    return model


def _check_reads_back(folder: Path, config: ModelConfig, attention: AttentionSpec) -> None:
    """Raises RuntimeError if the installed transformers reads the folder's config.json as another model."""
    config_read, attention_read, _ = read_config(folder)
    if (config_read, attention_read) != (dataclasses.replace(config, attention_output_dropout=0.0), attention):
        raise RuntimeError(
            f"transformers reads the exported config.json as {config_read}, {attention_read}; not {config}, {attention}."
        )


def fetch(source: Path | str, revision: str | None) -> Path:
    """The local folder of `source`, downloaded from the hub when it is an id and not a folder.

    Raises ValueError for an id that cannot be fetched, and for a revision of a folder, which has none.
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
