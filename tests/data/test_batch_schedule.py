"""The batch grows in equal stages; where a step begins is a closed form that agrees with adding up."""

import itertools

import numpy as np
import pytest

from ettin_core.data.batch_schedule import BatchSchedule
from ettin_core.data.corpus import Corpus
from ettin_core.data.loader import Loader


@pytest.mark.parametrize(
    "schedule", [BatchSchedule(12, 4, 3), BatchSchedule(12, 3, 5), BatchSchedule(7), BatchSchedule(6, 6, 1)]
)
def test_a_step_begins_where_the_ones_before_end(schedule: BatchSchedule) -> None:
    sizes = [schedule.rows_of(step) for step in range(40)]
    assert [schedule.before(step) for step in range(41)] == [0, *itertools.accumulate(sizes)]


def test_stages_are_equal_in_steps_and_grow_evenly() -> None:
    schedule = BatchSchedule(4608, stages=4, stage_steps=2)
    assert [schedule.rows_of(step) for step in range(8)] == [1152, 1152, 2304, 2304, 3456, 3456, 4608, 4608]
    assert schedule.sizes == [1152, 2304, 3456, 4608]
    assert schedule.warmup_steps == 6


def test_far_away_is_immediate() -> None:
    schedule = BatchSchedule(4608, stages=4, stage_steps=17_661)
    assert schedule.before(10**9) == 17_661 * (1152 + 2304 + 3456) + (10**9 - 3 * 17_661) * 4608


def test_the_rows_of_a_growing_batch_are_those_of_a_constant_one(corpus: Corpus) -> None:
    growing = Loader(corpus, 48, BatchSchedule(8, 4, 3), seed=1, phase="pretrain")
    constant = Loader(corpus, 48, BatchSchedule(2), seed=1, phase="pretrain")
    parts = [growing.batch(step, part, micro_batches=2) for step in range(12) for part in range(2)]
    rows = np.concatenate([batch.rows for batch in parts])
    assert rows.tolist() == list(range(18 + 36 - 12 + 3 * 6))[: len(rows)]
    tokens = np.concatenate([batch.tokens for batch in parts])
    expected = np.concatenate([constant.batch(step).tokens for step in range(len(rows) // 2)])
    assert (tokens == expected).all()
