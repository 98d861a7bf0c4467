"""Losses at a phase boundary: the last setting is where training goes on, the first where the phase before would have."""

from dataclasses import replace
from pathlib import Path

import pytest

from ettin_core.data.corpus import Corpus
from ettin_core.foundation.errors import UserError
from experiments.boundaries import boundaries, describe
from tests.runs import PLACEMENT, tiny_run, train_tiny


@pytest.mark.parametrize("member", ["encoder", "decoder"])
def test_training_goes_on_from_the_last_setting(member: str, corpus: Corpus, tmp_path: Path) -> None:
    """With every step logged, the first loss of a phase is the loss of the weights before it on that very batch."""
    run = tiny_run(corpus, member)
    folder = train_tiny(run, tmp_path, corpus, placement=replace(PLACEMENT, log_every=1))
    (boundary,) = boundaries(folder, run, corpus, tokens=8 * 80, placement=PLACEMENT)
    names = ["as before", "+ context", "+ rotary bases"] + (["+ mask rate"] if member == "encoder" else [])
    assert list(boundary.settings) == names
    assert boundary.unexplained[0] == pytest.approx(0, abs=1e-5)
    losses = [loss for loss, _ in boundary.settings.values()]
    assert boundary.explained == losses[-1] - losses[0] and len(set(losses)) == len(losses)
    assert "beyond it" in describe(boundary)


def test_the_first_setting_is_the_phase_going_on(corpus: Corpus, tmp_path: Path) -> None:
    """A run whose first phase is longer and at a constant rate of zero: its next batch has the printed loss."""
    run = tiny_run(corpus, "decoder")
    still = {
        name: replace(phase, warmup_share=1.0, learning_rate_factor=1e-9) for name, phase in run.recipe.phases.items()
    }
    still["decay"] = replace(still["decay"], shape="warmup_stable_decay")
    short = replace(run, recipe=replace(run.recipe, phases=still))
    folder = train_tiny(short, tmp_path, corpus, placement=replace(PLACEMENT, log_every=1))
    (boundary,) = boundaries(folder, short, corpus, tokens=8 * 48, placement=PLACEMENT)
    phases = {"pretrain": replace(still["pretrain"], share=1.0)}
    longer = replace(run, recipe=replace(run.recipe, tokens=13 * 8 * 48, phases=phases))
    rows = train_tiny(longer, tmp_path, corpus, placement=replace(PLACEMENT, log_every=1)).training()
    assert boundary.settings["as before"][0] == pytest.approx(rows[12].loss, abs=1e-5)


def test_a_run_before_its_first_boundary(corpus: Corpus, tmp_path: Path) -> None:
    run = tiny_run(corpus)
    folder = train_tiny(run, tmp_path, corpus, stop_after=5)
    with pytest.raises(UserError, match="has passed no phase boundary"):
        list(boundaries(folder, run, corpus, 100, PLACEMENT))
