"""The errors of the training loop, and the files that it leaves behind."""

from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import torch

from ettin_core.checkpoints import native
from ettin_core.checkpoints.retention import CheckpointConfig
from ettin_core.data.corpus import Corpus
from ettin_core.data.loader import Batch, Loader
from ettin_core.data.packing import PACKINGS
from ettin_core.foundation.distributed import ProcessGroup
from ettin_core.foundation.storage import read_json
from ettin_core.model.attention_backends import sdpa
from ettin_core.model.leak_check import LeakError
from ettin_core.model.transformer import Transformer
from ettin_core.objectives.config import ObjectiveConfig
from ettin_core.records.folders import RunFolder
from ettin_core.training.loop import train
from ettin_core.training.phases import RecipeConfig
from ettin_core.training.step import NonFiniteError
from tests.runs import MEMBERS, PLACEMENT, final_state, tiny_run, train_tiny


@pytest.mark.parametrize("member", MEMBERS)
def test_it_learns(member: str, corpus: Corpus, tmp_path: Path) -> None:
    run = tiny_run(corpus, member)
    recipe = RecipeConfig(60_000, {"pretrain": replace(run.recipe.phases["pretrain"], share=1.0)})
    rows = train_tiny(replace(run, recipe=recipe), tmp_path, corpus).training()
    assert rows[-1].loss < rows[0].loss - 1


def test_a_run_folder_holds_its_evidence(corpus: Corpus, tmp_path: Path) -> None:
    run = tiny_run(corpus)
    folder = train_tiny(run, tmp_path, corpus)
    summary = folder.summary()
    assert summary["tokens"] == sum(phase.steps * 8 * phase.context for phase in run.phases)
    assert summary["loss_tokens"] == folder.training()[-1].loss_tokens
    assert {path.name for path in folder.path.iterdir()} >= {
        "COMPLETE",
        "config.yaml",
        "provenance.json",
        "metrics.jsonl",
        "timing.jsonl",
        "data_order.json",
        "checkpoints",
    }
    names = [path.name for path in native.ordered(folder.checkpoints)]
    assert names[0] == "step0"
    assert names[-1] == f"decay{run.phases[-1].steps}"
    assert f"step{run.phases[0].steps}" in names


