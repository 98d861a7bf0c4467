"""From a recipe to phases in tokens and steps, and the learning rate at their knots."""

from dataclasses import replace

import pytest

from ettin_core.data.batch_schedule import BatchSchedule
from ettin_core.data.corpus import Corpus
from ettin_core.data.loader import Loader
from ettin_core.training.phases import PhaseRecipe, RecipeConfig, plan

RECIPE = RecipeConfig(
    100_000,
    {
        "pretrain": PhaseRecipe(0.8, 100, 10, "step", warmup_share=0.1),
        "decay": PhaseRecipe(0.2, 200, 5, "decay", "one_minus_sqrt", final_factor=0.04, learning_rate_factor=0.5),
    },
)


def test_tokens_become_steps() -> None:
    pretrain, decay = plan(RECIPE, 1e-3)
    assert (pretrain.steps, pretrain.tokens) == (80, 80_000)
    assert (decay.steps, decay.tokens) == (20, 20_000)


def test_rates_at_the_knots() -> None:
    pretrain, decay = plan(RECIPE, 1e-3)
    assert pretrain.rate(0) == pytest.approx(1e-3 / 8)  # after 1,000 of 8,000 warm-up tokens
    assert pretrain.rate(7) == pytest.approx(1e-3)
    assert pretrain.rate(79) == pytest.approx(1e-3)
    assert decay.rate(4) == pytest.approx(5e-4 * (0.04 + 0.96 * (1 - 0.25**0.5)))
    assert decay.rate(19) == pytest.approx(5e-4 * 0.04)  # 0.02 of the peak, as the paper says


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"share": 0.9}, "make them add up to 1"),
        ({"warmup_share": 0.7, "decay_share": 0.7}, "longer than the phase"),
        ({"warmup_share": 1.2}, "recipe.phases.pretrain.warmup_share=1.2 is not a share"),
        ({"learning_rate_factor": -1.0}, "recipe.phases.pretrain.learning_rate_factor=-1.0 is not positive"),
        ({"share": 0.0}, "recipe.phases.pretrain.share=0.0 is not positive"),
        ({"prefix": "step/1"}, "recipe.phases.pretrain.prefix='step/1' is not a word"),
        ({"context": 4}, "recipe.phases.pretrain.context=4 is too short"),
        ({"mask_rate": 0.0}, "recipe.phases.pretrain.mask_rate=0.0 is not in"),
        ({"batch_rows": 0}, "recipe.phases.pretrain.batch_rows=0 is not positive"),
        ({"shape": "cosine"}, "shape='cosine' is not a schedule"),
        (
            {"packing": "tight"},
            "recipe.phases.pretrain.packing='tight' is not a packing; use one of stream, best_fit, off",
        ),
        ({"mixture": {"web": 0.0}}, "recipe.phases.pretrain.mixture.web=0.0 is not positive"),
    ],
)
def test_bad_recipes_are_named(changes: dict, message: str) -> None:
    phases = RECIPE.phases | {"pretrain": replace(RECIPE.phases["pretrain"], **changes)}
    with pytest.raises(ValueError, match=message):
        plan(RecipeConfig(RECIPE.tokens, phases), 1e-3)


def test_a_phase_reads_its_mixture_in_its_packing(corpus: Corpus) -> None:
    phase = PhaseRecipe(1.0, 100, 10, "step", mixture={"world": 2.0}, packing="off")
    (planned,) = plan(RecipeConfig(100_000, {"pretrain": phase}), 1e-3)
    of = planned.loader(corpus, seed=5)
    expected = Loader(corpus, 100, BatchSchedule(10), 5, "pretrain", {"world": 2.0}, "off")
    assert of.batch(3).digest() == expected.batch(3).digest() and planned.mixture == phase.mixture
    with pytest.raises(ValueError, match="mixture='web' is not a source of the corpus; it has world"):
        replace(planned, mixture={"web": 1.0}).loader(corpus, seed=5)


def test_too_few_tokens_for_a_phase() -> None:
    with pytest.raises(ValueError, match=r"recipe.tokens=400 gives phase pretrain no step.*at least 1251 tokens"):
        plan(replace(RECIPE, tokens=400), 1e-3)


def test_the_batch_grows_over_its_share_of_the_tokens() -> None:
    # 12 rows in 4 stages: 3, 6, 9 rows make 18 rows a round; 0.25 of 2,880 rows are 720 = 40 rounds.
    phase = PhaseRecipe(1.0, 100, 12, "step", warmup_share=0.5, batch_warmup_share=0.25)
    (grown,) = plan(RecipeConfig(288_000, {"pretrain": phase}), 1.0)
    assert grown.batches == BatchSchedule(12, stages=4, stage_steps=40)
    assert grown.consumed(120) == 72_000
    assert (grown.steps, grown.rows, grown.tokens) == (120 + 180, 2880, 288_000)
    # the rate's clock is tokens: half of the phase is 144,000 of them, which are 120 small and 60 whole steps
    assert grown.rate(179) == pytest.approx(1.0)
    assert grown.rate(119) == pytest.approx(0.5)


def test_a_growth_that_cannot_be_is_refused_by_field() -> None:
    with pytest.raises(
        ValueError, match=r"recipe\.phases\.pretrain\.batch_warmup_stages=4 does not divide batch_rows=10"
    ):
        RecipeConfig(10**6, {"pretrain": PhaseRecipe(1.0, 100, 10, "step", batch_warmup_share=0.1)})
    with pytest.raises(ValueError, match=r"recipe\.phases\.pretrain\.batch_warmup_share=1 leaves no step"):
        RecipeConfig(10**6, {"pretrain": PhaseRecipe(1.0, 100, 12, "step", batch_warmup_share=1)})
    with pytest.raises(ValueError, match=r"gives phase pretrain no step of 12 x 100 tokens after .* steps of smaller"):
        plan(RecipeConfig(3000, {"pretrain": PhaseRecipe(1.0, 100, 12, "step", batch_warmup_share=0.9)}), 1.0)
