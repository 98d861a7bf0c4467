"""The progress of a run: counts and the rolling hash depend on the data, not on its division or on where it resumed."""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pytest

from ettin_core.data.corpus import Corpus
from ettin_core.data.loader import Loader, document_lengths
from ettin_core.data.packing import PACKINGS
from ettin_core.foundation.distributed import ProcessGroup
from ettin_core.objectives.targets import Targets
from ettin_core.training.config import RunConfig
from ettin_core.training.progress import Progress, update_progress
from ettin_core.training.step import StepResult
from tests.runs import tiny_run

STEPS = 6
NONE = np.zeros(0, dtype=np.int64)


@pytest.fixture
def run(corpus: Corpus) -> RunConfig:
    """The tiny run."""
    return tiny_run(corpus)


def loader(run: RunConfig, corpus: Corpus, packing: str, **changes: int) -> Loader:
    """The rows of the run's second phase in some packing."""
    return replace(run.phases[1], packing=packing, **changes).loader(corpus, run.seeds.order)  # type: ignore[arg-type]


def progress_after(
    run: RunConfig, of: Loader, steps: Iterable[int], parts: int = 1, progress: Progress | None = None
) -> Progress:
    """The progress after these steps, each in `parts` micro-batches."""
    progress = progress or Progress()
    for step in steps:
        batches = [of.batch(step, part, parts) for part in range(parts)]
        micro_batches = [(batch, Targets(batch.tokens, NONE, NONE, run.direction)) for batch in batches]
        progress = update_progress(run, progress, micro_batches, 7, ProcessGroup()).with_result(StepResult(2.5, 7, 1.0))
    return progress


@pytest.mark.parametrize("parts", [2, 4, 8])
@pytest.mark.parametrize("packing", PACKINGS)
def test_progress_does_not_depend_on_the_division(run: RunConfig, corpus: Corpus, packing: str, parts: int) -> None:
    of = loader(run, corpus, packing)
    whole, divided = (progress_after(run, of, range(STEPS), number) for number in (1, parts))
    assert divided == whole


@pytest.mark.parametrize("stop", [1, 4])
@pytest.mark.parametrize("packing", PACKINGS)
def test_the_hash_rolls_on_where_it_stopped(run: RunConfig, corpus: Corpus, packing: str, stop: int) -> None:
    straight = progress_after(run, loader(run, corpus, packing), range(STEPS))
    before = progress_after(run, loader(run, corpus, packing), range(stop))
    after = progress_after(run, loader(run, corpus, packing), range(stop, STEPS), 2, before)
    assert after == straight and len({before.data_hash, after.data_hash, ""}) == 3


def test_the_hash_sees_what_was_read_and_in_which_order(run: RunConfig, corpus: Corpus) -> None:
    of = loader(run, corpus, "stream")
    progresses = [
        progress_after(run, of, range(3)),
        progress_after(run, of, range(1, 4)),
        progress_after(run, of, [1, 0, 2]),
        progress_after(run, of, range(2)),
        *(progress_after(run, loader(run, corpus, packing), range(3)) for packing in ("best_fit", "off")),
    ]
    assert len({progress.data_hash for progress in progresses}) == len(progresses)


@pytest.mark.parametrize("packing", PACKINGS)
def test_tokens_are_counted_without_padding(run: RunConfig, corpus: Corpus, packing: str) -> None:
    of = loader(run, corpus, packing, context=400)
    progress = progress_after(run, of, range(STEPS))
    real = [int(of.batch(step).real.sum()) for step in range(STEPS)]
    assert progress.tokens == sum(real)
    assert (sum(real) > 0.985 * STEPS * 8 * 400) == (packing == "stream"), "padding is there to be left out"
    assert (progress.step, progress.global_step, progress.loss_tokens) == (STEPS, STEPS, 7 * STEPS)
    assert (progress.window_loss, progress.window_tokens) == (2.5 * STEPS, 7 * STEPS)


@pytest.mark.parametrize("packing", PACKINGS)
def test_lengths_are_those_of_the_pieces(run: RunConfig, corpus: Corpus, packing: str) -> None:
    of = loader(run, corpus, packing)
    batch = of.batch(0)
    location = of.order.locate(batch.rows)
    bos = corpus.tokenizer.special.bos
    expected = []
    for row in location.row.tolist():
        for piece in of.rows[0].read(row):
            begins = np.union1d([0], np.flatnonzero(piece == bos))
            expected += np.diff(np.append(begins, len(piece))).tolist()
    assert sorted(document_lengths(batch).tolist()) == sorted(expected)
