"""A planted NaN stops a run or is left out, read at once (a CPU) or when a row is written (a GPU): the same run either way."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ettin_core.checkpoints import native
from ettin_core.checkpoints.retention import CheckpointConfig
from ettin_core.data.corpus import Corpus
from ettin_core.foundation.distributed import ProcessGroup, join, leave
from ettin_core.model.transformer import Transformer
from ettin_core.objectives.targets import Vocabulary
from ettin_core.optim import build
from ettin_core.optim.config import OptimizerConfig
from ettin_core.optim.stable_adamw import StableAdamW
from ettin_core.records.folders import RunFolder
from ettin_core.training.config import PARALLEL, RunConfig
from ettin_core.training.loop import train
from ettin_core.training.loss_module import LossModule, MicroBatch
from ettin_core.training.step import NonFiniteError, PendingStep, StepSettings, TrainState, begin_step
from tests.processes import run_group
from tests.runs import PLACEMENT, final_state, tiny_run, train_tiny

RULES = {"stable_adamw": OptimizerConfig("stable_adamw", 3e-3, 3e-4), "adamw": OptimizerConfig("adamw", 3e-3, 0.01)}
SELDOM = replace(PLACEMENT, log_every=10)
Patch = pytest.MonkeyPatch


def as_on_a_gpu(patch: Patch) -> None:
    """Optimisers of many tensors at once, which leave an update out by a flag: nobody reads a result before it is needed."""
    fused = torch.optim.AdamW
    patch.setattr(build, "StableAdamW", partial(StableAdamW, foreach=True))
    patch.setattr(torch.optim, "AdamW", lambda *arguments, **options: fused(*arguments, **options | {"fused": True}))


def poison(patch: Patch, *steps: int, rank: int = 0) -> None:
    """Make the loss a NaN in the given forward passes of training (one a step here), counted from 0, on one process."""
    honest, calls = LossModule.forward, iter(range(10**6))

    def forward(self: LossModule, *arguments: object) -> tuple[torch.Tensor, torch.Tensor]:
        loss, each = honest(self, *arguments)  # type: ignore[arg-type]
        if torch.is_grad_enabled() and next(calls) in steps and join().rank == rank:
            loss = loss * float("nan")
        return loss, each

    patch.setattr(LossModule, "forward", forward)


def names(folder: RunFolder) -> list[str]:
    """The checkpoints of a run; all their weights are numbers."""
    for path in native.ordered(folder.checkpoints):
        assert all(torch.isfinite(value).all() for value in native.load(path).model.values())
    return [path.name for path in native.ordered(folder.checkpoints)]


def skipping(run: RunConfig) -> RunConfig:
    """The run with the other policy."""
    return replace(run, recipe=replace(run.recipe, on_nonfinite="skip"))


@pytest.mark.parametrize("late", [False, True], ids=["at once", "late"])
@pytest.mark.parametrize("rule", RULES)
def test_stop_names_the_step_and_leaves_the_state_before_it(
    rule: str, late: bool, corpus: Corpus, tmp_path: Path, monkeypatch: Patch
) -> None:
    """Steps after the bad one are finite again, and still nothing of them is stored."""
    run = replace(tiny_run(corpus), optimizer=RULES[rule], checkpoint=CheckpointConfig(every_steps=4))
    with monkeypatch.context() as patch:
        poison(patch, 5)
        if late:
            as_on_a_gpu(patch)
        place = "global step 5, phase pretrain, step 5, global rows 40 to 47.*recipe.on_nonfinite=skip"
        with pytest.raises(NonFiniteError, match=place):
            train_tiny(run, tmp_path, corpus, placement=SELDOM)
    folder = RunFolder(tmp_path / run.name)
    assert names(folder) == ["step0", "step4"] and not folder.complete and not folder.metrics_file.exists()


@pytest.mark.parametrize("rule", RULES)
def test_read_late_is_read_at_once(rule: str, corpus: Corpus, tmp_path: Path, monkeypatch: Patch) -> None:
    """Skipped or not, every record agrees to rounding; the counts and hashes are equal."""
    run = skipping(replace(tiny_run(corpus), optimizer=RULES[rule]))
    folders = []
    for late in (False, True):
        with monkeypatch.context() as patch:
            poison(patch, 3, 4, 12)
            if late:
                as_on_a_gpu(patch)
            folders.append(train_tiny(run, tmp_path / str(late), corpus, placement=SELDOM))
    assert names(folders[0]) == names(folders[1])
    rows = [folder.training() for folder in folders]
    assert [row.skipped for row in rows[1]] == [2, 2, 3] and rows[1][0].gradient_norm is not None
    for one, other in zip(*rows, strict=True):
        assert replace(
            one, loss=0, gradient_norm=0, source_losses={}, update_ratios={}, attention_logits=[]
        ) == replace(other, loss=0, gradient_norm=0, source_losses={}, update_ratios={}, attention_logits=[])
        assert one.loss == pytest.approx(other.loss, rel=1e-5)
        assert one.gradient_norm == pytest.approx(other.gradient_norm, rel=1e-4)


def test_a_run_read_late_resumes_bitwise(corpus: Corpus, tmp_path: Path, monkeypatch: Patch) -> None:
    as_on_a_gpu(monkeypatch)
    run = tiny_run(corpus)
    straight = train_tiny(run, tmp_path / "straight", corpus, placement=SELDOM)
    train_tiny(run, tmp_path / "resumed", corpus, stop_after=7, placement=SELDOM)
    assert final_state(train_tiny(run, tmp_path / "resumed", corpus, placement=SELDOM)) == final_state(straight)


class NoRead(TorchDispatchMode):
    """Fails when the host reads a number, for which it would wait for a GPU."""

    def __torch_dispatch__(self, function: Callable, types: object, arguments: tuple = (), options: dict | None = None):  # type: ignore[no-untyped-def, type-arg]
        assert "_local_scalar_dense" not in str(function), "the host reads a number"
        return function(*arguments, **(options or {}))


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("clip_norm", [None, 0.1])
def test_nothing_is_read_between_steps(rule: str, clip_norm: float | None, corpus: Corpus, monkeypatch: Patch) -> None:
    as_on_a_gpu(monkeypatch)
    run = replace(tiny_run(corpus), optimizer=replace(RULES[rule], clip_norm=clip_norm))
    phase, vocabulary = run.phases[0], Vocabulary.of(corpus.tokenizer)
    model = Transformer(run.model, attention="reference")
    update = build.build_update(run.optimizer, model)
    state = TrainState(LossModule(model), update, ProcessGroup(), torch.device("cpu"))
    loader, steps = phase.loader(corpus, 1), list[PendingStep]()
    poison(monkeypatch, 1)
    with NoRead():
        for step in range(3):
            batch = loader.batch(step)
            micro = MicroBatch(batch, run.targets(batch, phase, step, vocabulary))
            settings = StepSettings(phase.attention, 1e-3, on_nonfinite="stop")
            steps.append(begin_step(state, [micro], settings, steps[-1] if steps else None))
    assert steps[0].read().loss_sum > 0 and [bool(step.left_out) for step in steps] == [False, True, True]
    with pytest.raises(NonFiniteError, match="loss=nan"):
        steps[1].read()
    with pytest.raises(AssertionError, match="reads a number"), NoRead():
        float(torch.ones(()))


def test_a_bad_number_of_one_process_is_everyones(corpus: Corpus, tmp_path: Path) -> None:
    """Under DDP and FSDP, read late: skipped by both processes, or stopping both before a checkpoint."""

    def both() -> None:
        group = join("gloo")
        for parallel in PARALLEL:
            placement = replace(SELDOM, parallel=parallel)
            run = tiny_run(corpus)
            with Patch.context() as patch:
                as_on_a_gpu(patch)
                poison(patch, 3, 4, 12, rank=1)
                train(skipping(run), RunFolder(tmp_path / parallel / "skip"), corpus, placement, group)
            with Patch.context() as patch:
                as_on_a_gpu(patch)
                poison(patch, 5, rank=1)
                with pytest.raises(NonFiniteError, match="global step 5, "):
                    train(run, RunFolder(tmp_path / parallel / "stop"), corpus, placement, group)
        leave()

    run_group(tmp_path, both)
    for parallel in PARALLEL:
        skipped = RunFolder(tmp_path / parallel / "skip")
        assert skipped.training()[-1].skipped == 3 and names(skipped)[-1] == "decay5"
        assert names(RunFolder(tmp_path / parallel / "stop")) == ["step0", "step4"]
    rows = [RunFolder(tmp_path / parallel / "skip").training() for parallel in PARALLEL]
    for one, other in zip(*rows, strict=True):
        assert one.loss == pytest.approx(other.loss, rel=1e-4) and one.data_hash == other.data_hash
