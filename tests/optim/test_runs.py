"""Every update rule trains a run, resumes exactly, and puts its whole state into a checkpoint."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ettin_core.checkpoints import native
from ettin_core.data.corpus import Corpus
from ettin_core.optim.build import build_optimizer
from tests.optim.models import CONFIGS, small_model, train
from tests.runs import final_state, tiny_run, train_tiny

SLOTS = {
    "stable_adamw": {"step", "first", "second"},
    "adamw": {"step", "exp_avg", "exp_avg_sq"},
    "muon": {"momentum_buffer", "step", "exp_avg", "exp_avg_sq"},
}


@pytest.mark.parametrize("rule", SLOTS)
def test_the_state_survives_a_checkpoint_bitwise(rule: str, tmp_path: Path) -> None:
    """2 N steps equal N, a checkpoint on disk, and N by an optimiser that had none of the state."""
    straight, stopped, resumed = small_model(), small_model(), small_model()
    train(straight, build_optimizer(CONFIGS[rule], straight), 0, 14)

    before = build_optimizer(CONFIGS[rule], stopped)
    train(stopped, before, 0, 7)
    tensors = native.optimizer_tensors(before, stopped)
    names = {name for name, _ in stopped.named_parameters()}
    assert {key.rsplit("/", 1)[0] for key in tensors} == names
    assert {key.rsplit("/", 1)[1] for key in tensors} == SLOTS[rule]
    native.save(tmp_path, "step7", stopped.state_dict(), tensors, {"global_step": 7}, "run")

    checkpoint = native.load(tmp_path / "step7", "run")
    resumed.load_state_dict(checkpoint.model)
    after = build_optimizer(CONFIGS[rule], resumed)
    native.restore_optimizer(after, resumed, checkpoint.optimizer)
    again = native.optimizer_tensors(after, resumed)
    assert again.keys() == tensors.keys()
    assert all(again[key].dtype == tensor.dtype and torch.equal(again[key], tensor) for key, tensor in tensors.items())
    train(resumed, after, 7, 14)
    assert native.hash_tensors(resumed.state_dict()) == native.hash_tensors(straight.state_dict())
    assert native.hash_tensors(native.optimizer_tensors(after, resumed)) != native.hash_tensors(tensors)


@pytest.mark.parametrize("rule", CONFIGS)
def test_a_run_learns_and_resumes_exactly(rule: str, corpus: Corpus, tmp_path: Path) -> None:
    run = replace(tiny_run(corpus), optimizer=CONFIGS[rule])
    straight = train_tiny(run, tmp_path / "straight", corpus)
    losses = [row.loss for row in straight.training()]
    assert all(math.isfinite(loss) for loss in losses) and losses[-1] < losses[0] - 0.05
    train_tiny(run, tmp_path / "resumed", corpus, stop_after=14)
    assert final_state(train_tiny(run, tmp_path / "resumed", corpus)) == final_state(straight)


def test_every_setting_reaches_the_weights(corpus: Corpus, tmp_path: Path) -> None:
    """No setting is read and then ignored: each gives other weights in the run's first steps."""
    muon = CONFIGS["muon"]
    assert muon.muon is not None
    variants = [
        muon,
        replace(muon, clip_norm=0.01),
        replace(muon, qk_clip=0.05),
        replace(muon, betas=(0.5, 0.98)),
        replace(muon, epsilon=1e-3),
        replace(muon, weight_decay=0.3),
        replace(muon, muon=replace(muon.muon, momentum=0.5)),
        replace(muon, muon=replace(muon.muon, newton_schulz_steps=3)),
        replace(muon, muon=replace(muon.muon, adamw_rate=0.5)),
    ]
    hashes = set()
    for optimizer in variants:
        run = replace(tiny_run(corpus), optimizer=optimizer)
        folder = train_tiny(run, tmp_path, corpus, stop_after=4)
        hashes.add(native.hash_tensors(native.load(folder.checkpoints / "step4").model))
    assert len(hashes) == len(variants)


def test_the_recorded_norm_is_that_before_clipping(corpus: Corpus, tmp_path: Path) -> None:
    run = tiny_run(corpus)
    first, clipped = (
        train_tiny(replace(run, optimizer=replace(run.optimizer, clip_norm=limit)), tmp_path, corpus, stop_after=3)
        for limit in (None, 1e-3)
    )
    for folder in (first, clipped):
        norm = folder.training()[0].gradient_norm
        assert norm is not None and norm > 0.05
