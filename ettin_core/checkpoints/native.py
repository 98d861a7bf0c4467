"""Exact training state on disk. A checkpoint is a folder that is complete or absent, and every byte of it is checked.

checkpoints/<name>/ holds model.safetensors, optimizer.safetensors, state.json and index.json. Where processes hold a part of
the weights each, one shard-*.safetensors per process takes the place of the first two. Either resumes on any number of
processes. A run that trains an adapter stores the merged model, which any program can read. The adapter's matrices are stored
with the optimiser's state, for resuming only. The index holds each file's sha256, and its own, and is part of the atomic
rename. A damaged checkpoint is reported by name, and the one before it is used.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from ettin_core.foundation.distributed import ProcessGroup, full_tensor, is_divided
from ettin_core.foundation.errors import UserError, invalid
from ettin_core.foundation.folders import folder_under_construction
from ettin_core.foundation.storage import canonical_json, disk_errors, hash_file, hash_text, read_mapping, write_json

WHOLE, SHARDED = 1, 2  # formats
VALUE = "value"  # the slot of a parameter that is not among the weights
FILES = ("model.safetensors", "optimizer.safetensors", "state.json")  # of the first
ALONE = ProcessGroup()


class AnotherRunError(UserError):
    """A checkpoint that is whole but belongs to another run."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint whose files are whole; they are read when needed."""

    folder: Path

    @property
    def name(self) -> str:
        """The phase's prefix and the step."""
        return self.folder.name

    @cached_property
    def state(self) -> dict[str, Any]:
        """The plain state."""
        return read_mapping(self.folder / "state.json")

    @cached_property
    def model(self) -> dict[str, torch.Tensor]:
        """The weights by name, whole and on the CPU."""
        file = self.folder / "model.safetensors"
        return load_file(file) if file.exists() else _divided().read(self.folder, lambda name: "/" not in name)

    @cached_property
    def optimizer(self) -> dict[str, torch.Tensor]:
        """The optimiser's state as `<parameter name>/<slot>` -> tensor, whole and on the CPU."""
        file = self.folder / "optimizer.safetensors"
        return load_file(file) if file.exists() else _divided().read(self.folder, lambda name: "/" in name)

    def restore(self, model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Put weights and optimiser state back, divided or not; every process of the group must call it.

        Raises KeyError for a weight that is missing or unknown.
        """
        weights, parameters = model.state_dict(), dict(model.named_parameters())
        stored = _divided().contents(self.folder)
        differing = weights.keys() ^ {name for name in stored if "/" not in name}
        if differing:
            raise KeyError(sorted(differing))
        slots = [name for name in stored if "/" in name]
        moments = {name: _empty_slot(parameters[name.rsplit("/", 1)[0]], *stored[name]) for name in slots}
        _divided().read_into(self.folder, weights | moments)
        restore_optimizer(optimizer, model, moments)

    @torch.no_grad()
    def restore_trained(self, model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Put back the trained parameters, which are stored beside their moments, and the optimiser state.

        Raises KeyError for a parameter that is missing.
        """
        stored = dict(self.optimizer)
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                parameter.copy_(stored.pop(f"{name}/{VALUE}"))
        restore_optimizer(optimizer, model, stored)


def _empty_slot(parameter: torch.Tensor, shape: torch.Size, dtype: torch.dtype) -> torch.Tensor:
    """An empty tensor for an optimiser's slot: placed and divided like its parameter, except for scalars."""
    return torch.empty_like(parameter, dtype=dtype) if shape else torch.empty((), dtype=dtype)


def save(
    folder: Path,
    name: str,
    model: dict[str, torch.Tensor],
    optimizer: dict[str, torch.Tensor],
    state: dict[str, Any],
    identity: str,
    group: ProcessGroup = ALONE,
) -> Path:
    """Write checkpoint `name` under `folder`. `identity` is the run it belongs to; `state` must hold `global_step`.

    Every process of the group must call it; the checkpoint is there when the main process has returned.
    """
    target = folder / name
    with folder_under_construction(target) if group.is_main else disk_errors(target) as local_folder:
        building: Path = group.share(local_folder)
        hashes = _write(building, model, optimizer, group)
        if group.is_main:
            write_json(building / "state.json", state)
            hashes["state.json"] = hash_file(building / "state.json")
            index = {
                "format": SHARDED if _is_divided(model) else WHOLE,
                "identity": identity,
                "global_step": state["global_step"],
                "files": hashes,
            }
            write_json(building / "index.json", index | {"self": hash_text(canonical_json(index))})
    return target


def _write(
    folder: Path, model: dict[str, torch.Tensor], optimizer: dict[str, torch.Tensor], group: ProcessGroup
) -> dict[str, str]:
    """Write the tensors; returns the sha256 of every file. Raises ValueError if processes do not share the folder."""
    if _is_divided(model):
        hashes = _divided().write(folder, model | optimizer, group)
        if group.is_main and hashes.keys() != {file.name for file in folder.iterdir()}:
            raise invalid(
                "runs_dir", str(folder.parent), "is not the same folder for all processes", "use shared storage"
            )
        return hashes
    if not group.is_main:
        return {}
    save_file(_writable(model), folder / "model.safetensors")
    save_file(_writable(optimizer), folder / "optimizer.safetensors")
    return {name: hash_file(folder / name) for name in FILES[:2]}


def check(folder: Path, identity: str | None = None) -> dict[str, Any]:
    """The index of a checkpoint, after every file was checked. Raises ValueError naming what is damaged."""
    index_file = folder / "index.json"
    if not index_file.is_file():
        raise invalid("checkpoint", str(folder), "has no index.json", "use another checkpoint of the run")
    index = read_mapping(index_file, "use another checkpoint of the run")
    if index.pop("self", None) != hash_text(canonical_json(index)):
        raise invalid(
            "checkpoint", str(index_file), "is damaged (its hash differs)", "use another checkpoint of the run"
        )
    if index["format"] not in (WHOLE, SHARDED):
        raise invalid("checkpoint", str(folder), f"has format {index['format']}", f"use one of {WHOLE} or {SHARDED}")
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
    for path in folder.glob("*.safetensors"):
        if path.name not in index["files"]:
            raise invalid("checkpoint", str(path), "is not part of it", "move that file elsewhere")
    return index


def load(folder: Path, identity: str | None = None) -> Checkpoint:
    """A checkpoint, after `check`."""
    check(folder, identity)
    return Checkpoint(folder)


def ordered(folder: Path, report: Callable[[str], None] = lambda message: None) -> list[Path]:
    """Checkpoints of a run from first to last step; a folder without a readable index is reported and left out."""
    checkpoints = []
    for path in folder.glob("[!.]*"):
        try:
            checkpoints.append((int(read_mapping(path / "index.json")["global_step"]), path))
        except (OSError, ValueError, KeyError, TypeError) as error:
            report(f"checkpoint {path} has no readable index.json ({type(error).__name__}); it is left out.")
    return [path for _, path in sorted(checkpoints)]


def latest(folder: Path, identity: str, report: Callable[[str], None]) -> Checkpoint | None:
    """The last whole checkpoint. Damaged ones are reported and skipped; another run's checkpoint is an error."""
    for path in reversed(ordered(folder, report)):
        try:
            return load(path, identity)
        except AnotherRunError:
            raise
        except ValueError as error:
            report(f"{error} Trying the checkpoint before it.")
    return None


def hash_tensors(tensors: dict[str, torch.Tensor]) -> str:
    """sha256 over names, shapes and bytes, in name order: equal iff the weights are bitwise equal.

    Divided tensors are gathered in turn, so every process must call it.
    """
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = full_tensor(tensors[name].detach()).cpu().contiguous()
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
    optimizer: torch.optim.Optimizer, model: torch.nn.Module, tensors: dict[str, torch.Tensor]
) -> None:
    """Put back what `optimizer_tensors` returned; counts of steps go where the optimiser keeps them."""
    parameters = dict(model.named_parameters())
    counts_on_device = getattr(optimizer, "_step_supports_amp_scaling", False)
    for key, value in tensors.items():
        name, slot = key.rsplit("/", 1)
        parameter = parameters[name]
        optimizer.state[parameter][slot] = value.to(parameter.device) if value.ndim or counts_on_device else value


def _is_divided(tensors: dict[str, torch.Tensor]) -> bool:
    return any(is_divided(tensor) for tensor in tensors.values())


def _divided() -> ModuleType:
    """The module that writes divided states and restores any; importing torch's part of it takes a second."""
    from ettin_core.checkpoints import sharded

    return sharded


def _writable(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
