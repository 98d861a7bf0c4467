"""QK-clip is the same however a step is cut into parts and processes, compiled, sharded, or left out."""

import pytest
import torch
import torch.distributed as dist
from torch.distributed.fsdp import fully_shard

from ettin_core.foundation.distributed import ProcessGroup
from ettin_core.model.transformer import Transformer
from ettin_core.optim.build import build_update
from ettin_core.optim.config import OptimizerConfig
from tests.optim.models import SHAPE, TAU, VIEW, clipping, loud_model, rows, small_model


def measured_bounds(parts: int, only: int | None = None) -> torch.Tensor:
    """Bounds of eight rows given in parts, or of one of these parts."""
    model = loud_model()
    update, clip = clipping(model)
    update.begin()
    for number, part in enumerate(zip(*(tensor.chunk(parts) for tensor in rows(8)), strict=True)):
        if only in (None, number):
            model(*part, VIEW)
    return clip.bounds


@pytest.mark.parametrize("parts", [2, 8])
def test_it_does_not_depend_on_micro_batches(parts: int) -> None:
    torch.testing.assert_close(measured_bounds(parts), measured_bounds(1), rtol=1e-5, atol=0.0)


class Pair(ProcessGroup):
    """Rank 1 of two processes, of which the other measured `others`."""

    others: torch.Tensor

    def sum(self, value: torch.Tensor) -> torch.Tensor:
        return value + torch.stack([self.others, torch.zeros_like(self.others)])


def test_it_does_not_depend_on_the_number_of_processes() -> None:
    group = Pair(1, 2)
    object.__setattr__(group, "others", measured_bounds(2, only=0))
    divided, whole = loud_model(), loud_model()
    for model, members, batch in (
        (divided, group, tuple(tensor[4:] for tensor in rows(8))),
        (whole, ProcessGroup(), rows(8)),
    ):
        update, _ = clipping(model)
        update.begin()
        model(*batch, VIEW)
        update.apply(1.0, 0.0, members)
    for now, then in zip(divided.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(now, then, rtol=1e-5, atol=0.0)


def test_a_step_that_was_left_out_is_forgotten() -> None:
    model, start = small_model(), small_model()
    update, _ = clipping(model, tau=50.0)
    update.begin()
    with torch.no_grad():
        model.layers[0].attention.query_key_value(torch.full((1, 2, SHAPE.hidden_size), float("nan")))  # type: ignore[union-attr, operator]
    update.begin()
    model(*rows(2), VIEW)
    update.apply(1.0, 0.0, ProcessGroup())
    assert all(torch.equal(now, then) for now, then in zip(model.parameters(), start.parameters(), strict=True))


def test_a_model_whose_attention_was_not_seen_is_refused() -> None:
    update, _ = clipping(small_model())
    update.begin()
    with pytest.raises(ValueError, match="optimizer.qk_clip=2.0 sees no attention; use placement.compile=false"):
        update.apply(1.0, 0.0, ProcessGroup())


def test_a_compiled_model_is_measured_too() -> None:
    """Compiled for evaluation before the hooks were there, as a session does; the graph stays whole."""
    model, batch = loud_model(), rows(4)
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    model.eval()
    compiled(*batch, VIEW)
    model.train()
    update, clip = clipping(model)
    update.begin()
    compiled(*batch, VIEW)
    measured = clip.bounds.clone()
    update.begin()
    model(*batch, VIEW)
    torch.testing.assert_close(measured, clip.bounds)


def test_weights_divided_over_processes_are_scaled_alike() -> None:
    """Under FSDP2, with the gradient clipped too."""
    batch = rows(4)

    def stepped(model: Transformer) -> Transformer:
        update = build_update(OptimizerConfig("adamw", 1e-3, 0.0, clip_norm=1e-3, qk_clip=TAU), model)
        update.begin()
        model(*batch, VIEW).square().sum().backward()
        update.apply(1.0, 1e-3, ProcessGroup())
        return model

    whole = stepped(loud_model())
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        model = loud_model()
        fully_shard(model)
        divided = {name: parameter.full_tensor() for name, parameter in stepped(model).named_parameters()}  # type: ignore[attr-defined]
        for name, parameter in whole.named_parameters():
            torch.testing.assert_close(divided[name], parameter, rtol=1e-5, atol=1e-7)
    finally:
        dist.destroy_process_group()
