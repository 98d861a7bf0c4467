"""The process group. One process is world size one: no caller asks whether the run is distributed."""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeGuard

import torch
import torch.distributed as dist

from ettin_core.foundation.errors import invalid

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor

GRACE_SECONDS = 3.0
BACKENDS = "cpu:gloo,cuda:nccl"  # a tensor's device chooses: numbers of the host do not pass through the GPU
GROUP_VARIABLES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True)
class ProcessGroup:
    """This process's place: rank and world size, and the collectives the project needs."""

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and prints messages."""
        return self.rank == 0

    def sum(self, value: torch.Tensor) -> torch.Tensor:
        """Sum of `value` over all processes."""
        if self.world_size > 1:
            dist.all_reduce(value)
        return value

    def sum_integers(self, values: Sequence[int]) -> list[int]:
        """Sums of integers over all processes, from host to host: nobody waits for a GPU."""
        if self.world_size == 1:
            return list(values)
        return self.sum(torch.tensor(values, dtype=torch.int64)).tolist()

    def share(self, value: Any) -> Any:
        """The main process's value, on every process."""
        if self.world_size == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values)
        return values[0]

    def gather(self, value: Any) -> list[Any]:
        """Every process's value by rank, on every process."""
        if self.world_size == 1:
            return [value]
        values = [None] * self.world_size
        dist.all_gather_object(values, value)
        return values

    def barrier(self) -> None:
        """Wait until every process is here."""
        if self.world_size > 1:
            dist.barrier()


def join(backend: str | None = None, stall_seconds: float = 0.0) -> ProcessGroup:
    """Join the group that torchrun describes in the environment, or be alone.

    A collective that waits for another process longer than `stall_seconds` plus GRACE_SECONDS raises RuntimeError (gloo) or
    ends this process (NCCL); the grace lets the training loop's watchdog report first. 0: torch's default.
    Raises ValueError if the description is incomplete.
    """
    if "RANK" not in os.environ:
        return ProcessGroup()
    _check_environment()
    if not dist.is_initialized():
        timeout = timedelta(seconds=stall_seconds + GRACE_SECONDS) if stall_seconds else None
        dist.init_process_group(backend or (BACKENDS if torch.cuda.is_available() else "gloo"), timeout=timeout)
    return ProcessGroup(dist.get_rank(), dist.get_world_size(), int(os.environ.get("LOCAL_RANK", 0)))


def _check_environment() -> None:
    """Raises ValueError if a variable of the group is missing or invalid, as when one is left over from another run."""
    remedy = "unset RANK to train in one process, or start with torchrun, which sets all of them"
    for name in GROUP_VARIABLES:
        value = os.environ.get(name)
        if not value:
            raise invalid(name, value, f"is missing beside RANK={os.environ['RANK']}", remedy)
        if name != "MASTER_ADDR" and not value.isdecimal():
            raise invalid(name, value, "is not a number", remedy)
    rank, world_size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    if rank >= world_size:
        raise invalid("RANK", rank, f"is not below WORLD_SIZE={world_size}", remedy)
    if not 0 <= int(os.environ["MASTER_PORT"]) < 2**16:
        raise invalid("MASTER_PORT", os.environ["MASTER_PORT"], "is not a port (0 to 65535)", remedy)


def leave() -> None:
    """Leave the group, if there is one."""
    if dist.is_initialized():
        dist.destroy_process_group()


def is_divided(tensor: torch.Tensor) -> TypeGuard["DTensor"]:
    """Whether every process holds only a part of a tensor.

    None is while torch's module of such tensors is not imported, and importing it takes a second.
    """
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(tensor, module.DTensor)


def full_tensor(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor in full; every process must ask for it."""
    return tensor.full_tensor() if is_divided(tensor) else tensor


def local_part(tensor: torch.Tensor) -> torch.Tensor:
    """This process's part of a tensor, sharing its memory: all of it unless it is divided."""
    return tensor.to_local() if is_divided(tensor) else tensor


def sum_of_parts(value: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Sum of `value`, computed from parts, over the processes that hold the parts of tensors like `like`."""
    if is_divided(like):
        dist.all_reduce(value, group=like.device_mesh.get_group())
    return value


def choose_device(name: str, group: ProcessGroup) -> torch.device:
    """The device of this process; `auto` takes its GPU where there is one. Raises ValueError for an absent device."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda":
        if not torch.cuda.is_available():
            raise invalid("device", name, "is not available here", "use cpu or auto")
        torch.cuda.set_device(group.local_rank)
        return torch.device("cuda", group.local_rank)
    if name != "cpu":
        raise invalid("device", name, "is not a device", "use auto, cpu or cuda")
    return torch.device("cpu")
