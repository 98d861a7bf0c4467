"""The order of rows: every row once per epoch, exact shares, and a pure function of the row's number."""

import math
import time
import tracemalloc
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ettin_core.data.order import PERIOD, Order
from ettin_core.data.quotas import Quotas


def order(rows: list[int], weights: list[float] | None = None, **changes: object) -> Order:
    """An order over sources of so many rows."""
    names = [f"source {number:05d}" for number in range(len(rows))]
    arguments = {"names": names, "seed": 1, "phase": "pretrain"} | changes
    return Order(rows=rows, weights=weights or [1.0] * len(rows), **arguments)  # type: ignore[arg-type]


def visits(of: Order, count: int) -> list[tuple[int, int, int]]:
    """(source, epoch, row) of the first rows."""
    location = of.locate(np.arange(count))
    return list(zip(location.source.tolist(), location.epoch.tolist(), location.row.tolist(), strict=True))


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
        visited = [(epoch, row) for place, epoch, row in seen if place == source]
        assert len(set(visited)) == len(visited)
        whole = max(epoch for epoch, _ in visited)
        assert whole >= 1
        assert sum(epoch < whole for epoch, _ in visited) == whole * rows[source]


def test_one_source_is_read_epoch_after_epoch() -> None:
    location = order([PERIOD]).locate(np.arange(3 * PERIOD))
    assert np.array_equal(location.epoch, np.repeat([0, 1, 2], PERIOD))


def test_a_new_epoch_has_a_new_order() -> None:
    of = order([PERIOD])
    first, second = (of.locate(np.arange(begin, begin + PERIOD)).row for begin in (0, PERIOD))
    assert (first == second).sum() < 10  # by chance one
    assert abs(np.corrcoef(first, np.arange(PERIOD))[0, 1]) < 0.05


@pytest.mark.parametrize("change", [{"names": ["g"]}, {"seed": 2}, {"phase": "decay"}])
def test_content_seed_and_phase_change_the_order(change: dict[str, object]) -> None:
    left, right = (of.locate(np.arange(PERIOD)).row for of in (order([PERIOD]), order([PERIOD], **change)))
    assert (left == right).sum() < 10


@pytest.mark.parametrize(
    ("weights", "quotas"),
    [
        ([1.0], [10_000]),
        ([3.0, 1.0], [7500, 2500]),
        ([1.0, 1.0, 1.0], [3334, 3333, 3333]),
        ([0.5, 0.3, 0.2], [5000, 3000, 2000]),
        ([1.0] * 500, [20] * 500),
    ],
)
def test_shares_of_a_block_are_exact(weights: list[float], quotas: list[int]) -> None:
    of = order([50] * len(weights), weights)
    for begin in (0, 10**9 * PERIOD):
        source = of.locate(np.arange(begin, begin + PERIOD)).source
        counts = np.bincount(source, minlength=len(weights))
        assert np.abs(counts - quotas).max() <= (weights == [1.0] * 3)  # thirds: the row over goes round


def by_halving(weights: list[float], names: list[str], rows: int) -> list[int]:
    """The rule of quotas.py in the plainest way: unite the two lightest groups until one is left, then divide and divide."""
    groups = [(Fraction(weight), name, (name,)) for weight, name in zip(weights, names, strict=True)]
    while len(groups) > 1:
        first, second, *groups = sorted(groups, key=lambda group: group[:2])
        groups.append((first[0] + second[0], first[1], (first, second)))
    counts = {}

    def divide(group: tuple, share: int) -> None:
        weight, name, inside = group
        if inside == (name,):
            counts[name] = share
            return
        left = math.floor(share * inside[0][0] / weight + Fraction(1, 2))
        divide(inside[0], left)
        divide(inside[1], share - left)

    divide(groups[0], rows)
    return [counts[name] for name in names]


WEIGHTS = st.lists(st.floats(1e-9, 1e9), min_size=1, max_size=40)


@settings(max_examples=60, deadline=None)
@given(WEIGHTS, st.integers(0, 10**13))
def test_counts_are_those_of_the_plain_rule_and_follow_the_shares(weights: list[float], rows: int) -> None:
    names = [f"{number}" for number in range(len(weights))]
    quotas = Quotas(weights, names)
    before, after = quotas.before(rows), quotas.before(rows + PERIOD)
    assert before.tolist() == by_halving(weights, names, rows)
    assert before.sum() == rows and (after >= before).all()
    shares = [Fraction(weight) * rows / sum(map(Fraction, weights)) for weight in weights]
    assert max(abs(count - share) for count, share in zip(before.tolist(), shares, strict=True)) < 2


