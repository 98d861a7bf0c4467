"""A conversion begins as its parent: under the parent's mask, step 0 is the parent's function exactly (invariant 8)."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ettin_core.checkpoints import native
from ettin_core.data.batch_schedule import BatchSchedule
from ettin_core.data.corpus import Corpus
from ettin_core.data.loader import Loader
from ettin_core.foundation.distributed import ProcessGroup
from ettin_core.model.config import AttentionSpec
from ettin_core.model.transformer import Transformer
from ettin_core.records.folders import RunFolder
from ettin_core.training.config import RunConfig
from ettin_core.training.loop import train
from ettin_core.training.parents import Parent
from tests.runs import MEMBERS, PLACEMENT, tiny_run, train_tiny


def logits(model: Transformer, corpus: Corpus, view: AttentionSpec) -> torch.Tensor:
    """Predictions on rows longer than twice the window."""
    batch = Loader(corpus, 80, BatchSchedule(2), seed=5, phase="probe").batch(0)
    arrays = (torch.from_numpy(array) for array in (batch.tokens, batch.document_ids, batch.position_ids))
    with torch.no_grad():
        return model.eval().logits(model(*arrays, view))


def loaded(run: RunConfig, folder: RunFolder, checkpoint: str) -> Transformer:
    """A model with a checkpoint's weights."""
    model = Transformer(run.model, seed=99)
    model.load_state_dict(native.load(folder.checkpoints / checkpoint, run.name).model)
    return model


@pytest.mark.parametrize(("source", "target"), [("encoder", "decoder"), ("decoder", "encoder"), ("decoder", "mntp")])
def test_step_zero_is_the_parent_under_the_parents_mask(
    source: str, target: str, corpus: Corpus, tmp_path: Path
) -> None:
    parent_run = tiny_run(corpus, source)
    parent_folder = train_tiny(parent_run, tmp_path, corpus)
    summary = parent_folder.summary()
    start = Parent(parent_run.name, summary["final_checkpoint"], summary["final_weights"])
    child_run = replace(tiny_run(corpus, target), parent=start)
    weights = native.load(parent_folder.checkpoints / start.checkpoint, parent_run.name).model
    child_folder = RunFolder(tmp_path / child_run.name)
    train(child_run, child_folder, corpus, PLACEMENT, ProcessGroup(), parent_weights=weights, stop_after=1)

    parent_attention = parent_run.phases[-1].attention(parent_run.direction)
    child_attention = replace(parent_attention, direction=child_run.direction)
    parent = logits(loaded(parent_run, parent_folder, start.checkpoint), corpus, parent_attention)
    child = loaded(child_run, child_folder, "step0")
    assert torch.equal(logits(child, corpus, parent_attention), parent)
    assert not torch.allclose(logits(child, corpus, child_attention), parent, atol=1e-3)


def test_members_of_every_kind_have_the_same_parameters(corpus: Corpus) -> None:
    shapes = [
        {name: value.shape for name, value in Transformer(tiny_run(corpus, m).model).state_dict().items()}
        for m in MEMBERS
    ]
    assert shapes[0] == shapes[1] == shapes[2]
