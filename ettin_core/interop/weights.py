"""The safetensors of a transformers folder, possibly a stranger's: a damaged or hostile file is an error of one line."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

from ettin_core.foundation.errors import invalid
from ettin_core.foundation.storage import read_mapping

WEIGHTS_FILE, SHARDS_FILE = "model.safetensors", "model.safetensors.index.json"
_AGAIN = "fetch the folder again"


def weight_files(folder: Path) -> list[Path]:
    """The weights file, or the shards that an index names; empty where there is neither.

    Raises ValueError if the index is damaged, or names a file that is not in the folder.
    """
    if (folder / WEIGHTS_FILE).is_file():
        return [folder / WEIGHTS_FILE]
    index = folder / SHARDS_FILE
    if not index.is_file():
        return []
    names = set(read_mapping(index, _AGAIN, weight_map=dict)["weight_map"].values())
    strange = [name for name in names if not isinstance(name, str) or Path(name).name != name]
    absent = [name for name in names if name not in strange and not (folder / name).is_file()]
    if strange or absent:
        raise invalid("file", str(index), f"names {(strange or absent)[0]!r:.80}, which is not in the folder", _AGAIN)
    return [folder / name for name in sorted(names)]


def read_weights(folder: Path) -> dict[str, torch.Tensor]:
    """The tensors of a folder by name, on the CPU. Raises ValueError if a file is missing or damaged."""
    files = weight_files(folder)
    if not files:
        pickled = any(folder.glob("*.bin")) or any(folder.glob("*.pt"))
        problem = "holds only pickled weights, which can run code" if pickled else f"holds no {WEIGHTS_FILE}"
        raise invalid("model", str(folder), problem, "save it with save_pretrained, which writes safetensors")
    tensors: dict[str, torch.Tensor] = {}
    for path in files:
        with _whole(path):
            tensors |= load_file(path)
    return tensors


def tensor_names(folder: Path) -> set[str]:
    """The names of a folder's tensors. Raises ValueError for a damaged file."""
    names: set[str] = set()
    for path in weight_files(folder):
        with _whole(path), safe_open(path, "pt") as file:
            names.update(file.keys())
    return names


@contextmanager
def _whole(path: Path) -> Iterator[None]:
    try:
        yield
    except SafetensorError as error:
        reason = " ".join(str(error).split())[:200]
        raise invalid("file", str(path), f"is not a valid safetensors file ({reason})", _AGAIN) from error
