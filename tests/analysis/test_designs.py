"""The statistics of designs: planted effects are recovered, their intervals hold what they promise, and no more."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.inference import Bounds, contrasts
from analysis.kinds.effects import balanced
from analysis.kinds.gaps import statement
from analysis.uncertainty import crossing, detectable

DIRECTION, OBJECTIVE = np.array([-0.5, -0.5, 0.5, 0.5]), np.array([-0.5, 0.5, -0.5, 0.5])
INTERACTION = np.array([1.0, -1.0, -1.0, 1.0])
WEIGHTS = np.array([DIRECTION, OBJECTIVE, INTERACTION])
BUDGETS = np.array([0.005, 0.02, 0.05, 0.1, 0.2, 0.5])


def blocked(values: np.ndarray, weights: np.ndarray) -> list[Bounds]:
    """Contrasts of cells whose runs alone are known."""
    return contrasts(values[..., None], weights)


def simulated(generator: np.random.Generator, interaction: float) -> np.ndarray:
    """Four cells in three blocks: effects of 0.3 and -0.1, blocks that differ by far more than runs do."""
    cells = 0.3 * DIRECTION - 0.1 * OBJECTIVE + interaction / 4 * INTERACTION
    return cells[:, None] + generator.normal(0, 0.5, (1, 3)) + generator.normal(0, 0.02, (4, 3))


def test_intervals_of_effects_cover_the_planted_ones_nineteen_times_in_twenty() -> None:
    generator = np.random.default_rng(0)
    covered = np.zeros(3)
    for _ in range(400):
        effects = blocked(simulated(generator, 0.04), WEIGHTS)
        covered += [
            effect.low <= truth <= effect.high for effect, truth in zip(effects, (0.3, -0.1, 0.04), strict=True)
        ]
    assert ((covered / 400 > 0.92) & (covered / 400 < 0.98)).all(), covered / 400


def test_a_planted_interaction_is_found_and_one_that_is_not_there_is_not() -> None:
    generator = np.random.default_rng(1)
    real, imagined = (
        np.mean([blocked(simulated(generator, size), WEIGHTS)[2].p < 0.05 for _ in range(200)]) for size in (0.2, 0.0)
    )
    assert real > 0.9 and imagined < 0.1


def test_effects_are_those_of_least_squares_and_their_error_is_their_spread_over_blocks() -> None:
    values = simulated(np.random.default_rng(2), 0.1)
    blocks = np.vstack([np.eye(2), [-1, -1]])
    design = np.array(
        [
            [1, DIRECTION[cell], OBJECTIVE[cell], INTERACTION[cell] / 4, *blocks[block]]
            for cell in range(4)
            for block in range(3)
        ]
    )
    coefficients = np.linalg.lstsq(design, values.ravel(), rcond=None)[0]
    effects = blocked(values, WEIGHTS)
    assert [effect.value for effect in effects] == pytest.approx(coefficients[1:4])
    tests = stats.ttest_1samp(WEIGHTS @ values, 0, axis=1)
    assert [effect.high for effect in effects] == pytest.approx(tests.confidence_interval().high)
    assert [effect.p for effect in effects] == pytest.approx(tests.pvalue)


def test_cells_that_vary_more_than_others_do_not_make_an_effect_certain() -> None:
    """Pooled over cells the error of the two that vary would be half of theirs, and one null in five would be an effect."""
    generator = np.random.default_rng(4)
    spread = np.array([0.0, 0.0, 0.02, 0.02])[:, None]
    effects = [blocked(spread * generator.normal(0, 1, (4, 3)), np.array([[0, 0, 1, -1]]))[0] for _ in range(600)]
    assert np.mean([effect.p < 0.05 for effect in effects]) < 0.08


def test_one_block_has_estimates_and_no_interval() -> None:
    effects = blocked(np.array([[0.1], [0.2], [0.4], [0.5]]), WEIGHTS)
    assert effects[0].value == pytest.approx(0.3) and np.isnan(effects[0].p) and np.isnan(effects[0].low)


def test_balanced_parts_are_the_largest_and_leave_no_crossed_cell_out() -> None:
    grid = pd.DataFrame(
        [[True, False, False], [True, True, False], [True, True, False]], ["both", "causal", "prefix"], ["m", "c", "x"]
    )
    assert balanced(grid) == [(("causal", "prefix"), ("m", "c")), (("both", "causal", "prefix"), ("m",))]
    assert balanced(grid.loc[["both"], ["m"]]) == []
    full = pd.DataFrame(True, [1, 2], [1, 2, 3])
    assert balanced(full) == [((1, 2), (1, 2, 3))]


def test_a_planted_crossing_is_recovered_and_its_interval_covers_it() -> None:
    generator = np.random.default_rng(3)
    covered = []
    for _ in range(300):
        seeds = generator.normal(0, 0.01, (3, 1)) - 0.05 * np.log(BUDGETS / 0.12) * generator.normal(1, 0.05, (3, 1))
        fit = crossing(BUDGETS, seeds + generator.normal(0, 0.005, (3, len(BUDGETS))))
        assert fit.interval is not None
        covered.append(fit.interval.low <= 0.12 <= fit.interval.high)
    assert 0.91 < np.mean(covered) < 0.99
    alike = crossing(BUDGETS, np.tile(-0.05 * np.log(BUDGETS / 0.12), (3, 1)))
    assert alike.x == pytest.approx(0.12) and alike.interval is None  # runs that do not differ tell no error
    assert statement(alike, BUDGETS).startswith("no crossing established: fitted at 0.12")


def test_a_gap_that_bends_is_not_taken_for_a_line() -> None:
    generator = np.random.default_rng(6)
    budgets = np.array([0.02, 0.1, 0.5])
    straight = [
        crossing(budgets, 1 - 0.3 * np.log(budgets / 0.02) + generator.normal(0, 0.02, (3, 3))).bends
        for _ in range(1000)
    ]
    assert np.mean(straight) == pytest.approx(0.05, abs=0.02)
    noise = generator.normal(0, 0.01, (3, 3))
    flattening = crossing(budgets, [4.7, 1.26, 0.55] + noise)
    assert flattening.bends and statement(flattening, budgets) == (
        "no crossing within 0.02 to 0.5: behind throughout; the gap bends, so its line is not extended"
    )
    late = crossing(
        budgets, [3.0, 1.0, -1.0 / 9] + noise / 100
    )  # the line through the last two is zero at 0.1 * 5**0.9
    assert late.bends and late.interval is not None and late.interval.low < 0.1 * 5**0.9 < late.interval.high
    assert late.x == pytest.approx(0.1 * 5**0.9, rel=0.01) and "catches up at 0.42" in statement(late, budgets)
    twice = crossing(budgets, [1.0, -1.0, 1.0] + noise)
    assert statement(twice, budgets) == "no single crossing: the gap changes side 2 times"


def test_no_crossing_is_said_in_words() -> None:
    generator = np.random.default_rng(4)
    noise = generator.normal(0, 0.01, (3, len(BUDGETS)))
    behind = crossing(BUDGETS, 0.4 - 0.001 * np.log(BUDGETS) + noise)
    assert statement(behind, BUDGETS) == "no crossing within 0.005 to 0.5: behind throughout"
    flat = crossing(BUDGETS, noise - noise.mean() - 1e-4 * np.log(BUDGETS / 0.05))
    assert flat.interval is None and "no crossing" in statement(flat, BUDGETS)
    alone = crossing(BUDGETS, -0.05 * np.log(BUDGETS[None] / 0.12))
    assert statement(alone, BUDGETS) == "no crossing established: fitted at 0.12, but one repetition, no interval"
    assert "fewer than 3" in statement(None, BUDGETS[:2])
    early = crossing(BUDGETS, -0.05 * np.log(BUDGETS / 0.9) + noise / 20)
    assert "behind throughout; extrapolated 0.9" in statement(early, BUDGETS)


def test_the_detectable_difference_is_found_four_times_in_five() -> None:
    generator = np.random.default_rng(5)
    for n in (2, 3, 5):
        left = generator.normal(0, 1, (4000, n))
        right = generator.normal(detectable(1.0, n), 1, (4000, n))
        assert np.mean(stats.ttest_ind(left, right, axis=1).pvalue < 0.05) == pytest.approx(0.8, abs=0.025)
