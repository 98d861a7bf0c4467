"""Work done ahead: the same results in the same order for any number of workers, and nothing left behind."""

import gc
import os
import signal
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch

from ettin_core.data.batch_schedule import BatchSchedule
from ettin_core.data.corpus import Corpus
from ettin_core.data.loader import Batch, Loader
from ettin_core.data.prefetch import feed
from ettin_core.foundation.errors import UserError

WORKERS = [0, 1, 3]
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")  # more workers than cores


@pytest.fixture(autouse=True)
def _no_processes_are_left() -> Iterator[None]:
    """Every test ends with as many child processes as it began with."""
    before = children()
    yield
    gc.collect()
    _, alive = psutil.wait_procs(children() - before, timeout=3)
    assert not alive


def children() -> set[psutil.Process]:
    """The processes that this one started."""
    return set(psutil.Process().children(recursive=True))


def slow_when_even(step: int) -> int:
    """A step's square; even steps take longer than odd ones."""
    time.sleep(0.02 * (step % 2 == 0))
    return step * step


@pytest.mark.parametrize("workers", WORKERS)
def test_results_come_in_order(workers: int) -> None:
    assert list(feed(slow_when_even, range(3, 14), workers)) == [step * step for step in range(3, 14)]


@pytest.mark.parametrize("workers", WORKERS)
@pytest.mark.parametrize("steps", [range(0), range(5, 5), range(7, 3)])
def test_no_steps_give_nothing(steps: range, workers: int) -> None:
    assert list(feed(slow_when_even, steps, workers)) == []


@pytest.mark.parametrize("workers", WORKERS)
def test_fewer_steps_than_workers(workers: int) -> None:
    assert list(feed(slow_when_even, range(2, 3), workers)) == [4]


@pytest.mark.parametrize("workers", WORKERS)
def test_batches_are_the_same(corpus: Corpus, workers: int) -> None:
    alone, fed = (Loader(corpus, 48, BatchSchedule(8), seed=1, phase="pretrain", packing="best_fit") for _ in range(2))
    for step, batch in zip(range(4, 12), feed(fed.batch, range(4, 12), workers), strict=True):
        expected = alone.batch(step)
        assert isinstance(batch, Batch) and batch.digest() == expected.digest()
        for name in ("tokens", "document_ids", "position_ids", "rows", "sources"):
            left, right = getattr(batch, name), getattr(expected, name)
            assert type(left) is np.ndarray and left.dtype == right.dtype and np.array_equal(left, right)


def assorted(step: int) -> Any:
    """Values of types that a collation could change."""
    return [(step, np.arange(step)), {"a": 1.5}, "text", None]


@pytest.mark.parametrize("workers", WORKERS)
def test_what_is_made_arrives_as_it_is(workers: int) -> None:
    for step, item in enumerate(feed(assorted, range(5), workers)):
        (number, array), *others = item
        assert type(item[0]) is tuple and number == step
        assert type(array) is np.ndarray and array.tolist() == list(range(step))
        assert others == [{"a": 1.5}, "text", None]


def test_workers_run_beside_the_caller() -> None:
    made_by = set(feed(lambda step: os.getpid(), range(12), 3))
    assert len(made_by) == 3 and os.getpid() not in made_by
    assert set(feed(lambda step: os.getpid(), range(3), 0)) == {os.getpid()}


def test_work_is_done_ahead(tmp_path: Path) -> None:
    def make(step: int) -> int:
        (tmp_path / str(step)).touch()
        return step

    fed = feed(make, range(100), 2)
    assert next(fed) == 0
    deadline = time.monotonic() + 10
    while len(list(tmp_path.iterdir())) < 4 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.1)
    assert 4 <= len(list(tmp_path.iterdir())) <= 8, "a few steps, not all"


def fails_at(bad: int, step: int) -> int:
    """The step; raises at one."""
    if step == bad:
        raise UserError("the shard is damaged")
    return step


@pytest.mark.parametrize("workers", WORKERS)
def test_an_error_reaches_the_caller_at_its_step(workers: int) -> None:
    before = children()
    fed = feed(partial(fails_at, 7), range(4, 20), workers)
    assert [next(fed) for _ in range(3)] == [4, 5, 6]
    with pytest.raises(UserError, match="the shard is damaged") as caught:
        next(fed)
    assert workers == 0 or "in fails_at" in str(caught.value), "it says where"
    assert children() == before, "while the error is held"


@pytest.mark.parametrize("workers", WORKERS)
def test_an_error_of_the_caller_ends_the_workers(workers: int) -> None:
    before = children()
    with pytest.raises(ZeroDivisionError) as caught:
        for item in feed(slow_when_even, range(20), workers):
            assert len(children() - before) == workers
            print(1 / item)
    assert caught.value.__traceback__ is not None and children() == before


def dies_at(bad: int, step: int) -> int:
    """The step; the process is killed at one, as for want of memory."""
    if step == bad:
        os.kill(os.getpid(), signal.SIGKILL)
    return step


def test_a_worker_that_dies_is_noticed() -> None:
    seen: list[int] = []
    with pytest.raises(RuntimeError, match=r"worker.* (exited unexpectedly|killed by signal)"):
        seen += feed(partial(dies_at, 4), range(20), 1)
    assert seen == list(range(len(seen))) and len(seen) <= 4


def test_stopping_early_leaves_no_process() -> None:
    before = children()
    fed = feed(slow_when_even, range(1000), 3)
    assert next(fed) == 0
    started = children() - before
    assert len(started) == 3
    del fed
    _, alive = psutil.wait_procs(started, timeout=2)
    assert not alive


def test_leaving_a_loop_leaves_no_process() -> None:
    before = children()
    for _ in feed(slow_when_even, range(1000), 2):
        assert len(children() - before) == 2
        break
    gc.collect()
    _, alive = psutil.wait_procs(children() - before, timeout=2)
    assert not alive


def test_torchs_random_stream_stays_where_it_is() -> None:
    before = torch.get_rng_state()
    assert len(list(feed(slow_when_even, range(4), 2))) == 4
    assert torch.equal(torch.get_rng_state(), before)