@settings(max_examples=20, deadline=None)
@given(st.lists(st.floats(1e-7, 1), min_size=1, max_size=12), st.integers(1, 9))
def test_rows_of_a_phase_are_those_of_its_blocks_one_after_the_other(weights: list[float], blocks: int) -> None:
    """The k-th row of a source, wherever it is, is the k-th of its permutations: nothing is left out between blocks."""
    of, rows = order([50] * len(weights), weights), blocks * PERIOD - 77
    location = of.locate(np.arange(rows))
    counts = np.bincount(location.source, minlength=len(weights))
    assert of.counts(rows).tolist() == counts.tolist()
    for source, count in enumerate(counts.tolist()):
        assert location.epoch[location.source == source].tolist() == [turn // 50 for turn in range(count)]
    shares = np.array(weights) / sum(weights) * (rows + 77)
    assert (np.abs(of.counts(rows + 77) - shares) < 2).all()


def test_a_source_of_few_rows_is_passed_over_as_often_as_a_large_one() -> None:
    of = order([1_000_000, 10], [1_000_000, 10])
    assert of.epochs(1_000_010) == [1.0, 1.0] == of.epochs_asked(1_000_010)
    assert of.epochs(4 * 1_000_010) == [4.0, 4.0]


@pytest.mark.parametrize("weight", [3e-4, 2e-4, 1.3e-5, 1e-6])
def test_small_weights_are_exact_in_the_long_run(weight: float) -> None:
    of = order([10**6, 10**6], [weight, 1 - weight])
    rows = 10**10
    assert abs(of.counts(rows)[0] - weight * rows) <= 1


def test_more_sources_than_a_block_has_rows() -> None:
    of = order([3] * 12_000)
    counts = np.bincount(of.locate(np.arange(3 * PERIOD)).source, minlength=12_000)
    assert counts.sum() == 3 * PERIOD and counts.min() >= 2 and counts.max() <= 3
    assert of.epochs(36_000 * 10**6) == [1e6] * 12_000


def relative(of: Order, rows: int, source: int) -> list[tuple[int, int]]:
    """Epochs and rows of one source in the order they come among the first `rows` rows of the phase."""
    location = of.locate(np.arange(rows))
    chosen = location.source == source
    return list(zip(location.epoch[chosen].tolist(), location.row[chosen].tolist(), strict=True))


def test_a_source_left_out_or_added_before_leaves_the_order_of_the_others() -> None:
    names, rows, weights = ["a", "b", "c", "d"], [40, 50, 60, 70], [0.4, 0.3, 0.2, 0.1]
    whole = {name: relative(order(rows, weights, names=names), 3000, n) for n, name in enumerate(names)}
    for out in range(4):
        left = [number for number in range(4) if number != out]
        chosen = [[values[number] for number in left] for values in (rows, weights, names)]
        of = order(chosen[0], chosen[1], names=chosen[2])  # type: ignore[arg-type]
        for place, number in enumerate(left):
            after, before = relative(of, 3000, place), whole[names[number]]
            shared = min(len(after), len(before))
            assert shared > 100 and after[:shared] == before[:shared]


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
    quotas = np.bincount(source, minlength=len(weights))
    assert (np.abs(excess(source, quotas)) < 1 + len(weights) * quotas / PERIOD).all()


def test_any_stretch_across_blocks_has_nearly_the_shares() -> None:
    source = order([50] * 4, [0.4, 0.3, 0.2, 0.1]).locate(np.arange(PERIOD - 3000, PERIOD + 3000)).source
    shares = np.array([0.4, 0.3, 0.2, 0.1])
    for begin in range(0, 5000, 100):
        assert np.abs(np.bincount(source[begin : begin + 1000]) - 1000 * shares).max() <= 6


def test_sources_do_not_follow_a_pattern() -> None:
    source = order([50, 50]).locate(np.arange(PERIOD)).source
    changes = (np.diff(source) != 0).sum()
    assert 0.55 * PERIOD < changes < 0.8 * PERIOD  # 1/2 by chance alone, 1 when they take turns
    later = order([50, 50]).locate(np.arange(PERIOD, 2 * PERIOD)).source
    assert 0.4 < (source == later).mean() < 0.6


def test_a_rare_source_comes_in_every_few_blocks_at_a_random_place() -> None:
    of = order([10**6, 10**6], [0.5 / PERIOD, 1 - 0.5 / PERIOD])
    places = [np.flatnonzero(of.locate(np.arange(PERIOD) + block * PERIOD).source == 0) for block in range(120)]
    assert [len(place) for place in places] in ([0, 1] * 60, [1, 0] * 60)
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
    location = order([7, 5], [3, 1]).locate(numbers)
    assert location.source.tolist() == [0, 1, 0, 1, 1, 0]
    assert location.epoch.tolist() == [0, 0, 0, 499, 500, 107142857142]
    assert location.row.tolist() == [5, 4, 3, 1, 1, 5]


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
            location = of.locate(np.arange(step * batch, (step + 1) * batch))
            assert time.perf_counter() - began < 0.5
            assert (location.epoch == 0).all()
            assert (location.row >= 0).all() and (location.row < np.array(TRILLIONS)[location.source]).all()
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
