"""Micro-batches reach a device as they are, in one copy; a GPU's scored positions are padded, which changes no number."""

import numpy as np
import pytest
import torch

from ettin_core.data.corpus import Corpus
from ettin_core.model.transformer import Transformer
from ettin_core.objectives import loss
from ettin_core.objectives.targets import Targets, Vocabulary
from ettin_core.training.loss_module import LossModule, MicroBatch, pack, padded, tensors, unpack
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


@pytest.mark.parametrize("member", ["encoder", "decoder"])
def test_padding_leaves_few_shapes_and_changes_no_number(
    member: str, corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(loss.SOFTMAX, "cpu", loss.softmax_in_one_pass)
    monkeypatch.setattr(loss, "_compiled", lambda: loss.losses_and_gradient)
    run, cpu = tiny_run(corpus, member), torch.device("cpu")
    phase, vocabulary = run.phases[0], Vocabulary.of(corpus.tokenizer)
    batches = [phase.loader(corpus, run.seeds.order).batch(step) for step in range(12)]
    targets = [run.targets(batch, phase, step, vocabulary) for step, batch in enumerate(batches)]
    counts = [len(one.labels) for one in targets]
    sizes = [len(padded(one).labels) for one in targets]
    assert len(set(sizes)) < 4 <= len(set(counts)) and all(0 <= s - c < 12 for s, c in zip(sizes, counts, strict=True))
    module = LossModule(Transformer(run.model))
    found = []
    for one in (targets[0], padded(targets[0])):
        value, each = module(*tensors(MicroBatch(batches[0], one), cpu), phase.attention(one.direction))
        assert not each[counts[0] :].any()
        found.append([value, each[: counts[0]], *torch.autograd.grad(value, list(module.parameters()))])
    for left, right in zip(*found, strict=True):
        torch.testing.assert_close(left, right, rtol=1e-5, atol=1e-5)


@pytest.mark.gpu
def test_a_gpu_gets_what_a_cpu_has(micro: MicroBatch) -> None:
    there = tensors(micro, torch.device("cuda"))
    here = tensors(micro._replace(targets=padded(micro.targets)), torch.device("cpu"))
    for left, right in zip(here, there, strict=True):
        if left is None or right is None:
            assert left is right
        else:
            assert left.dtype == right.dtype and torch.equal(left, right.cpu())
