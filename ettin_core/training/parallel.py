"""The loss module over several processes, with torch's DDP or FSDP2."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ettin_core.foundation.distributed import ProcessGroup
from ettin_core.training.config import PlacementConfig
from ettin_core.training.loss_module import LossModule


def parallelize(
    loss_module: LossModule,
    placement: PlacementConfig,
    group: ProcessGroup,
    device: torch.device,
    precision: str = "fp32",
) -> nn.Module:
    """The loss module, on its device already, wrapped for the group.

    Under `fsdp` attention and MLP of every layer are units whose weights are whole only while they compute; embedding, norms
    and head are one more. The master weights are fp32 in both cases. In bf16 the processes exchange the units' matrices in
    bf16, to which autocast would round them anyway. Everything else, and sums of gradients, stays in fp32.
    """
    if group.world_size == 1:
        return loss_module
    if placement.parallel == "ddp":
        return DistributedDataParallel(loss_module, device_ids=[device.index] if device.type == "cuda" else None)
    from torch.distributed.device_mesh import init_device_mesh  # a second to import, for divided weights only
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    mesh = init_device_mesh(device.type, (group.world_size,))
    dtype = torch.bfloat16 if precision == "bf16" else None
    policy = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32, cast_forward_inputs=False)
    for unit in _units(loss_module):
        fully_shard(unit, mesh=mesh, mp_policy=policy)
    fully_shard(loss_module, mesh=mesh, reshard_after_forward=False)
    return loss_module


def _units(loss_module: Any) -> list[Any]:
    """The modules that hold a layer's matrices."""
    return [unit for layer in loss_module.model.layers for unit in (layer.attention, layer.mlp)]


@contextlib.contextmanager
def defer_gradient_sync(parallel_model: nn.Module, defer: bool) -> Iterator[None]:
    """Leave out the exchange of gradients if `defer`: for all but the last micro-batch of a step.

    The weights do not change in between, so FSDP keeps them whole from one micro-batch to the next.
    """
    if isinstance(parallel_model, DistributedDataParallel) and defer:
        with parallel_model.no_sync():
            yield
    elif hasattr(parallel_model, "set_requires_gradient_sync"):  # FSDP2 adds it to a module
        sharded: Any = parallel_model
        sharded.set_requires_gradient_sync(not defer)
        sharded.set_reshard_after_backward(not defer)
        for unit in _units(sharded):
            unit.set_reshard_after_forward(not defer)
        yield
    else:
        yield
