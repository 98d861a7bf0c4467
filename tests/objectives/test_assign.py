"""Schedules of objectives and the prefix direction: which rows are trained with what, when, and on what that may depend."""

import re
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ettin_core.data.corpus import Corpus
from ettin_core.data.loader import Batch
from ettin_core.objectives.assign import RunPosition, assign_rows, make_targets, prefix_tokens, subset
from ettin_core.objectives.config import Component, ObjectiveConfig
from ettin_core.objectives.directions import DIRECTIONS
from ettin_core.objectives.kinds import OBJECTIVES
from ettin_core.objectives.targets import Targets, mask_key
from ettin_core.training.config import RunConfig
from tests.objectives.test_targets import BOS, EOS, VOCABULARY, random_batch, within
from tests.runs import final_state, tiny_run, train_tiny

KEY = mask_key(21, "pretrain")
MLM, CLM = Component("mlm", "bidirectional"), Component("clm", "causal")
START = RunPosition(0, Fraction(0))
SCHEDULES = {
    "mixture": ("bidirectional", ObjectiveConfig("mixture", parts=(MLM, replace(CLM, weight=3.0)))),
    "alternation": (
        "causal",
        ObjectiveConfig("alternation", parts=(replace(CLM, weight=3.0), replace(MLM, weight=2.0))),
    ),
    "biphasic": (
        "bidirectional",
        ObjectiveConfig("sequence", parts=(replace(CLM, weight=0.6), replace(MLM, weight=0.4))),
    ),
    "detour": ("bidirectional", ObjectiveConfig("sequence", parts=(MLM, replace(CLM, weight=0.5), MLM))),
    "prefix": ("prefix", ObjectiveConfig("clm")),
}
LARGE = random_batch(1000)


def targets(name: str, batch: Batch, position: RunPosition = START, rate: float = 0.3) -> Targets:
    """What a schedule makes of a batch."""
    direction, config = SCHEDULES[name]
    return make_targets(config, direction, batch, VOCABULARY, rate, KEY, position)


def lengths_and_prefixes(batch: Batch, prefix_mask: np.ndarray) -> list[tuple[int, int]]:
    """Of each document piece: its tokens and how many of them are open; open tokens are at its beginning."""
    pairs = []
    for row in range(len(batch.rows)):
        for document in range(batch.document_ids[row].max() + 1):
            open_tokens = prefix_mask[row][batch.document_ids[row] == document]
            assert (np.diff(open_tokens.astype(int)) <= 0).all(), "an open stretch is a prefix"
            pairs.append((len(open_tokens), int(open_tokens.sum())))
    return pairs


def test_a_prefix_is_uniform_over_all_lengths_that_leave_something_to_predict() -> None:
    pairs = lengths_and_prefixes(LARGE, prefix_tokens("prefix", LARGE, KEY))
    assert all(0 <= prefix < length for length, prefix in pairs)
    for length in (5, 20, 50):
        prefixes = np.array([prefix for size, prefix in pairs if size == length])
        counts = np.bincount(prefixes, minlength=length)
        assert len(prefixes) > 50 and within(counts[0] / len(prefixes), 1 / length, len(prefixes))
        spread = (length**2 - 1) / 12 / len(prefixes)
        assert abs(prefixes.mean() - (length - 1) / 2) < 4 * spread**0.5


def test_padding_is_never_open_and_the_other_directions_are_the_extremes() -> None:
    for name in DIRECTIONS:
        assert not prefix_tokens(name, LARGE, KEY)[~LARGE.real].any()
    assert prefix_tokens("bidirectional", LARGE, KEY)[LARGE.real].all()
    assert not prefix_tokens("causal", LARGE, KEY).any()


def test_prefix_clm_scores_every_token_after_the_prefix_and_none_in_it() -> None:
    result = targets("prefix", LARGE)
    assert result.direction == "prefix" and result.prefix_mask is not None
    scored = np.zeros(LARGE.tokens.size, dtype=bool)
    scored[result.scored_positions + 1] = True
    assert not scored[result.prefix_mask.ravel()].any()
    expected = LARGE.real & ~result.prefix_mask & (LARGE.position_ids > 0)
    assert np.array_equal(scored.reshape(expected.shape), expected)
    assert np.array_equal(result.labels, LARGE.tokens.ravel()[result.scored_positions + 1])


