"""Putting a learner on its device and dividing it over processes with torch's own DDP."""

import contextlib
from collections.abc import Iterator

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ettin_core.foundation.distributed import ProcessGroup
from ettin_core.training.learner import Learner
from ettin_core.training.run import PlacementConfig


def place(learner: Learner, placement: PlacementConfig, group: ProcessGroup, device: torch.device) -> nn.Module:
    """The learner on its device, wrapped for the group."""
    torch.set_num_threads(placement.threads)
    learner.to(device)
    if group.world_size == 1:
        return learner
    return DistributedDataParallel(learner, device_ids=[device.index] if device.type == "cuda" else None)


@contextlib.contextmanager
def gradients_stay_local(wrapped: nn.Module, stay: bool) -> Iterator[None]:
    """Leave out the exchange of gradients for all but the last part of an accumulated step."""
    if isinstance(wrapped, DistributedDataParallel) and stay:
        with wrapped.no_sync():
            yield
    else:
        yield
