"""Monitoring of training: true numbers, the same for any division, and without influence on the run."""

import json
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ettin_core.data.config import DataConfig
from ettin_core.data.corpus import Corpus
from ettin_core.data.preparation.prepare import prepare
from ettin_core.foundation.distributed import ProcessGroup
from ettin_core.model import attention_backends
from ettin_core.model.attention_mask import row_attention_mask
from ettin_core.model.logit_probe import QUERIES, LogitProbe, largest_logit
from ettin_core.model.transformer import Transformer
from ettin_core.objectives.targets import Masking, Vocabulary, mask_key
from ettin_core.optim.build import build_optimizer
from ettin_core.optim.config import OptimizerConfig
from ettin_core.optim.update import Update
from ettin_core.records.folders import RunFolder
from ettin_core.training.config import PlacementConfig
from ettin_core.training.diagnostics import probed
from ettin_core.training.hardware import measured_flops, peak_flops
from ettin_core.training.loss_module import LossModule, MicroBatch
from ettin_core.training.monitor import truncate_rows
from ettin_core.training.step import StepSettings, TrainState, optimizer_step
from ettin_core.training.trackers import check_trackers
from tests.runs import MEMBERS, PLACEMENT, final_state, targets_of, tiny_run, train_tiny

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """A corpus of two sources, one of them easier to predict."""
    folder = tmp_path_factory.mktemp("two-sources")
    for name in ("easy", "hard"):
        for split, numbers in {"train": range(300), "validation": range(1), "test": range(1)}.items():
            last = [split] if split != "train" else []
            rows = [{"text": " ".join([*_words(name, number), *last])} for number in numbers]
            (folder / f"{name}.{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return prepare(DataConfig(kind="text", name="two", path=str(folder), vocab_size=512), folder / "out", 1)


def _words(source: str, number: int) -> list[str]:
    chance = random.Random(f"{source}{number}")
    return [f"{source}{place % 3 if source == 'easy' else chance.randrange(200)}" for place in range(60)]


@pytest.mark.parametrize("window", [None, 7])
@pytest.mark.parametrize("direction", ["bidirectional", "causal"])
def test_the_largest_logit_is_that_of_the_whole_matrix(direction: str, window: int | None) -> None:
    generator = torch.Generator().manual_seed(3)
    length = QUERIES + 30
    documents = torch.arange(length).div(100, rounding_mode="floor").repeat(2, 1)
    documents[1, -20:] = -1
    query, key = (torch.randn(2, 3, length, 8, generator=generator) for _ in range(2))
    key[1, :, -20:] *= 100  # padding, which nobody looks at
    key[0, :, 99] *= 10  # the last of its document: a causal query of that document cannot look at it but itself
    seen = row_attention_mask(documents, direction, window) & (documents[:, :, None] >= 0)
    logits = query @ key.transpose(-1, -2) / 8**0.5
    expected = logits[seen[:, None].expand_as(logits)].max()
    torch.testing.assert_close(largest_logit(query, key, documents, direction, window), expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("member", MEMBERS)
def test_a_diagnosis_is_what_it_says(member: str, corpus: Corpus) -> None:
    run = tiny_run(corpus, member, optimizer=OptimizerConfig("adamw", 1e-2, 0.0))
    phase, model = run.phases[1], Transformer(run.model, 3)
    loss_module = LossModule(model)
    optimizer = build_optimizer(run.optimizer, model)
    batch = phase.loader(corpus, 5).batch(0)
    vocabulary = Vocabulary.of(corpus.tokenizer)
    targets = targets_of(run.objective.name, batch, vocabulary, Masking(0.3), mask_key(1, "x"))
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    state, settings = (
        TrainState(loss_module, Update(optimizer), ProcessGroup(), CPU),
        StepSettings(phase.attention, 1e-2),
    )
    micro = MicroBatch(batch, targets)
    with probed(True, state, model, micro, settings) as probe:
        assert model.probe is None and loss_module.training
        optimizer_step(state, [micro], settings)
    diagnosis = probe.diagnosis
    assert diagnosis is not None
    embedding = model.embedding.weight.detach()
    ratio = float((embedding - before["embedding.weight"]).norm() / before["embedding.weight"].norm())
    assert diagnosis.update_ratios["embedding"] == pytest.approx(ratio, rel=1e-5)
    assert set(diagnosis.update_ratios) == {"embedding", "attention", "mlp", "norms", "head"}
    assert len(diagnosis.attention_logits) == run.model.num_layers
    # layer 0 by hand: the normed embeddings of the first row, projected; its positions turn them
    states = F.layer_norm(before["embedding.weight"][targets.inputs[:1]], (32,), before["embedding_norm.weight"])
    projected = F.linear(states, before["layers.0.attention.query_key_value.weight"]).unflatten(-1, (3, 2, 16))
    query, key, _ = projected.permute(2, 0, 3, 1, 4)
    bound = query.norm(dim=-1).max() * key.norm(dim=-1).max() / 4
    assert 0 < diagnosis.attention_logits[0] <= float(bound)


def test_the_probe_changes_no_output(corpus: Corpus) -> None:
    documents = torch.zeros(1, 20, dtype=torch.long)
    query, key, value = (torch.randn(1, 2, 20, 8) for _ in range(3))
    plain = attention_backends.make_attention("sdpa", documents, "causal", None)(query, key, value)
    probe = LogitProbe()
    probed_attention = probe.wrap(
        attention_backends.make_attention("sdpa", documents, "causal", None), documents, "causal", None
    )
    assert torch.equal(probed_attention(query, key, value), plain) and len(probe.largest) == 1


def test_loss_by_source_adds_up(mixed: Corpus, tmp_path: Path) -> None:
    """The mean over sources, weighted by their loss-bearing tokens, is the loss; micro-batches do not matter."""
    run = tiny_run(mixed, "decoder")
    alone = train_tiny(run, tmp_path / "whole", mixed).training()
    divided = train_tiny(run, tmp_path / "parts", mixed, placement=replace(PLACEMENT, micro_rows=2)).training()
    for row, divided_row in zip(alone, divided, strict=True):
        assert set(row.source_losses) == set(mixed.sources) == {"easy", "hard"}
        assert min(row.source_losses.values()) <= row.loss <= max(row.source_losses.values())
        assert divided_row.source_losses == pytest.approx(row.source_losses, rel=1e-5)
        assert len(row.attention_logits) == 4 and all(np.isfinite(row.attention_logits))
        assert all(0 < ratio < 1 for ratio in row.update_ratios.values())
    assert alone[-1].source_losses["easy"] < alone[-1].source_losses["hard"] - 0.05


@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_looking_more_often_does_not_change_the_run(dropout: float, corpus: Corpus, tmp_path: Path) -> None:
    run = tiny_run(corpus)
    run = replace(run, model=replace(run.model, attention_output_dropout=dropout))
    seldom, often = (
        final_state(train_tiny(run, tmp_path / str(every), corpus, placement=replace(PLACEMENT, log_every=every)))
        for every in (6, 1)
    )
    assert seldom["model"] == often["model"] and seldom["optimizer"] == often["optimizer"]


def test_tensorboard_shows_what_is_recorded(corpus: Corpus, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = tiny_run(corpus)
    train_tiny(run, tmp_path, corpus, stop_after=7)  # the last checkpoint is of step 4: row 6 is taken back
    folder = train_tiny(run, tmp_path, corpus)
    shown = EventAccumulator(str(folder.path / "tensorboard"))
    shown.Reload()
    rows = folder.training()
    events = shown.Scalars("loss")
    assert [event.step for event in events] == [row.tokens for row in rows]
    assert [event.value for event in events] == pytest.approx([row.loss for row in rows], rel=1e-6)
    assert {"gradient_norm", "tokens_per_second", "mfu", "update_ratio/mlp", "attention_logit/layer_3"} <= set(
        shown.Tags()["scalars"]
    )


def test_weights_and_biases_mirror_offline(corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    placement = replace(PLACEMENT, trackers=("wandb",))
    with_it = train_tiny(tiny_run(corpus), tmp_path / "with", corpus, placement=placement)
    without = train_tiny(tiny_run(corpus), tmp_path / "without", corpus, placement=replace(PLACEMENT, trackers=()))
    assert final_state(with_it) == final_state(without)
    files = list(with_it.path.glob("wandb/offline-run-*/*.wandb"))
    assert len(files) == 1 and with_it.name in files[0].name
    assert b"attention_logit/layer_3" in files[0].read_bytes()


def test_an_unknown_tracker_is_refused() -> None:
    with pytest.raises(ValueError, match=r"placement\.trackers='neptune' is not a tracker"):
        check_trackers(("neptune",))


def test_a_run_leaves_signs_of_life(corpus: Corpus, tmp_path: Path) -> None:
    run = tiny_run(corpus)
    folder = RunFolder(tmp_path / run.name)
    train_tiny(run, tmp_path, corpus, stop_after=5)
    sign = json.loads(folder.heartbeat_file.read_text())
    assert 1 <= sign["step"] <= 5 and sign["of"] == run.tokens and sign["clock"] == sign["step"] * 8 * 48


def test_mfu_is_a_share_of_what_the_device_can_do(corpus: Corpus, tmp_path: Path) -> None:
    """On one thread a tiny model uses something of it and never all: FLOPs, seconds and peak fit each other."""
    peak = peak_flops(CPU, "fp32")
    assert 1e9 < peak < 1e13 and peak < 20 * measured_flops(CPU, torch.float32)
    shares = [row.mfu for row in train_tiny(tiny_run(corpus), tmp_path, corpus).timing()]
    assert all(share is not None and 0 < share < 1 for share in shares)


def test_no_tracker_is_a_choice(corpus: Corpus, tmp_path: Path) -> None:
    folder = train_tiny(tiny_run(corpus), tmp_path, corpus, placement=PlacementConfig(device="cpu", trackers=()))
    assert not (folder.path / "tensorboard").exists() and folder.complete


@pytest.mark.parametrize("content", [b"\0\xff" * 500, b'{"a": 1}\n'])
def test_rows_that_are_not_there_are_not_continued(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"metrics.jsonl' has 1 rows instead of 2; restore it, or delete the run"):
        truncate_rows(file, 2)
    assert file.read_bytes() == content
