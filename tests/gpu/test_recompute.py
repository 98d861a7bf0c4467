"""Recomputed activations on CUDA change no gradient, dropout included, and save memory."""

from dataclasses import replace

import pytest
import torch

from ettin_core.training.loss_module import LossModule
from tests.gpu.cases import SHAPE, VIEWS, assert_near, build_model, distance, outcome, rows_of

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA: its own dropout")]


def learner_on(device: torch.device, recompute: bool, dropout: float = 0.1) -> LossModule:
    """A learner that keeps its activations, or not."""
    learner = LossModule(build_model(shape=replace(SHAPE, attention_output_dropout=dropout))).to(device)
    learner.model.recompute = recompute
    return learner


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("member", VIEWS)
def test_recomputed_gradients_are_those_of_kept_activations(member: str, precision: str, device: torch.device) -> None:
    """The same kernels on the same numbers, in which dropout draws the same mask twice."""
    outcomes = []
    for recompute in (False, True):
        torch.manual_seed(1)
        outcomes.append(outcome(learner_on(device, recompute), rows_of(200), VIEWS[member], device, precision))
    assert_near(outcomes[1], outcomes[0], 1e-6)
    without = outcome(learner_on(device, False, 0.0), rows_of(200), VIEWS[member], device, precision)
    assert distance(without.logits, outcomes[0].logits) > 1e-2, "dropout was really used"


def test_recomputing_saves_memory(device: torch.device) -> None:
    """Four layers' activations of 50 rows are most of what a step holds."""
    peaks = []
    for recompute in (False, True):
        learner = learner_on(device, recompute, 0.0)
        tokens, documents, positions = (torch.cat([part] * 10) for part in rows_of(200).on(device)[:3])
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        learner.model(tokens, documents, positions, VIEWS["encoder"]).sum().backward()
        peaks.append(torch.cuda.max_memory_allocated(device) - before)
    assert peaks[1] < 0.7 * peaks[0], peaks
