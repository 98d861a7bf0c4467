"""Fifty steps of two processes, DDP or FSDP2, lose what one process loses, though one of them scores next to nothing."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ettin_core.data.corpus import Corpus
from ettin_core.data.loader import Batch
from ettin_core.foundation.distributed import join, leave
from ettin_core.objectives import kinds
from ettin_core.objectives.kinds.mlm import mlm
from ettin_core.objectives.targets import Masking, Objective, Vocabulary
from ettin_core.records.folders import RunFolder
from ettin_core.training.config import PARALLEL, RunConfig
from ettin_core.training.loop import train
from ettin_core.training.phases import PhaseRecipe
from tests.processes import run_group
from tests.runs import PLACEMENT, tiny_run, train_tiny

ROWS, STEPS, CONTEXT = 8, 50, 64
EVERY_STEP = replace(PLACEMENT, log_every=1)


def scored_unevenly(
    batch: Batch, vocabulary: Vocabulary, masking: Masking, key: int, opened: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """MLM whose second half of the rows, the second process's, has one scored position every other step, else none."""
    inputs, read, labels = mlm(batch, vocabulary, masking, key, opened)
    step, row = divmod(batch.rows[read // batch.tokens.shape[1]], ROWS)
    rest = row >= ROWS // 2
    keep = ~rest | ((rest.cumsum() == 1) & (step % 2 == 0))
    return inputs, read[keep], labels[keep]


UNEVEN_MLM = Objective("mlm", scored_unevenly, corrupts=True)


def fifty_steps(corpus: Corpus) -> RunConfig:
    """The tiny encoder in one phase that masks most tokens."""
    phases = {"pretrain": PhaseRecipe(1.0, CONTEXT, ROWS, "step", warmup_share=0.1, mask_rate=0.8)}
    run = tiny_run(corpus)
    return replace(run, recipe=replace(run.recipe, tokens=STEPS * ROWS * CONTEXT, phases=phases))


@pytest.fixture(scope="module")
def together(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of runs by two processes, one for each way to divide."""
    folder = tmp_path_factory.mktemp("trajectory")

    def by_each() -> None:
        kinds.OBJECTIVES["mlm"] = UNEVEN_MLM
        run = fifty_steps(corpus)
        for parallel in PARALLEL:
            place = RunFolder(folder / parallel / run.name)
            train(run, place, corpus, replace(EVERY_STEP, parallel=parallel), join("gloo"))
        leave()

    run_group(folder, by_each)
    return folder


@pytest.fixture(scope="module")
def alone(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """The same run by one process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(kinds.OBJECTIVES, "mlm", UNEVEN_MLM)
        return train_tiny(fifty_steps(corpus), tmp_path_factory.mktemp("alone"), corpus, placement=EVERY_STEP)


@pytest.mark.parametrize("parallel", PARALLEL)
def test_fifty_steps_lose_the_same(parallel: str, alone: RunFolder, together: Path) -> None:
    one, two = alone.training(), RunFolder(together / parallel / alone.name).training()
    assert len(one) == len(two) == STEPS
    assert [row.loss_tokens for row in one] == [row.loss_tokens for row in two]
    assert one[-1].loss < one[0].loss - 0.5, "something was learnt"
    assert [row.loss for row in two] == pytest.approx([row.loss for row in one], rel=1e-4)
