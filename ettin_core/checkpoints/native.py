"""Exact training state on disk. A checkpoint is a folder that is complete or absent, and every byte of it is checked.

checkpoints/<name>/ holds model.safetensors, optimizer.safetensors, state.json and index.json; the index names each file's
sha256, and its own, and is part of the atomic rename. A damaged checkpoint is refused by name and the one before it is used.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from ettin_core.foundation.errors import UserError, invalid
from ettin_core.foundation.storage import (
    canonical_json,
    folder_under_construction,
    hash_file,
    hash_text,
    read_json,
    write_json,
)

FORMAT = 1
FILES = ("model.safetensors", "optimizer.safetensors", "state.json")


class AnotherRunError(UserError):
    """A checkpoint that is whole but belongs to another run."""


@dataclass(frozen=True)
class Checkpoint:
    """A loaded checkpoint: tensors on the CPU, optimiser state by parameter name, and the plain state."""

    name: str
    model: dict[str, torch.Tensor]
    optimizer: dict[str, torch.Tensor]
    state: dict[str, Any]


def save(
    folder: Path,
    name: str,
    model: dict[str, torch.Tensor],
    optimizer: dict[str, torch.Tensor],
    state: dict[str, Any],
    identity: str,
) -> Path:
    """Write checkpoint `name` under `folder`. `identity` is the run it belongs to; `state` must hold `global_step`."""
    target = folder / name
    with folder_under_construction(target) as building:
        save_file(_writable(model), building / "model.safetensors")
        save_file(_writable(optimizer), building / "optimizer.safetensors")
        write_json(building / "state.json", state)
        hashes = {file: hash_file(building / file) for file in FILES}
        index = {"format": FORMAT, "identity": identity, "global_step": state["global_step"], "files": hashes}
        write_json(building / "index.json", index | {"self": hash_text(canonical_json(index))})
    return target


def check(folder: Path, identity: str | None = None) -> dict[str, Any]:
    """The index of a checkpoint whose every file is whole. Raises ValueError naming what is damaged."""
    index_file = folder / "index.json"
    if not index_file.is_file():
        raise invalid("checkpoint", str(folder), "has no index.json", "use another checkpoint of the run")
    index = read_json(index_file)
    if index.pop("self", None) != hash_text(canonical_json(index)):
        raise invalid(
            "checkpoint", str(index_file), "is damaged (its hash differs)", "use another checkpoint of the run"
        )
    if index["format"] != FORMAT:
        raise invalid("checkpoint", str(folder), f"has format {index['format']}", f"use one of format {FORMAT}")
    if identity is not None and index.get("identity") != identity:
        raise AnotherRunError(
            f"checkpoint={str(folder)!r} belongs to {index.get('identity')}, not to {identity}; "
            "resume it with its own configuration."
        )
    for file, expected in index["files"].items():
        path = folder / file
        if not path.is_file():
            raise invalid("checkpoint", str(path), "is missing", "use another checkpoint of the run")
        if hash_file(path) != expected:
            raise invalid("checkpoint", str(path), "is damaged (its hash differs)", "use another checkpoint of the run")
    return index


def load(folder: Path, identity: str | None = None) -> Checkpoint:
    """Load a checkpoint after checking it whole."""
    check(folder, identity)
    return Checkpoint(
        folder.name,
        load_file(folder / "model.safetensors"),
        load_file(folder / "optimizer.safetensors"),
        read_json(folder / "state.json"),
    )


def ordered(folder: Path, report: Callable[[str], None] = lambda message: None) -> list[Path]:
    """Checkpoints of a run from first to last step; a folder without a readable index is reported and left out."""
    found = []
    for path in folder.glob("[!.]*"):
        try:
            found.append((int(read_json(path / "index.json")["global_step"]), path))
        except (OSError, ValueError, KeyError, TypeError) as error:
            report(f"checkpoint {path} has no readable index.json ({type(error).__name__}); it is refused.")
    return [path for _, path in sorted(found)]


def latest(folder: Path, identity: str, report: Callable[[str], None]) -> Checkpoint | None:
    """The last whole checkpoint. Damaged ones are reported and passed over; another run's checkpoint is an error."""
    for path in reversed(ordered(folder, report)):
        try:
            return load(path, identity)
        except AnotherRunError:
            raise
        except ValueError as error:
            report(f"{error} Trying the checkpoint before it.")
    return None


def hash_tensors(tensors: dict[str, torch.Tensor]) -> str:
    """sha256 over names, shapes and bytes, in name order: equal iff the weights are bitwise equal."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name}|{tuple(tensor.shape)}|{tensor.dtype}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def optimizer_tensors(optimizer: torch.optim.Optimizer, model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Optimiser state as `<parameter name>/<slot>` -> tensor."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {
        f"{names[id(parameter)]}/{slot}": value
        for parameter, slots in optimizer.state.items()
        for slot, value in slots.items()
    }


def restore_optimizer(
    optimizer: torch.optim.Optimizer,
    model: torch.nn.Module,
    tensors: dict[str, torch.Tensor],
    like: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] = lambda value, parameter: value.to(parameter.device),
) -> None:
    """Put back what `optimizer_tensors` gave; `like(value, parameter)` puts a moment where its parameter lies."""
    parameters = dict(model.named_parameters())
    for key, value in tensors.items():
        name, slot = key.rsplit("/", 1)
        parameter = parameters[name]
        optimizer.state[parameter][slot] = value if value.ndim == 0 else like(value, parameter)


def _writable(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
