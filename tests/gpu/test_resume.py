"""On CUDA too, an interrupted run ends where an undisturbed one does."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ettin_core.data.corpus import Corpus
from tests.runs import PLACEMENT, final_state, tiny_run, train_tiny

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA: its kernels")]


@pytest.fixture
def deterministic(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Kernels that sum in a fixed order, where there are such."""
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.usefixtures("deterministic")
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize(("member", "precision", "stop"), [("encoder", "bf16", 5), ("decoder", "fp32", 14)])
def test_stopped_and_continued_equals_undisturbed(
    member: str, precision: str, stop: int, compiled: bool, device: torch.device, corpus: Corpus, tmp_path: Path
) -> None:
    """Bitwise, dropout included: weights, optimiser, books and records."""
    run = replace(tiny_run(corpus, member), precision=precision)
    run = replace(run, model=replace(run.model, attention_output_dropout=0.1))
    placement = replace(PLACEMENT, device=device.type, compile=compiled, micro_rows=4)
    straight = train_tiny(run, tmp_path / "straight", corpus, placement=placement)
    assert train_tiny(run, tmp_path / "resumed", corpus, stop, placement).complete is False
    resumed = train_tiny(run, tmp_path / "resumed", corpus, placement=placement)
    ours, theirs = final_state(resumed), final_state(straight)
    assert [part for part in ours if ours[part] != theirs[part]] == []
