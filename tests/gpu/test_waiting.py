"""Between two steps the host never waits for a GPU, whatever the numbers are."""

from dataclasses import replace

import pytest
import torch

from ettin_core.data.corpus import Corpus
from ettin_core.foundation.distributed import ProcessGroup
from ettin_core.model.transformer import Transformer
from ettin_core.objectives.targets import Vocabulary
from ettin_core.optim.build import build_update
from ettin_core.training.loss_module import LossModule, MicroBatch
from ettin_core.training.step import PendingStep, StepSettings, TrainState, begin_step
from tests.runs import MEMBERS, tiny_run
from tests.training.test_nonfinite import RULES, poison

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA: its queue")]


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("member", MEMBERS)
@pytest.mark.parametrize("rule", RULES)
def test_the_host_does_not_wait(
    rule: str, member: str, compiled: bool, device: torch.device, corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first steps compile and allocate; after them torch reports every wait as an error."""
    run = replace(tiny_run(corpus, member), optimizer=replace(RULES[rule], clip_norm=0.1))
    phase, vocabulary = run.phases[0], Vocabulary.of(corpus.tokenizer)
    module = LossModule(Transformer(run.model), compiled).to(device)
    state = TrainState(module, build_update(run.optimizer, module.model), ProcessGroup(), device)
    assert state.update.guards_itself
    loader, settings = phase.loader(corpus, 1), StepSettings(phase.attention, 1e-3, "bf16", "skip")
    poison(monkeypatch, 5)
    steps: list[PendingStep] = []
    try:
        for number in range(8):
            if number == 4:
                torch.cuda.set_sync_debug_mode("error")
            batch = loader.batch(number)
            steps.append(
                begin_step(state, [MicroBatch(batch, run.targets(batch, phase, number, vocabulary))], settings)
            )
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert [step.read().skipped for step in steps] == [number == 5 for number in range(8)]
