"""A run that is trained longer is, bit for bit, the longer run trained in one go."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from ettin_core.checkpoints import native
from ettin_core.checkpoints.retention import CheckpointConfig
from ettin_core.data.corpus import Corpus
from ettin_core.foundation.errors import UserError
from ettin_core.foundation.storage import read_json
from ettin_core.objectives.config import Component, ObjectiveConfig
from ettin_core.records.folders import RunFolder
from ettin_core.training.config import RunConfig
from ettin_core.training.extension import begin, longer, same_past, shared_checkpoint, with_phase
from ettin_core.training.phases import PhaseRecipe, RecipeConfig
from tests.runs import final_state, tiny_run, train_tiny

PLATEAU = PhaseRecipe(1.0, 48, 8, "step", warmup_share=0.25, batch_warmup_share=0.25)


def short_run(corpus: Corpus, member: str = "encoder", phase: PhaseRecipe = PLATEAU) -> RunConfig:
    """A run of one phase, which keeps every second checkpoint or so."""
    checkpoint = CheckpointConfig(every_steps=3, keep_every_tokens=800)
    recipe = RecipeConfig(4608, {"pretrain": phase})
    return replace(tiny_run(corpus, member), recipe=recipe, checkpoint=checkpoint)


def extended(short: RunConfig, run: RunConfig, root: Path, corpus: Corpus) -> tuple[RunFolder, str]:
    """Train the short run, and the longer one from what they share."""
    parent = train_tiny(short, root, corpus)
    checkpoint = shared_checkpoint(parent, short, run)
    begin(RunFolder(root / run.name), run, parent, checkpoint)
    return train_tiny(run, root, corpus), checkpoint.name


@pytest.mark.parametrize("member", ["encoder", "decoder"])
def test_a_plateau_goes_on_where_it_ended(member: str, corpus: Corpus, tmp_path: Path) -> None:
    short = short_run(corpus, member)
    run = longer(short, 9600)
    folder, start = extended(short, run, tmp_path / "extended", corpus)
    assert start == f"step{short.phases[0].steps}" == "step15"  # of which every third is logged
    straight = train_tiny(run, tmp_path / "straight", corpus)
    assert final_state(folder) == final_state(straight)
    assert [row.step for row in folder.timing()] == [row.step for row in straight.timing()]
    assert {path.name for path in folder.checkpoints.iterdir()} == {
        path.name for path in straight.checkpoints.iterdir()
    }
    began = read_json(folder.path / "provenance.json")["began_as"]
    assert (began["run"], began["checkpoint"]) == (short.name, start) and run.name != short.name


def test_a_decayed_run_goes_on_before_its_decay(corpus: Corpus, tmp_path: Path) -> None:
    decays = replace(PLATEAU, decay_share=0.4)
    short = short_run(corpus, phase=decays)
    run = longer(short, 9600)
    folder, start = extended(short, run, tmp_path / "extended", corpus)
    assert 0 < int(start.removeprefix("step")) <= 0.6 * short.phases[0].steps + 3
    assert not same_past(short, run, 0, short.phases[0].steps)
    assert final_state(folder) == final_state(train_tiny(run, tmp_path / "straight", corpus))


def test_a_further_phase_goes_on_from_the_last_step(corpus: Corpus, tmp_path: Path) -> None:
    short = tiny_run(corpus)
    run = with_phase(short, 9600, "cool", {"shape": "one_minus_sqrt", "final_factor": 0.0})
    assert run.phases[:-1] == short.phases and run.phases[-1].context == short.phases[-1].context
    folder, start = extended(short, run, tmp_path / "extended", corpus)
    assert start == "decay5"
    straight = train_tiny(run, tmp_path / "straight", corpus)
    assert final_state(folder) == final_state(straight)


def test_several_phases_go_on_in_the_first(corpus: Corpus) -> None:
    short = tiny_run(corpus)
    run = longer(short, 3 * 7680)
    steps = short.phases[0].steps
    assert same_past(short, run, 0, steps) and not same_past(short, run, 1, 1)
    assert run.phases[0].schedule.warmup == short.phases[0].schedule.warmup
    assert run.phases[0].tokens == 3 * short.phases[0].tokens


def test_what_depends_on_the_length_is_not_shared(corpus: Corpus) -> None:
    short = short_run(corpus)
    components = (Component("mlm", "bidirectional"), Component("clm", "causal"))
    steps = short.phases[0].steps
    for name, common in (("sequence", 9), ("alternation", steps), ("mixture", steps)):  # a sequence turns half-way
        shorter = replace(short, objective=ObjectiveConfig(name, parts=components))
        longer_run = longer(shorter, 9600)
        assert max(step for step in range(steps + 1) if same_past(shorter, longer_run, 0, step)) == common
    moving = replace(short.recipe.phases["pretrain"], mask_rate_end=0.1)
    shorter = replace(short, recipe=replace(short.recipe, phases={"pretrain": moving}))
    assert not same_past(shorter, longer(shorter, 9600), 0, 2)
    other_seed = replace(longer(short, 9600), seeds=replace(short.seeds, order=5))
    assert same_past(short, longer(short, 9600), 0, 15) and not same_past(short, other_seed, 0, 15)


def test_a_run_that_decays_from_the_first_step_is_not_extended(corpus: Corpus, tmp_path: Path) -> None:
    short = short_run(corpus, phase=replace(PLATEAU, shape="one_minus_sqrt", warmup_share=0.0))
    parent = train_tiny(short, tmp_path, corpus)
    with pytest.raises(UserError, match=r"decays from the first; add a phase after it with further="):
        shared_checkpoint(parent, short, longer(short, 9600))
    for name, changes, field in (("pretrain", {}, "further.name"), ("cool", {"share": 0.5}, "further.share")):
        with pytest.raises(UserError, match=field):
            with_phase(short, 9600, name, changes)


def test_a_beginning_that_was_killed_is_made_again(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = short_run(corpus)
    parent = train_tiny(short, tmp_path, corpus)
    run, folder = longer(short, 9600), RunFolder(tmp_path / longer(short, 9600).name)
    start = shared_checkpoint(parent, short, run)
    begin(folder, run, parent, start)
    shutil.rmtree(folder.checkpoints / start.name)
    begin(folder, run, parent, start)
    assert native.latest(folder.checkpoints, run.name, print).name == start.name  # type: ignore[union-attr]
    train_tiny(run, tmp_path, corpus, stop_after=20)
    later = native.ordered(folder.checkpoints)
    begin(folder, run, parent, start)
    assert native.ordered(folder.checkpoints) == later
