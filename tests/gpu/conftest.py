"""What the checks on CUDA share: the device, and a compiler that begins anew and never gives up silently."""

from collections.abc import Iterator

import pytest
import torch

from ettin_core.model.attention_backends import flex


@pytest.fixture
def device() -> torch.device:
    """The device that is held against the CPU, or against itself."""
    return torch.device("cuda", 0)


@pytest.fixture(autouse=True)
def _compiler() -> Iterator[None]:
    """Forget what the test before compiled; and fail at the recompilation limit, where flex would go on unfused."""
    torch.compiler.reset()
    flex.compiled_flex.cache_clear()
    with torch._dynamo.config.patch(fail_on_recompile_limit_hit=True):
        yield
