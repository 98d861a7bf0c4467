"""A state divided over processes, on disk: torch's distributed checkpoint (DCP) with one safetensors file per process.

No process ever holds the whole, and nothing is pickled: the header of a file says where its pieces belong. The reader may be
divided in another way or not at all. A file of whole tensors is the special case of one piece each, so `read_into` reads it
too.
"""

import contextlib
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.metadata import TensorStorageMetadata

from ettin_core.foundation.distributed import ProcessGroup
from ettin_core.foundation.storage import hash_file


def write(folder: Path, tensors: dict[str, torch.Tensor], group: ProcessGroup) -> dict[str, str]:
    """Write this process's part of every tensor; all must call it. Returns the sha256 of every process's file by name."""
    with _plainly():
        dcp.save(tensors, storage_writer=dcp.HuggingFaceStorageWriter(str(folder), save_distributed=True))
    local_hashes = {file.name: hash_file(file) for file in folder.glob(f"shard-{group.rank + 1:05d}-*.safetensors")}
    return {name: value for part in group.gather(local_hashes) for name, value in part.items()}


def read_into(folder: Path, tensors: dict[str, torch.Tensor]) -> None:
    """Fill tensors, divided or not, in place; every process of the group must call it, and reads only its parts.

    Raises RuntimeError for a name and ValueError for a shape that the files do not have.
    """
    with _plainly():
        dcp.load(tensors, storage_reader=dcp.HuggingFaceStorageReader(str(folder)))


def read(folder: Path, wanted: Callable[[str], bool]) -> dict[str, torch.Tensor]:
    """The tensors whose names are wanted, whole and on the CPU; for a process alone."""
    tensors = {name: torch.empty(size, dtype=dtype) for name, (size, dtype) in contents(folder).items() if wanted(name)}
    with _plainly():
        dcp.load(tensors, storage_reader=dcp.HuggingFaceStorageReader(str(folder)), no_dist=True)
    return tensors


def contents(folder: Path) -> dict[str, tuple[torch.Size, torch.dtype]]:
    """Shape of the whole and type of every tensor in the files of a folder."""
    stored = dcp.HuggingFaceStorageReader(str(folder)).read_metadata().state_dict_metadata
    return {
        name: (tensor.size, tensor.properties.dtype)
        for name, tensor in stored.items()
        if isinstance(tensor, TensorStorageMetadata)
    }


@contextlib.contextmanager
def _plainly() -> Iterator[None]:
    """Raise the error of a process on every process, and leave out the warning that a single process is not a group.

    DCP's CheckpointException is not an Exception: clean-up would be skipped, and a full disk not recognised.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is disabled")
        try:
            yield
        except CheckpointException as error:
            cause, _ = next(iter(error.failures.values()))
            raise cause from error
