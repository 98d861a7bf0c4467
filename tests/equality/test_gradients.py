"""Two processes, DDP or FSDP2, take the gradient that one process takes, however unevenly the loss lies (invariant 4)."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from ettin_core.data.batch_schedule import BatchSchedule
from ettin_core.data.corpus import Corpus
from ettin_core.data.loader import Batch, Loader
from ettin_core.foundation.distributed import ProcessGroup, full_tensor, join, leave
from ettin_core.model.transformer import Transformer
from ettin_core.objectives.targets import Masking, Targets, Vocabulary
from ettin_core.optim.update import Update
from ettin_core.training.config import PARALLEL, PlacementConfig
from ettin_core.training.loss_module import LossModule, MicroBatch
from ettin_core.training.parallel import parallelize
from ettin_core.training.step import StepSettings, TrainState, optimizer_step
from tests.processes import run_group
from tests.runs import targets_of, tiny_run

ROWS = 8
NORM = "norm of all"
CASES = {"mlm, none": ("encoder", 0), "mlm, one": ("encoder", 1), "clm, one": ("decoder", 1), "clm": ("decoder", None)}


def scored(batch: Batch, targets: Targets, rest: int | None) -> Targets:
    """Of the second half of a batch's rows, which are the second process's, only `rest` positions are scored."""
    if rest is None:
        return targets
    first_half = batch.rows[targets.scored_positions // batch.tokens.shape[1]] % ROWS < ROWS // 2
    keep = first_half | ((~first_half).cumsum() <= rest)
    return replace(targets, scored_positions=targets.scored_positions[keep], labels=targets.labels[keep])


def gradients(
    case: str, corpus: Corpus, group: ProcessGroup, parallel: str = "ddp", precision: str = "fp32"
) -> dict[str, torch.Tensor]:
    """Whole gradients of one step in which each process takes its share of the same rows, nearly all of them masked; and
    the norm that the step reported (`NORM`). In bf16 a process of a group has two micro-batches.
    """
    member, rest = CASES[case]
    run = tiny_run(corpus, member)
    model = Transformer(run.model, 1)
    placement = PlacementConfig(device="cpu", parallel=parallel)
    wrapped = parallelize(LossModule(model), placement, group, torch.device("cpu"), precision)
    parts = 2 if group.world_size > 1 and precision == "bf16" else 1
    vocabulary = Vocabulary.of(corpus.tokenizer)
    micro_batches = []
    for part in range(group.rank * parts, (group.rank + 1) * parts):
        batch = Loader(corpus, 128, BatchSchedule(ROWS), 7, "test").batch(0, part, group.world_size * parts)
        targets = targets_of(run.objective.name, batch, vocabulary, Masking(0.95), 7)
        micro_batches.append(MicroBatch(batch, scored(batch, targets, 0 if rest and part > group.world_size else rest)))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    state = TrainState(wrapped, Update(optimizer), group, torch.device("cpu"))
    step = optimizer_step(state, micro_batches, StepSettings(run.phases[0].attention, 0.0, precision))
    found = {name: full_tensor(one.grad).clone() for name, one in model.named_parameters() if one.grad is not None}
    return found | {NORM: torch.tensor(step.gradient_norm, dtype=torch.float64)}


@pytest.fixture(scope="module")
def together(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The gradients that two processes took, one file for each way to divide and each case."""
    folder = tmp_path_factory.mktemp("gradients")

    def of_all() -> None:
        group = join("gloo")
        for parallel in PARALLEL:
            for case in CASES:
                found = gradients(case, corpus, group, parallel)
                if group.is_main:
                    save_file(found, folder / f"{parallel}, {case}")
            found = gradients("clm", corpus, group, parallel, "bf16")
            if group.is_main:
                save_file(found, folder / f"{parallel}, bf16")
        leave()

    run_group(folder, of_all)
    return folder


@pytest.mark.parametrize("parallel", PARALLEL)
@pytest.mark.parametrize("case", CASES)
def test_two_processes_take_the_gradient_of_one(case: str, parallel: str, corpus: Corpus, together: Path) -> None:
    alone, found = gradients(case, corpus, ProcessGroup()), load_file(together / f"{parallel}, {case}")
    assert alone.keys() == found.keys()
    for one in (alone, found):
        exact = sum(float(gradient.double().square().sum()) for name, gradient in one.items() if name != NORM) ** 0.5
        assert float(one.pop(NORM)) == pytest.approx(exact, rel=1e-9), (
            "the norm is that of the gradient, however divided"
        )
    differences = {name: float((found[name] - one).norm() / one.norm()) for name, one in alone.items()}
    assert max(differences.values()) < 1e-6, max(differences, key=differences.__getitem__)
    whole, expected = (torch.cat([one[name].flatten() for name in alone]) for one in (found, alone))
    assert float((whole - expected).norm()) < 3e-7 * float(expected.norm())


@pytest.mark.parametrize("parallel", PARALLEL)
def test_in_bf16_it_is_that_of_one_but_for_rounding(parallel: str, corpus: Corpus, together: Path) -> None:
    """FSDP exchanges the weights in bf16; what autocast leaves in fp32 is as exact as alone."""
    alone, exact = gradients("clm", corpus, ProcessGroup(), precision="bf16"), gradients("clm", corpus, ProcessGroup())
    found = load_file(together / f"{parallel}, bf16")
    assert found.keys() == alone.keys() and all(one.dtype == alone[name].dtype for name, one in found.items())
    whole, expected, without = (torch.cat([one[name].flatten() for name in alone]) for one in (found, alone, exact))
    rounding = float((expected - without).norm())
    assert 1e-4 * float(without.norm()) < rounding and float((whole - expected).norm()) < rounding
