"""Members of a pair start alike and see the same data, whatever the placement (invariants 1 to 4)."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from ettin_core.data.batch_schedule import BatchSchedule
from ettin_core.data.corpus import Corpus
from ettin_core.data.loader import Loader
from ettin_core.data.packing import PACKINGS
from ettin_core.foundation.distributed import ProcessGroup, join, leave
from ettin_core.model.transformer import Transformer
from ettin_core.objectives.targets import Masking, Vocabulary
from ettin_core.optim.update import Update
from ettin_core.records.folders import RunFolder
from ettin_core.training.config import RunConfig
from ettin_core.training.loop import train
from ettin_core.training.loss_module import LossModule, MicroBatch
from ettin_core.training.step import StepSettings, TrainState, optimizer_step
from tests.processes import run_group
from tests.runs import MEMBERS, PLACEMENT, targets_of, tiny_run, train_tiny

RUNS = [("encoder", "stream", 0), ("decoder", "stream", 2), ("encoder", "off", 0), ("decoder", "best_fit", 1)]


def packed(run: RunConfig, packing: str) -> RunConfig:
    """A run whose phases fill their rows in another way."""
    phases = {name: replace(phase, packing=packing) for name, phase in run.recipe.phases.items()}
    return replace(run, recipe=replace(run.recipe, phases=phases))


@pytest.fixture(scope="module")
def summaries(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Summaries of every member, and of the encoder with micro-batches and with workers that make its batches."""
    root = tmp_path_factory.mktemp("pair")
    found = {member: train_tiny(tiny_run(corpus, member), root, corpus).summary() for member in MEMBERS}
    micro = replace(PLACEMENT, micro_rows=2)
    fed = replace(PLACEMENT, micro_rows=4, workers=2)
    found["fed"] = train_tiny(tiny_run(corpus), root / "fed", corpus, placement=fed).summary()
    found["root"] = root
    found["micro"] = train_tiny(tiny_run(corpus), root / "micro", corpus, placement=micro).summary()
    return found


def of(summaries: dict[str, Any]) -> list[dict[str, Any]]:
    """The summaries proper."""
    return [summary for name, summary in summaries.items() if name != "root"]


def test_members_start_bitwise_equal(summaries: dict[str, Any]) -> None:
    assert len({summary["initial_weights"] for summary in of(summaries)}) == 1


def test_another_seed_starts_elsewhere(corpus: Corpus, summaries: dict[str, Any]) -> None:
    run = tiny_run(corpus)
    one, other = (Transformer(run.model, seed).embedding.weight for seed in (21, 22))
    assert not torch.equal(one, other)


def test_members_see_the_same_data(summaries: dict[str, Any]) -> None:
    assert len({summary["data_hash"] for summary in of(summaries)}) == 1
    assert len({summary["tokens"] for summary in of(summaries)}) == 1


def test_another_order_is_noticed(corpus: Corpus, tmp_path: Path, summaries: dict[str, Any]) -> None:
    run = tiny_run(corpus)
    other = replace(run, seeds=replace(run.seeds, order=22))
    assert train_tiny(other, tmp_path, corpus).summary()["data_hash"] != summaries["encoder"]["data_hash"]


def test_two_processes_give_the_same_run(corpus: Corpus, tmp_path: Path, summaries: dict[str, Any]) -> None:
    def all_runs() -> None:
        for member, packing, workers in RUNS:
            run = packed(tiny_run(corpus, member), packing)
            train(run, RunFolder(tmp_path / run.name), corpus, replace(PLACEMENT, workers=workers), join("gloo"))
        leave()

    run_group(tmp_path, all_runs)
    for member, packing, _ in RUNS:
        run = packed(tiny_run(corpus, member), packing)
        alone = train_tiny(run, summaries["root"], corpus).summary()
        summary = RunFolder(tmp_path / run.name).summary()
        for field in ("initial_weights", "data_hash", "tokens", "loss_tokens", "flops"):
            assert summary[field] == alone[field], field
        one, two = (RunFolder(root / run.name).training() for root in (summaries["root"], tmp_path))
        for single, together in zip(one, two, strict=True):
            assert together.loss == pytest.approx(single.loss, rel=1e-4)
            assert together.gradient_norm == pytest.approx(single.gradient_norm, rel=1e-3)


@pytest.mark.parametrize("packing", ["best_fit", "off"])
def test_members_see_the_same_data_in_every_packing(packing: str, corpus: Corpus, tmp_path: Path) -> None:
    runs = [packed(tiny_run(corpus, member), packing) for member in MEMBERS]
    folders = [train_tiny(run, tmp_path, corpus) for run in runs]
    assert len({folder.summary()["data_hash"] for folder in folders}) == 1
    real = sum(
        int(phase.loader(corpus, runs[0].seeds.order).batch(step).real.sum())
        for phase in runs[0].phases
        for step in range(phase.steps)
    )
    assert {folder.summary()["tokens"] for folder in folders} == {real}
    assert real < runs[0].tokens, "padding is not text"
    for folder in folders:
        assert all(math.isfinite(row.loss) and 0 < row.loss < 8 for row in folder.training())


def gradients(corpus: Corpus, member: str, packing: str, parts: int) -> dict[str, torch.Tensor]:
    """Gradients of one step taken in `parts` micro-batches where only two of the eight rows bear a loss."""
    run = tiny_run(corpus, member)
    model = Transformer(run.model, 3)
    loader = Loader(corpus, 300, BatchSchedule(8), seed=1, phase="test", packing=packing)
    vocabulary = Vocabulary.of(corpus.tokenizer)
    pieces = []
    assert loader.batch(0).real.all() == (packing == "stream"), "rows with padding are what is tested"
    for part in range(parts):
        batch = loader.batch(0, part, parts)
        targets = targets_of(run.objective.name, batch, vocabulary, Masking(0.3), 7)
        keep = batch.rows[targets.scored_positions // batch.tokens.shape[1]] < 2
        pieces.append(
            MicroBatch(
                batch, replace(targets, scored_positions=targets.scored_positions[keep], labels=targets.labels[keep])
            )
        )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    state = TrainState(LossModule(model), Update(optimizer), ProcessGroup(), torch.device("cpu"))
    optimizer_step(state, pieces, StepSettings(run.phases[0].attention, 0.0))
    return {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}


@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize("member", MEMBERS)
def test_accumulation_does_not_change_the_gradient(member: str, packing: str, corpus: Corpus) -> None:
    whole, parts = (gradients(corpus, member, packing, number) for number in (1, 4))
    assert whole.keys() == parts.keys()
    for name, gradient in whole.items():
        scale = float(gradient.abs().max()) + 1e-12
        assert float((gradient - parts[name]).abs().max()) <= 1e-5 * scale, name