def test_prefixes_and_masks_are_drawn_from_streams_of_their_own() -> None:
    """Neither the prefix nor the part of a row changes which of its tokens are masked."""
    alone = make_targets(ObjectiveConfig("mlm"), "bidirectional", LARGE, VOCABULARY, 0.3, KEY, START)
    under_prefix = make_targets(ObjectiveConfig("mlm"), "prefix", LARGE, VOCABULARY, 0.3, KEY, START)
    assert np.array_equal(alone.inputs, under_prefix.inputs) and np.array_equal(
        alone.scored_positions, under_prefix.scored_positions
    )
    mixed = targets("mixture", LARGE)
    rows = assign_rows(SCHEDULES["mixture"][1], SCHEDULES["mixture"][1].parts, LARGE, KEY, START) == 0
    assert np.array_equal(mixed.inputs[rows], alone.inputs[rows])
    masked = np.array(
        [
            len(positions)
            for positions in np.split(
                alone.scored_positions, np.searchsorted(alone.scored_positions, np.arange(256, 256000, 256))
            )
        ]
    )
    prefix_mask = prefix_tokens("prefix", LARGE, KEY).sum(axis=1)
    assert abs(np.corrcoef(masked / LARGE.real.sum(1), prefix_mask / LARGE.real.sum(1))[0, 1]) < 4 / len(masked) ** 0.5


def test_a_mixture_trains_each_row_wholly_with_one_part_by_its_weight() -> None:
    result = targets("mixture", LARGE)
    chosen = assign_rows(SCHEDULES["mixture"][1], SCHEDULES["mixture"][1].parts, LARGE, KEY, START)
    assert within((chosen == 1).mean(), 0.75, len(chosen))
    assert (
        result.direction == "prefix"
        and result.prefix_mask is not None
        and (np.diff(result.scored_positions) >= 0).all()
    )
    for number, part in enumerate((MLM, CLM)):
        part_batch = subset(LARGE, np.flatnonzero(chosen == number))
        alone = make_targets(ObjectiveConfig(part.objective), part.direction, part_batch, VOCABULARY, 0.3, KEY, START)
        rows = result.scored_positions // 256
        in_part = chosen[rows] == number
        assert np.array_equal(result.labels[in_part], alone.labels)
        assert np.array_equal(result.inputs[chosen == number], alone.inputs)
        assert np.array_equal(
            result.prefix_mask[chosen == number], part_batch.real if part is MLM else np.zeros_like(part_batch.real)
        )


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("cut", [1, 5, 11])
def test_how_the_global_batch_is_divided_changes_nothing(name: str, cut: int) -> None:
    batch, position = random_batch(16, first=70), RunPosition(4, Fraction(7, 10))
    whole = targets(name, batch, position)
    parts = [targets(name, subset(batch, rows), position) for rows in (np.arange(cut), np.arange(cut, 16))]
    assert np.array_equal(np.concatenate([part.inputs for part in parts]), whole.inputs)
    assert np.array_equal(
        np.concatenate([parts[0].scored_positions, parts[1].scored_positions + cut * 256]), whole.scored_positions
    )
    assert np.array_equal(np.concatenate([part.labels for part in parts]), whole.labels)
    assert {part.direction for part in parts} == {whole.direction}
    if whole.prefix_mask is not None:
        assert np.array_equal(
            np.concatenate([part.prefix_mask for part in parts if part.prefix_mask is not None]), whole.prefix_mask
        )


def test_alternation_takes_so_many_steps_of_each_in_turn() -> None:
    directions = [
        targets("alternation", random_batch(4), RunPosition(step, Fraction(1, 2))).direction for step in range(10)
    ]
    assert directions == (["causal"] * 3 + ["bidirectional"] * 2) * 2


