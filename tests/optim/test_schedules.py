"""Schedules: values at the knots worked out by hand, monotone where they must be, and strict."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ettin_core.optim.schedules import Schedule

TRAPEZOID = Schedule("warmup_stable_decay", 1000, warmup=100, decay=200, final=0.02)
CONSTANT = Schedule("warmup_stable_decay", 1000)
WARMUP_ONLY = Schedule("warmup_stable_decay", 1000, warmup=100, final=0.02)  # as published: no decay, so no `final`
TRIANGLE = Schedule("warmup_stable_decay", 1000, warmup=400, decay=600)
ROOT = Schedule("one_minus_sqrt", 400, final=0.04)
EXTENSION = Schedule("one_minus_sqrt", 400, final=0.5)


@pytest.mark.parametrize(
    ("schedule", "consumed", "factor"),
    [
        (TRAPEZOID, 0, 0.0),
        (TRAPEZOID, 1, 0.01),
        (TRAPEZOID, 50, 0.5),
        (TRAPEZOID, 99, 0.99),
        (TRAPEZOID, 100, 1.0),
        (TRAPEZOID, 500, 1.0),
        (TRAPEZOID, 800, 1.0),
        (TRAPEZOID, 850, 0.755),  # 0.02 + 0.98 * 150 / 200
        (TRAPEZOID, 900, 0.51),
        (TRAPEZOID, 999, 0.0249),
        (TRAPEZOID, 1000, 0.02),
        (TRAPEZOID, 5000, 0.02),
        (CONSTANT, 0, 1.0),
        (CONSTANT, 1000, 1.0),
        (WARMUP_ONLY, 50, 0.5),
        (WARMUP_ONLY, 1000, 1.0),
        (TRIANGLE, 399, 0.9975),
        (TRIANGLE, 400, 1.0),
        (TRIANGLE, 700, 0.5),
        (TRIANGLE, 1000, 0.0),
        (ROOT, 0, 1.0),
        (ROOT, 4, 0.904),  # 0.04 + 0.96 * (1 - 0.1)
        (ROOT, 100, 0.52),
        (ROOT, 225, 0.28),
        (ROOT, 400, 0.04),
        (ROOT, 401, 0.04),
        (EXTENSION, 0, 1.0),
        (EXTENSION, 100, 0.75),
        (EXTENSION, 400, 0.5),
    ],
)
def test_the_factor_at_a_point(schedule: Schedule, consumed: int, factor: float) -> None:
    assert schedule.factor(consumed) == pytest.approx(factor, rel=1e-12, abs=1e-15)


@pytest.mark.parametrize(
    ("schedule", "knots"),
    [
        (TRAPEZOID, [(0, 0.0), (100, 1.0), (800, 1.0), (1000, 0.02)]),
        (CONSTANT, [(0, 1.0), (1000, 1.0)]),
        (TRIANGLE, [(0, 0.0), (400, 1.0), (1000, 0.0)]),
        (ROOT, [(0, 1.0), (400, 0.04)]),
    ],
)
def test_knots_are_where_the_shape_bends(schedule: Schedule, knots: list[tuple[int, float]]) -> None:
    bends = schedule.knots()
    assert [point for point, _ in bends] == [point for point, _ in knots]
    assert [factor for _, factor in bends] == pytest.approx([factor for _, factor in knots], abs=1e-12)


shapes = st.integers(1, 500).flatmap(
    lambda tokens: st.integers(0, tokens).flatmap(
        lambda warmup: st.builds(
            Schedule,
            shape=st.just("warmup_stable_decay"),
            tokens=st.just(tokens),
            warmup=st.just(warmup),
            decay=st.integers(0, tokens - warmup),
            final=st.floats(0, 1),
        )
    )
)


@given(shapes)
def test_a_trapezoid_rises_stays_and_falls(schedule: Schedule) -> None:
    factors = [schedule.factor(consumed) for consumed in range(schedule.tokens + 1)]
    bend = schedule.tokens - schedule.decay
    rising, falling = factors[: schedule.warmup + 1], factors[bend:]
    assert rising == sorted(rising) and falling == sorted(falling, reverse=True)
    assert all(factor == 1.0 for factor in factors[schedule.warmup : bend + 1])
    assert all(0 <= factor <= 1 for factor in factors)


@given(st.integers(1, 500), st.floats(0, 1))
def test_one_minus_sqrt_falls_from_one_to_its_end(tokens: int, final: float) -> None:
    schedule = Schedule("one_minus_sqrt", tokens, final=final)
    factors = [schedule.factor(consumed) for consumed in range(tokens + 1)]
    assert factors == sorted(factors, reverse=True)
    assert factors[0] == 1.0 and factors[-1] == pytest.approx(final, abs=1e-12)


def test_warmup_never_jumps() -> None:
    factors = [TRAPEZOID.factor(consumed) for consumed in range(1001)]
    steps = [abs(after - before) for before, after in zip(factors, factors[1:], strict=False)]
    assert max(steps) == pytest.approx(0.01)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (
            {"shape": "cosine", "tokens": 10},
            "shape='cosine' is not a schedule; use one of warmup_stable_decay, one_minus",
        ),
        ({"shape": "one_minus_sqrt", "tokens": -1}, "tokens=-1 is negative"),
        ({"shape": "warmup_stable_decay", "tokens": 10, "warmup": -1}, "warmup=-1 is negative"),
        ({"shape": "warmup_stable_decay", "tokens": 10, "decay": -1}, "decay=-1 is negative"),
        (
            {"shape": "warmup_stable_decay", "tokens": 10, "warmup": 6, "decay": 5},
            "warmup_share=6 and decay=5 tokens are longer than the phase (10); shorten them",
        ),
    ],
)
def test_a_schedule_that_makes_no_sense_is_refused(arguments: dict, problem: str) -> None:
    with pytest.raises(ValueError) as caught:
        Schedule(**arguments)
    assert str(caught.value).startswith(problem)
