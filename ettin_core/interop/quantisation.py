"""Quantised copies of exported folders, by torchao and bitsandbytes, which plain transformers loads with that library.

Matrices of linear layers are quantised; the embedding, the prediction matrix that is tied to it, and norms are not.
"""

import importlib.util
import logging
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ettin_core.foundation.errors import invalid, unknown, with_extra
from ettin_core.foundation.folders import folder_under_construction
from ettin_core.foundation.storage import read_mapping, write_json, write_text
from ettin_core.interop.huggingface import FACTS_OF_WEIGHTS, METADATA_FILE

EXTRA, MAKER = "quantisation", "quantise"
LIBRARY = {"int8_weight_only": "torchao", "int4_weight_only": "torchao", "int8_dynamic": "torchao"}
LIBRARY |= {"nf4": "bitsandbytes"}  # QLoRA's type, Dettmers et al. 2023, arXiv:2305.14314
GROUPED = "int4_weight_only"
NF4_BLOCK = 64  # values that share a scale in bitsandbytes
REWRITTEN = (
    "model*.safetensors",
    "*.bin",
    "*.pt",
    "model.safetensors.index.json",
    "config.json",
    "generation_config.json",
    ".made_by.json",
)


def quantise(
    source: Path,
    out: Path,
    method: str,
    group: int,
    overwrite: bool = False,
    finish: Callable[[Path], None] = lambda folder: None,
) -> Path:
    """Write `out`, the folder `source` with quantised matrices; returns its absolute path.

    Int4 has a scale for each `group` of values of a row. The folder appears whole or not at all, and `finish` adds files to
    it before it appears. Its ettin.json says the method. Raises ValueError for an unknown method, a missing library, a folder
    that holds no model or is quantised already, a row that the values of a scale do not divide, and an `out` that may not be
    replaced.
    """
    check_method(method)
    check_out(out, overwrite)
    out = Path(out).resolve()
    if method in (GROUPED, "nf4"):
        check_group(load(source), method, group)
    model = load(source, _library_config(method, group))
    with folder_under_construction(out, MAKER) as building:
        shutil.copytree(source, building, ignore=shutil.ignore_patterns(*REWRITTEN), dirs_exist_ok=True)
        model.save_pretrained(building)
        for file in building.glob("model*.safetensors"):  # which safetensors lets only the owner read
            file.chmod((building / "config.json").stat().st_mode)
        facts = read_mapping(source / METADATA_FILE) if (source / METADATA_FILE).is_file() else {}
        facts = {name: value for name, value in facts.items() if name not in FACTS_OF_WEIGHTS}
        how = {"method": method, "group": group if method == GROUPED else None}
        write_json(building / METADATA_FILE, facts | {"quantisation": how})
        _note_in_card(building / "README.md", method)
        finish(building)
    return out


def check_out(out: Path, overwrite: bool) -> None:
    """Raises ValueError for a folder that is there, unless it may be replaced."""
    if out.exists() and not overwrite:
        raise invalid("out", str(out), "exists", "name another folder, or set overwrite=true to replace it")


def _note_in_card(card: Path, method: str) -> None:
    """The plain folder's card is copied; its scores are not those of the copy."""
    if card.is_file():
        note = f"\n\n## Quantised\n\nBy `{method}`. Scores above are those of the model before it was quantised.\n"
        write_text(card, card.read_text().rstrip("\n") + note)


def check_method(method: str) -> None:
    """Raises ValueError for an unknown method, and for one whose library is not installed."""
    if method not in LIBRARY:
        raise unknown("method", method, "is not a method of quantisation", LIBRARY)
    if importlib.util.find_spec(LIBRARY[method]) is None:
        raise invalid("method", method, f"needs {LIBRARY[method]}", with_extra(EXTRA))
    for noisy in ("torchao", "torch.utils._pytree", "bitsandbytes"):
        logging.getLogger(noisy).setLevel(logging.ERROR)  # of every kernel that this machine has no use for, they warn


def check_group(model: nn.Module, method: str, group: int) -> None:
    """Raises ValueError if the values that share a scale do not divide the rows of every matrix.

    Of int4 torchao passes over such a matrix, of nf4 bitsandbytes fails in the forward pass on a CPU.
    """
    for name, layer in matrices(model):
        columns = layer.in_features
        if method == "nf4" and columns % NF4_BLOCK:
            problem = f"needs rows that {NF4_BLOCK} divides, and {name} has {columns} columns"
            raise invalid("method", method, problem, "use int8_weight_only")
        if method == GROUPED and (group < 1 or columns % group):
            divisors = [size for size in (128, 64, 32, 16) if columns % size == 0]
            remedy = f"use {divisors[0]}" if divisors else "use method=int8_weight_only"
            raise invalid("group", group, f"does not divide the {columns} columns of {name}", remedy)


def matrices(model: nn.Module) -> Iterator[tuple[str, nn.Linear]]:
    """The linear layers that are quantised, by name: all but the prediction of tokens."""
    output = getattr(model, "get_output_embeddings", lambda: None)()
    for name, layer in model.named_modules():
        if isinstance(layer, nn.Linear) and layer is not output:
            yield name, layer


def load(folder: Path, config: Any = None) -> Any:
    """The folder's model with its prediction head, in fp32 in evaluation mode, quantised by a library's `config` if there is one.

    Raises ValueError for a folder that holds no such model, or to quantise one that is quantised.
    """
    from transformers import AutoModelForCausalLM, AutoModelForMaskedLM

    if not (folder / "config.json").is_file():
        remedy = "give a run, or a folder that experiments.export wrote"
        raise invalid("model", str(folder), "is not a transformers folder", remedy)
    stored = read_mapping(folder / "config.json")
    if config is not None and "quantization_config" in stored:
        raise invalid("model", str(folder), "is quantised already", "give the folder that it was made of")
    masked = str((stored.get("architectures") or [""])[0]).endswith("ForMaskedLM")
    auto: Any = AutoModelForMaskedLM if masked else AutoModelForCausalLM
    options = {} if config is None else {"quantization_config": config}
    settings = {"dtype": torch.float32, "use_safetensors": True, "trust_remote_code": False, "local_files_only": True}
    try:
        model, loaded = auto.from_pretrained(folder, **settings, **options, output_loading_info=True)
    except Exception as error:  # the library has no class of its own for a damaged file
        problem = f"cannot be loaded ({str(error).strip().splitlines()[0]})"
        raise invalid("model", str(folder), problem, "give a folder that experiments.export wrote") from error
    if missing := sorted(loaded["missing_keys"]):
        problem = f"lacks weights of its prediction model ({', '.join(missing[:3])})"
        raise invalid("model", str(folder), problem, "give one that was trained as a language model")
    return model.eval()


def _library_config(method: str, group: int) -> Any:
    """The method as transformers takes it.

    Int4 is torchao's portable form, whose values take a byte each on disk: its packed forms need a GPU, or (a prototype for
    CPUs) cannot be written to safetensors.
    """
    from transformers import BitsAndBytesConfig, TorchAoConfig

    if method == "nf4":
        types = {"bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": torch.float32}
        return BitsAndBytesConfig(load_in_4bit=True, **types)
    from torchao import quantization
    from torchao.quantization.granularity import PerGroup

    if method == GROUPED:
        return TorchAoConfig(quantization.IntxWeightOnlyConfig(torch.int4, PerGroup(group)))  # type: ignore[attr-defined]
    if method == "int8_dynamic":
        return TorchAoConfig(quantization.Int8DynamicActivationInt8WeightConfig())
    return TorchAoConfig(quantization.Int8WeightOnlyConfig())