def test_a_sequence_follows_the_shares_of_the_tokens() -> None:
    def directions(name: str) -> list[str]:
        return [targets(name, random_batch(4), RunPosition(0, Fraction(tenth, 10))).direction for tenth in range(10)]

    assert directions("biphasic") == ["causal"] * 6 + ["bidirectional"] * 4
    assert directions("detour") == ["bidirectional"] * 4 + ["causal"] * 2 + ["bidirectional"] * 4


@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_a_sequence_changes_at_its_share_to_the_step(scale: float, corpus: Corpus) -> None:
    """Of a hundred steps exactly as many as the percentage says, however the weights are written."""
    base = tiny_run(corpus)
    recipe = replace(
        base.recipe, tokens=100 * 8 * 48, phases={"pretrain": replace(base.recipe.phases["pretrain"], share=1.0)}
    )
    for percent in range(1, 100):
        shares = [round(share * scale / 100, 2) for share in (percent, 100 - percent)]
        parts = (replace(CLM, weight=shares[0]), replace(MLM, weight=shares[1]))
        run = replace(base, objective=ObjectiveConfig("sequence", parts=parts), recipe=recipe)
        chosen = [
            int(assign_rows(run.objective, parts, random_batch(1), KEY, run.position(run.phases[0], step))[0])
            for step in (percent - 1, percent)
        ]
        assert run.phases[0].steps == 100 and chosen == [0, 1], f"{percent} %"


@pytest.mark.parametrize("share", [0.15, 0.5])
def test_a_scored_share_thins_the_loss_and_nothing_else(share: float) -> None:
    every, some = (
        make_targets(ObjectiveConfig("clm", scored_share=part), "causal", LARGE, VOCABULARY, 0.3, KEY, START)
        for part in (1.0, share)
    )
    assert np.array_equal(every.inputs, some.inputs) and np.isin(some.scored_positions, every.scored_positions).all()
    assert within(len(some.scored_positions) / len(every.scored_positions), share, len(every.scored_positions))
    assert np.array_equal(some.labels, LARGE.tokens.ravel()[some.scored_positions + 1])


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_combination_runs_or_is_refused_with_its_alternative(
    direction: str, objective: str, corpus: Corpus, tmp_path: Path
) -> None:
    if (direction, objective) == ("bidirectional", "clm"):
        with pytest.raises(ValueError, match=r"leaks under direction='bidirectional'.*use direction=causal or prefix"):
            crossed(corpus, direction, ObjectiveConfig(objective))
        return
    folder = train_tiny(crossed(corpus, direction, ObjectiveConfig(objective)), tmp_path, corpus)
    losses = [row.loss for row in folder.training()]
    assert folder.complete and losses[-1] < losses[0] - 0.3


def crossed(corpus: Corpus, direction: str, objective: ObjectiveConfig) -> RunConfig:
    """A tiny run of any direction and objective."""
    return replace(tiny_run(corpus), member="crossed", direction=direction, objective=objective)


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_stopped_and_continued_ends_as_undisturbed(name: str, corpus: Corpus, tmp_path: Path) -> None:
    direction, objective = SCHEDULES[name]
    run = crossed(corpus, direction, objective)
    straight = train_tiny(run, tmp_path / "straight", corpus)
    train_tiny(run, tmp_path / "resumed", corpus, stop_after=10)
    resumed = train_tiny(run, tmp_path / "resumed", corpus)
    assert final_state(resumed) == final_state(straight)


def test_a_mask_rate_schedule_is_linear_in_tokens(corpus: Corpus) -> None:
    run = tiny_run(corpus)
    decay = replace(run.recipe.phases["pretrain"], mask_rate=0.4, mask_rate_end=0.1)
    run = replace(run, recipe=replace(run.recipe, phases=run.recipe.phases | {"pretrain": decay}))
    phase = run.phases[0]
    rates = [phase.mask_rate_at(step) for step in range(phase.steps)]
    assert rates[0] == 0.4 and np.allclose(np.diff(rates), -0.3 / phase.steps)
    assert run.phases[1].mask_rate_at(3) == 0.15


