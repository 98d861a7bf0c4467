"""The loss module over several processes, with torch's DDP or FSDP2."""

import contextlib
from collections.abc import Iterator

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ettin_core.foundation.distributed import ProcessGroup
from ettin_core.training.config import PlacementConfig
from ettin_core.training.loss_module import LossModule


def parallelize(
    loss_module: LossModule, placement: PlacementConfig, group: ProcessGroup, device: torch.device
) -> nn.Module:
    """The loss module, on its device already, wrapped for the group.

    Under `fsdp` every layer is a unit whose weights are whole only while it computes; embedding, norms and head are one
    more. The master weights are fp32 in both cases; only autocast uses bf16.
    """
    if group.world_size == 1:
        return loss_module
    if placement.parallel == "ddp":
        return DistributedDataParallel(loss_module, device_ids=[device.index] if device.type == "cuda" else None)
    from torch.distributed.device_mesh import init_device_mesh  # a second to import, for divided weights only
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(device.type, (group.world_size,))
    for layer in loss_module.model.layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(loss_module, mesh=mesh, reshard_after_forward=False)
    return loss_module


@contextlib.contextmanager
def defer_gradient_sync(parallel_model: nn.Module, defer: bool) -> Iterator[None]:
    """Leave out the exchange of gradients if `defer`: for all but the last micro-batch of a step."""
    if isinstance(parallel_model, DistributedDataParallel) and defer:
        with parallel_model.no_sync():
            yield
    elif (
        exchange := getattr(parallel_model, "set_requires_gradient_sync", None)
    ) is not None:  # FSDP2 adds it to a module
        exchange(not defer)
        yield
    else:
        yield
