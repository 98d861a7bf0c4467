"""The order of rows: every row once per epoch, exact shares, and a pure function of the row's number."""

import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
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
    rows = [37, 530]
    seen = visits(order(rows, weights), 10 * PERIOD)
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
    assert abs(np.corrcoef(first, np.arange(PERIOD))[0, 1]) < 0.05


@pytest.mark.parametrize("change", [{"fingerprint": "g"}, {"seed": 2}, {"phase": "decay"}])
def test_fingerprint_seed_and_phase_change_the_order(change: dict[str, object]) -> None:
    one, other = (of.locate(np.arange(PERIOD)).row for of in (order([PERIOD]), order([PERIOD], **change)))
    assert (one == other).sum() < 10


@pytest.mark.parametrize(
    ("weights", "quotas"),
    [
        ([1.0], [10_000]),
        ([3.0, 1.0], [7500, 2500]),
        ([1.0, 1.0, 1.0], [3334, 3333, 3333]),
        ([0.5, 0.3, 0.2], [5000, 3000, 2000]),
        ([1.0, 1e7], [1, 9999]),
        ([1e-5, 1e-5, 1e-5, 0.99997], [1, 1, 1, 9997]),
        ([1.5, 1.5, 9997.0], [2, 1, 9997]),
        ([1.0] * 500, [20] * 500),
    ],
)
def test_shares_of_a_block_are_exact(weights: list[float], quotas: list[int]) -> None:
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


def excess(source: np.ndarray, quotas: np.ndarray) -> np.ndarray:
    """By how many rows each source runs ahead of its share after each row of a block, (PERIOD, sources)."""
    counts = np.cumsum(source[:, None] == np.arange(len(quotas)), axis=0)
    return counts - np.arange(1, PERIOD + 1)[:, None] * quotas / PERIOD


@settings(max_examples=20, deadline=None)
@given(st.lists(st.floats(1e-4, 1), min_size=1, max_size=20), st.integers(0, 10**9))
def test_any_beginning_of_a_block_has_nearly_the_shares(weights: list[float], block: int) -> None:
    of = order([50] * len(weights), weights)
    source = of.locate(np.arange(block * PERIOD, (block + 1) * PERIOD)).source
    # each source is within a row of its share by the block's clock, and the clock within a row of each source
    assert (np.abs(excess(source, of.quotas)) < 1 + len(weights) * of.quotas / PERIOD).all()


def test_any_stretch_across_blocks_has_nearly_the_shares() -> None:
    source = order([50] * 4, [0.4, 0.3, 0.2, 0.1]).locate(np.arange(PERIOD - 3000, PERIOD + 3000)).source
    shares = np.array([0.4, 0.3, 0.2, 0.1])
    for begin in range(0, 5000, 100):
        assert np.abs(np.bincount(source[begin : begin + 1000]) - 1000 * shares).max() <= 6


def test_sources_do_not_follow_a_pattern() -> None:
    source = order([50, 50]).locate(np.arange(PERIOD)).source
    changes = (np.diff(source) != 0).sum()
    assert 0.55 * PERIOD < changes < 0.8 * PERIOD  # 1/2 by chance alone, 1 when they take turns
    other = order([50, 50]).locate(np.arange(PERIOD, 2 * PERIOD)).source
    assert 0.4 < (source == other).mean() < 0.6


def test_a_rare_source_is_met_once_in_each_block_at_a_random_place() -> None:
    of = order([10**6, 10**6], [1e-9, 1.0])
    places = [np.flatnonzero(of.locate(np.arange(PERIOD) + block * PERIOD).source == 0) for block in range(60)]
    assert all(len(place) == 1 for place in places)
    spread = np.concatenate(places) / PERIOD
    assert abs(spread.mean() - 0.5) < 0.15 and spread.min() < 0.15 and spread.max() > 0.85


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
    numbers = np.array([0, 1, 2, 9999, 10_000, 10**12])
    found = order([7, 5], [3, 1]).locate(numbers)
    assert found.source.tolist() == [0, 1, 0, 0, 0, 0]
    assert found.epoch.tolist() == [0, 0, 0, 1071, 1071, 107142857142]
    assert found.row.tolist() == [0, 3, 1, 3, 2, 6]


TRILLIONS = [
    round(2e12 / 1024 * share) for share in np.array([300, 200, 150, 100, 80, 60, 40, 30, 20, 10, 8, 2]) / 1000
]


def test_two_trillion_tokens_take_no_memory_and_no_time() -> None:
    steps, batch = sum(TRILLIONS) // 1024, 1024
    tracemalloc.start()
    try:
        of = order(TRILLIONS, [float(rows) for rows in TRILLIONS])
        for step in (0, 10**6, steps - 2):
            began = time.perf_counter()
            found = of.locate(np.arange(step * batch, (step + 1) * batch))
            assert time.perf_counter() - began < 0.5
            assert (found.epoch == 0).all()
            assert (found.row >= 0).all() and (found.row < np.array(TRILLIONS)[found.source]).all()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8e6


def test_memory_stays_when_many_blocks_are_read() -> None:
    of = order(TRILLIONS, [float(rows) for rows in TRILLIONS])
    tracemalloc.start()
    try:
        for block in range(0, 400, 4):
            of.locate(np.arange(block * PERIOD, block * PERIOD + 8))
        held = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert held < 4e6


def test_rows_of_a_huge_source_are_drawn_from_all_of_it() -> None:
    rows = order([2**40]).locate(np.arange(PERIOD)).row
    assert len(set(rows.tolist())) == PERIOD
    assert (np.bincount(rows * 10 // 2**40, minlength=10) > 0.08 * PERIOD).all()


def test_epochs_count_passes_over_each_source() -> None:
    assert order([30, 100], [0.75, 0.25]).epochs(4000) == [100.0, 10.0]
    of = order([30, 101], [0.75, 0.25])
    seen = visits(of, 2 * PERIOD)
    for source, passes in enumerate(of.epochs(2 * PERIOD)):
        assert passes == sum(place == source for place, _, _ in seen) / of.rows[source]
