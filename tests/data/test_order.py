"""The order of rows: every row once per epoch, exact shares, and a pure function of the row's number."""

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ettin_core.data.order import PERIOD, Order, _quotas


def order(rows: list[int], weights: list[float] | None = None, **changes: object) -> Order:
    """An order over sources of so many rows."""
    arguments = {"fingerprint": "f", "seed": 1, "phase": "pretrain"} | changes
    return Order(rows=rows, weights=weights or [1.0] * len(rows), **arguments)  # type: ignore[arg-type]


def visits(of: Order, count: int) -> list[tuple[int, int, int]]:
    """(source, epoch, row) of the first rows."""
    found = of.locate(np.arange(count))
    return list(zip(found.source.tolist(), found.epoch.tolist(), found.row.tolist(), strict=True))


@pytest.mark.parametrize("rows", [1, 2, 7, 250, 1000, 1777])
def test_every_row_comes_exactly_once_per_epoch(rows: int) -> None:
    seen = visits(order([rows]), 3 * rows)
    for epoch in range(3):
        assert sorted(row for _, cycle, row in seen if cycle == epoch) == list(range(rows))


@pytest.mark.parametrize("weights", [[3.0, 1.0], [1.0, 999.0], [0.31, 0.69]])
def test_every_row_of_every_source_comes_exactly_once_per_epoch(weights: list[float]) -> None:
    rows = [37, 53]
    seen = visits(order(rows, weights), 60 * PERIOD)
    for source in range(2):
        mine = [(epoch, row) for place, epoch, row in seen if place == source]
        assert len(set(mine)) == len(mine)
        whole = max(epoch for epoch, _ in mine)
        assert whole >= 1
        assert sum(epoch < whole for epoch, _ in mine) == whole * rows[source]


def test_one_source_is_read_epoch_after_epoch() -> None:
    location = order([PERIOD]).locate(np.arange(3 * PERIOD))
    assert np.array_equal(location.epoch, np.repeat([0, 1, 2], PERIOD))


def test_a_new_epoch_has_a_new_order() -> None:
    of = order([PERIOD])
    first, second = (of.locate(np.arange(begin, begin + PERIOD)).row for begin in (0, PERIOD))
    assert (first == second).sum() < 10  # by chance one
    assert abs(np.corrcoef(first, np.arange(PERIOD))[0, 1]) < 0.15


@pytest.mark.parametrize("change", [{"fingerprint": "g"}, {"seed": 2}, {"phase": "decay"}])
def test_fingerprint_seed_and_phase_change_the_order(change: dict[str, object]) -> None:
    one, other = (of.locate(np.arange(PERIOD)).row for of in (order([PERIOD]), order([PERIOD], **change)))
    assert (one == other).sum() < 10


@pytest.mark.parametrize(
    ("weights", "quotas"),
    [
        ([1.0], [1000]),
        ([3.0, 1.0], [750, 250]),
        ([1.0, 1.0, 1.0], [334, 333, 333]),
        ([0.5, 0.3, 0.2], [500, 300, 200]),
        ([1.0, 1e6], [1, 999]),
        ([1e-4, 1e-4, 1e-4, 0.9997], [1, 1, 1, 997]),
        ([1.5, 1.5, 997.0], [2, 1, 997]),
        ([1.0] * 1000, [1] * 1000),
    ],
)
def test_shares_of_a_thousand_rows_are_exact(weights: list[float], quotas: list[int]) -> None:
    of = order([50] * len(weights), weights)
    for begin in (0, PERIOD, 10**9 * PERIOD):
        source = of.locate(np.arange(begin, begin + PERIOD)).source
        assert np.bincount(source, minlength=len(weights)).tolist() == quotas


@given(st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=40))
def test_quotas_fill_the_period_and_leave_no_source_out(weights: list[float]) -> None:
    quotas = _quotas(weights)
    shares = np.array(weights) / np.sum(weights) * PERIOD
    assert quotas.sum() == PERIOD and quotas.min() >= 1
    assert (quotas >= np.maximum(1, np.floor(shares)) - len(weights)).all() and (quotas <= np.ceil(shares) + 1).all()


def test_sources_are_mixed_within_a_block() -> None:
    source = order([50, 50]).locate(np.arange(PERIOD)).source
    assert abs(source[:500].mean() - 0.5) < 0.1
    assert 400 < (np.diff(source) != 0).sum() < 600


@given(st.lists(st.integers(0, 10**7), min_size=1, max_size=60))
def test_any_rows_in_any_order_are_found_alike(numbers: list[int]) -> None:
    of = order([7, 190], [0.2, 0.8])
    together = of.locate(np.array(numbers))
    for place, number in enumerate(numbers):
        alone = of.locate(np.array([number]))
        assert (alone.source[0], alone.epoch[0], alone.row[0]) == (
            together.source[place],
            together.epoch[place],
            together.row[place],
        )


def test_golden_locations() -> None:
    numbers = np.array([0, 1, 2, 999, 1000, 10**12])
    found = order([7, 5], [3, 1]).locate(numbers)
    assert found.source.tolist() == [1, 0, 1, 0, 0, 0]
    assert found.epoch.tolist() == [0, 0, 0, 107, 107, 107142857142]
    assert found.row.tolist() == [3, 0, 2, 0, 4, 6]


def test_a_row_far_away_takes_no_time_and_a_huge_source_no_memory() -> None:
    of = order([10**12, 10**11], [10.0, 1.0])
    began = time.perf_counter()
    found = of.locate(np.array([10**12, 10**12 + 1]))
    assert time.perf_counter() - began < 0.5
    assert (found.row >= 0).all() and (found.row < np.array([10**12, 10**11])[found.source]).all()


def test_epochs_count_passes_over_each_source() -> None:
    assert order([30, 100], [0.75, 0.25]).epochs(4000) == [100.0, 10.0]
