"""The compiled CUDA model computes what the eager one does, passes the leak self-test, and is refused with a fault in it."""

from collections.abc import Callable

import pytest
import torch

from ettin_core.model import attention_backends
from ettin_core.model.attention_backends import AttentionFn, flex
from ettin_core.model.config import DIRECTIONS, AttentionSpec, ModelConfig
from ettin_core.model.leak_check import LeakError, check_no_leak
from ettin_core.training.loss_module import LossModule
from tests.gpu.cases import SHAPE, VIEWS, assert_near, build_model, outcome, rows_of

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA: Triton kernels")]

ROUNDING = {"fp32": 1e-4, "bf16": 5e-2}  # compiled code rounds to bf16 less often than eager code
SHAPES = {"narrow window": SHAPE, "published window": ModelConfig(512, 128, 4, 2, 192)}
Bend = Callable[[torch.Tensor, str, int | None], tuple[torch.Tensor, str, int | None]]

FAULTS: dict[str, Bend] = {
    "window one wider": lambda documents, direction, w: (documents, direction, w and w + 1),
    "window one narrower": lambda documents, direction, w: (documents, direction, w and w - 1),
    "documents ignored": lambda documents, direction, w: (documents.clamp(max=0), direction, w),
    "direction ignored": lambda documents, direction, w: (documents, DIRECTIONS[direction == DIRECTIONS[0]], w),
}


@pytest.mark.parametrize("recompute", [False, True], ids=["kept", "recomputed"])
@pytest.mark.parametrize("precision", ROUNDING)
@pytest.mark.parametrize("member", VIEWS)
def test_compiled_is_eager(member: str, precision: str, recompute: bool, device: torch.device) -> None:
    """On rows of two lengths, the second of which the compiler meets after it has made up its mind."""
    compiled, eager = (LossModule(build_model(), compile_model=wanted).to(device) for wanted in (True, False))
    for learner in (compiled, eager):
        learner.model.recompute = recompute
    for length in (200, 300):
        rows = rows_of(length)
        expected = outcome(eager, rows, VIEWS[member], device, precision)
        assert_near(outcome(compiled, rows, VIEWS[member], device, precision), expected, ROUNDING[precision])


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_the_compiled_model_passes_the_leak_self_test(direction: str, shape: str, device: torch.device) -> None:
    learner = LossModule(build_model(shape=SHAPES[shape]), compile_model=True).to(device)
    check_no_leak(learner.model, AttentionSpec(direction), learner.forward_model)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_a_fault_in_the_compiled_attention_is_refused(
    direction: str, fault: str, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    def faulty(
        documents: torch.Tensor, direction: str, window: int | None, prefix_mask: torch.Tensor | None
    ) -> AttentionFn:
        return flex.make_attention(*FAULTS[fault](documents, direction, window), prefix_mask)

    monkeypatch.setitem(attention_backends.BACKEND_FACTORIES, "flex", faulty)
    learner = LossModule(build_model(), compile_model=True).to(device)
    with pytest.raises(LeakError):
        check_no_leak(learner.model, AttentionSpec(direction), learner.forward_model)


@pytest.mark.parametrize("compile_model", [False, True], ids=["eager", "compiled"])
def test_a_growing_batch_stays_fused(compile_model: bool, device: torch.device) -> None:
    """Every number of rows is a new shape; past the recompilation limit flex would hold all scores of a row at once."""
    learner = LossModule(build_model(), compile_model).to(device)
    rows = rows_of(200).on(device)[:3]
    for count in range(1, 13):
        repeated = [torch.cat([part] * 3)[:count] for part in rows]
        learner.forward_model(*repeated, VIEWS["encoder"]).sum().backward()
