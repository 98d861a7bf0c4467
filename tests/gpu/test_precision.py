"""bf16 on CUDA is fp32 but for rounding: loss, logits and gradients of one step, and the losses of a run."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ettin_core.data.corpus import Corpus
from ettin_core.training.loss_module import LossModule
from tests.gpu.cases import VIEWS, assert_near, build_model, outcome, rows_of
from tests.runs import PLACEMENT, tiny_run, train_tiny

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA: its precisions")]

ROUNDING = {"fp32": 1e-4, "bf16": 5e-2}  # of a gradient through four layers; bf16 keeps 8 bits, 4e-3
DRIFT = 0.02  # nats that a step's loss may drift from fp32's over a tiny run


@pytest.mark.parametrize("precision", ROUNDING)
@pytest.mark.parametrize("member", VIEWS)
def test_one_step_is_that_of_the_cpu_in_fp32(member: str, precision: str, device: torch.device) -> None:
    rows, cpu = rows_of(200), torch.device("cpu")
    expected = outcome(LossModule(build_model("reference")), rows, VIEWS[member], cpu)
    found = outcome(LossModule(build_model()).to(device), rows, VIEWS[member], device, precision)
    assert_near(found, expected, ROUNDING[precision])


@pytest.mark.parametrize("member", VIEWS)
def test_a_run_in_bf16_follows_the_one_in_fp32(
    member: str, device: torch.device, corpus: Corpus, tmp_path: Path
) -> None:
    placement = replace(PLACEMENT, device=device.type, log_every=1)
    rows = {}
    for precision in ("fp32", "bf16"):
        run = replace(tiny_run(corpus, member), precision=precision)
        rows[precision] = train_tiny(run, tmp_path, corpus, placement=placement).training()
    assert len(rows["fp32"]) == 17 and rows["fp32"][-1].loss < rows["fp32"][0].loss - 0.3
    for exact, rounded in zip(rows["fp32"], rows["bf16"], strict=True):
        assert (exact.data_hash, exact.loss_tokens) == (rounded.data_hash, rounded.loss_tokens)
        assert abs(exact.loss - rounded.loss) < DRIFT
    assert [row.loss for row in rows["bf16"]] != [row.loss for row in rows["fp32"]], "bf16 was really used"


@pytest.mark.parametrize("member", VIEWS)
def test_a_run_in_fp32_is_that_of_the_cpu(member: str, device: torch.device, corpus: Corpus, tmp_path: Path) -> None:
    run = tiny_run(corpus, member)
    there = train_tiny(run, tmp_path / "there", corpus, placement=replace(PLACEMENT, device=device.type))
    here = train_tiny(run, tmp_path / "here", corpus)
    assert there.summary()["initial_weights"] == here.summary()["initial_weights"]
    for one, other in zip(there.training(), here.training(), strict=True):
        assert (one.data_hash, one.loss_tokens) == (other.data_hash, other.loss_tokens)
        assert one.loss == pytest.approx(other.loss, rel=1e-4)
        assert one.gradient_norm == pytest.approx(other.gradient_norm, rel=1e-3)
