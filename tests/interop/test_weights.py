"""Folders of strangers: damaged or hostile safetensors, indices and configurations are an error of one line."""

import json
import struct
from pathlib import Path
from typing import Any

import pytest
from transformers import ModernBertConfig

from ettin_core.foundation.errors import UserError
from ettin_core.interop.huggingface_config import read_config
from ettin_core.interop.weights import read_weights, tensor_names, weight_files

TENSOR = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}


def safetensors(header: Any, size: int | None = None, body: bytes = b"\0" * 4) -> bytes:
    """A file with this header, which states another size if it is given."""
    spelled = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(spelled) if size is None else size) + spelled + body


FILES = {
    "empty": b"",
    "nul": b"\0" * 64,
    "a header of 2**63 bytes": safetensors(b"{}", 2**63),
    "a header beyond the file": safetensors(b"{}", 2**20),
    "no JSON": safetensors(b"{nope"),
    "no UTF-8": safetensors(b"\xff\xfe{}"),
    "deep": safetensors(b"[" * 100_000),
    "overlapping": safetensors({"a": TENSOR, "b": TENSOR | {"data_offsets": [2, 6]}}, body=b"\0" * 8),
    "unknown type": safetensors({"a": TENSOR | {"dtype": "F99"}}),
    "beyond the file": safetensors({"a": TENSOR | {"shape": [10**12], "data_offsets": [0, 4 * 10**12]}}),
    "negative": safetensors({"a": TENSOR | {"data_offsets": [-4, 4]}}),
    "overflowing": safetensors({"a": TENSOR | {"shape": [2**62, 8]}}),
}


@pytest.mark.parametrize("content", FILES.values(), ids=FILES)
def test_a_file_that_is_no_safetensors_is_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(content)
    for read in (read_weights, tensor_names):
        with pytest.raises(UserError, match=r"model\.safetensors' is not a valid safetensors file") as caught:
            read(tmp_path)
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 500


@pytest.mark.parametrize(
    "index",
    [
        [],
        {"weight_map": [1]},
        {"weight_map": {"a": "../x"}},
        {"weight_map": {"a": "/etc/passwd"}},
        {"weight_map": {"a": 1}},
    ],
)
def test_an_index_leads_nowhere_but_into_its_folder(index: Any, tmp_path: Path) -> None:
    (tmp_path.parent / "x").write_bytes(safetensors({"a": TENSOR}))
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(UserError, match=r"index\.json"):
        weight_files(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"num_hidden_layers": 10**10, "layer_types": None},
        {"num_hidden_layers": -1, "layer_types": None},
        {"num_hidden_layers": "many"},
        {"num_attention_heads": 0},
        {"vocab_size": [1]},
        {"hidden_size": 10**12},
        {"layer_types": "full"},
        {"architectures": 5},
        {"rope_parameters": 7},
    ],
)
def test_a_configuration_of_nonsense_is_refused_in_one_line(change: dict[str, Any], tmp_path: Path) -> None:
    sizes = {
        "vocab_size": 64,
        "hidden_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 48,
    }
    values = ModernBertConfig(**sizes, architectures=["ModernBertForMaskedLM"]).to_dict()  # type: ignore[arg-type]
    (tmp_path / "config.json").write_text(json.dumps(values | change))
    with pytest.raises(UserError) as caught:
        read_config(tmp_path)
    assert "\n" not in str(caught.value)
