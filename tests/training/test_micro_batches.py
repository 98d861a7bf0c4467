"""Micro-batches reach a device as they are, in one copy."""

import numpy as np
import pytest
import torch

from ettin_core.data.corpus import Corpus
from ettin_core.objectives.targets import Targets
from ettin_core.training.loss_module import MicroBatch, pack, tensors, unpack
from tests.runs import tiny_run


@pytest.fixture(params=[False, True], ids=["no prefix", "prefix"])
def micro(corpus: Corpus, request: pytest.FixtureRequest) -> MicroBatch:
    """Rows of the tiny run with some scored positions, with and without a prefix mask."""
    run = tiny_run(corpus)
    batch = run.phases[1].loader(corpus, run.seeds.order).batch(0)
    positions = np.array([3, 80, 81, batch.tokens.size - 1])
    prefix_mask = batch.position_ids < 5 if request.param else None
    return MicroBatch(batch, Targets(batch.tokens, positions, batch.tokens.ravel()[positions], "causal", prefix_mask))


def test_one_copy_of_32_bits_holds_all(micro: MicroBatch) -> None:
    arrays = [array for array in tensors(micro, torch.device("cpu")) if array is not None]
    packed = pack([array.numpy() for array in arrays])
    assert packed.dtype == torch.int32 and packed.numel() == sum(array.numel() for array in arrays)
    for copy, array in zip(unpack(packed, [array.numpy() for array in arrays]), arrays, strict=True):
        assert copy.dtype == torch.int64 and copy.shape == array.shape and torch.equal(copy, array.long())


def test_nothing_scored_is_packed_too() -> None:
    arrays = [np.arange(6).reshape(2, 3), np.zeros(0, dtype=np.int64)]
    copies = unpack(pack(arrays), arrays)
    assert [copy.shape for copy in copies] == [(2, 3), (0,)]


@pytest.mark.gpu
def test_a_gpu_gets_what_a_cpu_has(micro: MicroBatch) -> None:
    here, there = (tensors(micro, torch.device(name)) for name in ("cpu", "cuda"))
    for left, right in zip(here, there, strict=True):
        if left is None or right is None:
            assert left is right
        else:
            assert left.dtype == right.dtype and torch.equal(left, right.cpu())