@pytest.mark.parametrize("packing", PACKINGS)
def test_the_data_order_says_what_each_phase_drew(packing: str, corpus: Corpus, tmp_path: Path) -> None:
    run = tiny_run(corpus)
    phases = run.recipe.phases | {"decay": replace(run.recipe.phases["decay"], packing=packing)}
    run = replace(run, recipe=replace(run.recipe, phases=phases))
    order = read_json(train_tiny(run, tmp_path, corpus).data_order_file)
    assert order["fingerprint"] == corpus.fingerprint and list(order["phases"]) == ["decay", "pretrain"]
    tokens = corpus.tokens("world", "train")
    rows = -(-tokens // 48)
    pretrain, decay = order["phases"]["pretrain"], order["phases"]["decay"]
    assert pretrain == {
        "packing": "stream",
        "repeats": {"world": run.phases[0].steps * 8 / rows},
        "utilisation": {"world": tokens / (rows * 48)},
    }
    rows = run.phases[1].loader(corpus, 0).rows[0].count
    assert decay["packing"] == packing
    assert decay["repeats"] == {"world": run.phases[1].steps * 8 / rows}
    assert order["repeats"]["world"] == pretrain["repeats"]["world"] + decay["repeats"]["world"]
    assert decay["utilisation"] == {"world": tokens / (rows * 80)}
    assert (decay["utilisation"]["world"] > 0.95) == (packing != "off")
    assert int(max(order["steps"], key=int)) == sum(phase.steps for phase in run.phases)


def test_repeats_are_counted_in_rows_of_the_packing(corpus: Corpus, tmp_path: Path) -> None:
    """Without packing a source has more rows, so that the same recipe passes over less of it."""
    run = tiny_run(corpus)
    passes = {}
    for packing in PACKINGS:
        phase = replace(run.phases[0], packing=packing, context=1000)
        passes[packing] = phase.loader(corpus, 0).repeats(phase.steps * 8)["world"]
    assert passes["off"] < 0.5 * passes["best_fit"] and passes["best_fit"] <= passes["stream"]


def test_workers_that_fail_stop_the_run_before_the_update(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = Loader.batch

    def broken(self: Loader, step: int, micro_batch: int = 0, micro_batches: int = 1) -> Batch:
        if step == 6:
            raise ValueError("the shard is damaged")
        return honest(self, step, micro_batch, micro_batches)

    run = tiny_run(corpus)
    with monkeypatch.context() as patch:
        patch.setattr(Loader, "batch", broken)
        with pytest.raises(ValueError, match="the shard is damaged"):
            train_tiny(run, tmp_path / "broken", corpus, placement=replace(PLACEMENT, workers=2))
    assert not psutil.Process().children(), "nor does a worker stay"
    folder = RunFolder(tmp_path / "broken" / run.name)
    assert [path.name for path in native.ordered(folder.checkpoints)] == ["step0", "step4"]
    resumed = train_tiny(run, tmp_path / "broken", corpus)
    assert final_state(resumed) == final_state(train_tiny(run, tmp_path / "straight", corpus))


def test_retention_keeps_what_the_rule_says(corpus: Corpus, tmp_path: Path) -> None:
    run = replace(tiny_run(corpus), checkpoint=CheckpointConfig(every_steps=1, keep_last=2, keep_every_tokens=1920))
    folder = train_tiny(run, tmp_path, corpus)
    names = [path.name for path in native.ordered(folder.checkpoints)]
    assert names == ["step0", "step5", "step10", "step12", "decay2", "decay3", "decay4", "decay5"]


def test_nothing_that_the_checkpoint_rule_says_moves_a_number(corpus: Corpus, tmp_path: Path) -> None:
    run = tiny_run(corpus)
    often = replace(run, checkpoint=CheckpointConfig(every_steps=1))
    assert often.name == run.name
    left, right = (train_tiny(item, tmp_path / str(number), corpus) for number, item in enumerate((run, often)))
    assert left.summary()["final_weights"] == right.summary()["final_weights"]


def test_a_non_finite_loss_stops_before_the_update(corpus: Corpus, tmp_path: Path) -> None:
    run = tiny_run(corpus)
    run = replace(run, optimizer=replace(run.optimizer, learning_rate=1e36), checkpoint=CheckpointConfig(every_steps=1))
    with pytest.raises(NonFiniteError, match=r"phase pretrain, step \d+, global rows \d+ to \d+.*before the update"):
        train_tiny(run, tmp_path, corpus)
    folder = RunFolder(tmp_path / run.name)
    assert not folder.complete
    for checkpoint in native.ordered(folder.checkpoints):
        assert all(torch.isfinite(value).all() for value in native.load(checkpoint).model.values())


def test_weights_that_are_not_numbers_are_refused(corpus: Corpus, tmp_path: Path) -> None:
    run = tiny_run(corpus)
    weights = Transformer(run.model).state_dict()
    weights["embedding.weight"][:] = torch.nan
    with pytest.raises(LeakError, match="not finite"):
        train(run, RunFolder(tmp_path / run.name), corpus, PLACEMENT, ProcessGroup(), parent_weights=weights)


def test_a_leak_refuses_to_train(corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = sdpa.row_attention_mask
    monkeypatch.setattr(
        sdpa,
        "row_attention_mask",
        lambda documents, _, window, prefix_mask: honest(documents, "bidirectional", window),
    )
    with pytest.raises(LeakError, match="must not see it"):
        train_tiny(tiny_run(corpus, "decoder"), tmp_path, corpus)


def test_another_corpus_is_refused(corpus: Corpus, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is not the corpus this run was planned on"):
        train_tiny(replace(tiny_run(corpus), fingerprint="0" * 64), tmp_path, corpus)


def test_a_corpus_too_small_for_the_plan_is_refused(corpus: Corpus, tmp_path: Path) -> None:
    run = tiny_run(corpus)
    with pytest.raises(ValueError, match=r"passes .* times over source 'world' .* recipe.max_epochs"):
        train_tiny(replace(run, recipe=replace(run.recipe, tokens=5_000_000)), tmp_path, corpus)
    assert not (tmp_path / replace(run, recipe=replace(run.recipe, tokens=5_000_000)).name).exists()


def test_a_vocabulary_too_small_for_the_tokenizer_is_refused(corpus: Corpus, tmp_path: Path) -> None:
    run = tiny_run(corpus)
    with pytest.raises(ValueError, match="model.vocab_size=64 is smaller than the tokenizer's"):
        train_tiny(replace(run, model=replace(run.model, vocab_size=64)), tmp_path, corpus)


def test_a_batch_that_does_not_divide_is_refused(corpus: Corpus, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"batch_rows=8 does not divide into 1 processes and micro-batches of 3 rows"):
        train_tiny(tiny_run(corpus), tmp_path, corpus, placement=replace(PLACEMENT, micro_rows=3))


def test_a_leaking_objective_is_refused(corpus: Corpus) -> None:
    with pytest.raises(ValueError, match=r"objective.name='clm' leaks.*use direction=causal"):
        replace(tiny_run(corpus), objective=ObjectiveConfig("clm"))


def test_dropout_is_resumed_exactly(corpus: Corpus, tmp_path: Path) -> None:
    run = tiny_run(corpus)
    run = replace(run, model=replace(run.model, attention_output_dropout=0.1))
    straight = train_tiny(run, tmp_path / "straight", corpus)
    train_tiny(run, tmp_path / "resumed", corpus, stop_after=7)
    resumed = train_tiny(run, tmp_path / "resumed", corpus)
    assert resumed.summary()["final_weights"] == straight.summary()["final_weights"]