def test_a_schedule_is_measured_as_its_direction_says(corpus: Corpus) -> None:
    """The last of its parts that is read out in the run's direction."""
    assert crossed(corpus, *SCHEDULES["biphasic"]).readout == ("bidirectional", "mlm")
    assert crossed(corpus, "causal", SCHEDULES["biphasic"][1]).readout == ("causal", "clm")
    assert crossed(corpus, *SCHEDULES["prefix"]).readout == ("causal", "clm")
    mntp_after_clm = ObjectiveConfig("sequence", parts=(MLM, Component("mntp", "bidirectional"), CLM))
    assert crossed(corpus, "bidirectional", mntp_after_clm).readout == ("bidirectional", "mntp")


@pytest.mark.parametrize(
    ("direction", "arguments", "message"),
    [
        ("bidirectional", {"name": "mixture"}, r"objective.parts=0 are too few for mixture; give two or more"),
        ("bidirectional", {"name": "mlm", "parts": (MLM, CLM)}, "objective.parts=2 are not used by mlm"),
        ("bidirectional", {"name": "clm", "scored_share": 0.0}, "objective.scored_share=0.0 is not a share"),
        ("causal", {"name": "mixture", "parts": (MLM, MLM)}, "direction='causal' differs from that of every part"),
        ("sideways", {"name": "mlm"}, "direction='sideways' is not a direction; use one of"),
        (
            "bidirectional",
            {"name": "alternation", "parts": (replace(MLM, weight=0.5), CLM)},
            r"objective.parts.0.weight=0.5 is not a whole number of steps",
        ),
        (
            "bidirectional",
            {"name": "sequence", "parts": (MLM, Component("clm", "bidirectional"))},
            "objective='clm' leaks|objective.name='clm' leaks",
        ),
        (
            "bidirectional",
            {"name": "sequence", "parts": (MLM, Component("next", "causal"))},
            r"objective.parts.1.objective='next' is not an objective; use one of",
        ),
    ],
)
def test_bad_schedules_are_refused_by_name(direction: str, arguments: dict, message: str, corpus: Corpus) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        crossed(corpus, direction, ObjectiveConfig(**arguments))
    assert "\n" not in str(caught.value)


def test_prefix_by_hand() -> None:
    """A document of four with two open tokens: the third is the first that is predicted, from the second."""
    batch = Batch(
        np.array([[BOS, 7, 8, EOS]]), np.zeros((1, 4), int), np.arange(4)[None], np.zeros(1, int), np.zeros(1, int)
    )
    key = next(key for key in range(1000) if prefix_tokens("prefix", batch, key).sum() == 2)
    result = make_targets(ObjectiveConfig("clm"), "prefix", batch, VOCABULARY, 0.3, key, START)
    assert result.prefix_mask is not None and result.prefix_mask.tolist() == [[True, True, False, False]]
    assert (result.scored_positions.tolist(), result.labels.tolist()) == ([1, 2], [8, EOS])


def test_an_objective_is_one_module_as_the_docs_show(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "extend" / "objective.md").read_text()
    [source] = [block for block in re.findall(r"```python\n(.*?)```", page, re.S) if "OBJECTIVE =" in block]
    module: dict[str, Any] = {}
    exec(source, module)
    monkeypatch.setitem(OBJECTIVES, "skip", module["OBJECTIVE"])
    result = make_targets(ObjectiveConfig("skip"), "causal", LARGE, VOCABULARY, 0.3, KEY, START)
    assert np.array_equal(result.labels, LARGE.tokens.ravel()[result.scored_positions + 2])
    assert np.array_equal(
        LARGE.document_ids.ravel()[result.scored_positions], LARGE.document_ids.ravel()[result.scored_positions + 2]
    )
    folder = train_tiny(crossed(corpus, "causal", ObjectiveConfig("skip")), tmp_path, corpus)
    assert folder.training()[-1].loss < folder.training()[0].loss - 0.3
    with pytest.raises(ValueError, match="leaks under direction='prefix'.*use direction=causal"):
        crossed(corpus, "prefix", ObjectiveConfig("skip"))
