"""python -m experiments.boundaries run=runs/<run>: does the loss jump at a phase boundary by more than the change explains?

The weights at the end of a phase are scored on rows the run has not read yet, first as that phase would have continued, then
with one setting after another of the next phase: mixture, context, rotary bases, mask rate. The last of these are the
first batches of the next phase, masks included, so training continues from exactly there.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from ettin_core.checkpoints import native
from ettin_core.data.corpus import Corpus
from ettin_core.foundation.distributed import ProcessGroup, choose_device
from ettin_core.foundation.errors import invalid
from ettin_core.foundation.fields import check_threads
from ettin_core.model.transformer import Transformer
from ettin_core.objectives.kinds import OBJECTIVES
from ettin_core.objectives.targets import Vocabulary
from ettin_core.planning.run_plan import open_corpus, open_run
from ettin_core.records.folders import RunFolder
from ettin_core.records.schema import TrainingRecord
from ettin_core.training.config import PlacementConfig, RunConfig
from ettin_core.training.loss_module import LossModule, MicroBatch, tensors
from ettin_core.training.phases import Phase
from ettin_core.training.step import autocast
from experiments.cli.entry import entry

Loss = tuple[float, float]  # nats per loss-bearing token, and its standard error over rows


@dataclass(frozen=True)
class BoundariesRequest:
    """conf/boundaries.yaml."""

    run: str
    tokens: int
    placement: PlacementConfig
    corpora_dir: str

    def __post_init__(self) -> None:
        check_threads("placement.threads", self.placement.threads)
        if self.tokens < 1:
            raise invalid("tokens", self.tokens, "is not positive", "use 65536")


@dataclass(frozen=True)
class Boundary:
    """A boundary: the loss under each setting in turn, and what training recorded on either side (nats per token)."""

    before: Phase
    after: Phase
    settings: dict[str, Loss]
    recorded_before: float
    recorded_after: float

    @property
    def explained(self) -> float:
        """The change of loss that the same weights show."""
        losses = list(self.settings.values())
        return losses[-1][0] - losses[0][0]

    @property
    def unexplained(self) -> Loss:
        """What training recorded first in the new phase, less what the same weights show on its first rows."""
        loss, error = list(self.settings.values())[-1]
        return self.recorded_after - loss, error


@entry("boundaries", BoundariesRequest)
def main(request: BoundariesRequest) -> None:
    """Print every boundary of a run."""
    folder, run = open_run(request.run)
    corpus = open_corpus(run, Path(request.corpora_dir))
    torch.set_num_threads(request.placement.threads)
    for boundary in boundaries(folder, run, corpus, request.tokens, request.placement):
        print(describe(boundary))


def boundaries(
    folder: RunFolder, run: RunConfig, corpus: Corpus, tokens: int, placement: PlacementConfig
) -> Iterator[Boundary]:
    """The boundaries that a run has passed. Raises ValueError for a run that has passed none."""
    rows = folder.training()
    passed = [
        (before, after)
        for before, after in itertools.pairwise(run.phases)
        if _recorded(rows, before) and _recorded(rows, after)
    ]
    if not passed:
        raise invalid(
            "run", folder.name, "has passed no phase boundary", "train it on, or give one with several phases"
        )
    device = choose_device(placement.device, ProcessGroup())
    for before, after in passed:
        model = Transformer(run.model, attention=placement.attention).to(device).eval()
        model.load_state_dict(native.load(folder.checkpoints / f"{before.prefix}{before.steps}", folder.name).model)
        settings = {
            name: _loss(run, corpus, LossModule(model), device, setting, first, tokens)
            for name, setting, first in _settings(run, before, after)
        }
        yield Boundary(
            before,
            after,
            settings,
            _recorded(rows, before)[-1],
            _recorded(rows, after)[0],
        )


def _recorded(rows: list[TrainingRecord], phase: Phase) -> list[float]:
    return [row.loss for row in rows if row.phase == phase.name and row.loss is not None]


def _settings(run: RunConfig, before: Phase, after: Phase) -> Iterator[tuple[str, Phase, int]]:
    """The settings in turn, and the row of the phase's order at which each begins to read."""
    yield "as before", before, before.rows
    setting = replace(before, name=after.name, prefix=after.prefix, mixture=after.mixture, packing=after.packing)
    if before.mixture != after.mixture or before.packing != after.packing:
        yield "+ mixture", setting, 0
    if before.context != after.context:
        setting = replace(setting, context=after.context)
        yield "+ context", setting, 0
    bases = after.rope_base_global, after.rope_base_local
    if (before.rope_base_global, before.rope_base_local) != bases:
        setting = replace(setting, rope_base_global=bases[0], rope_base_local=bases[1])
        yield "+ rotary bases", setting, 0
    corrupts = any(OBJECTIVES[part.objective].corrupts for part in run.objective.under(run.direction))
    if corrupts and (before.mask_rate, before.mask_rate_end) != (after.mask_rate, after.mask_rate_end):
        setting = replace(setting, mask_rate=after.mask_rate, mask_rate_end=after.mask_rate_end)
        yield "+ mask rate", setting, 0


@torch.no_grad()
def _loss(
    run: RunConfig, corpus: Corpus, loss_module: LossModule, device: torch.device, phase: Phase, first: int, tokens: int
) -> Loss:
    """The loss of `tokens` tokens of a phase from its row `first` on, masked as training masks them."""
    loader = replace(phase, batches=replace(phase.batches, rows=1, stages=1, stage_steps=0)).loader(
        corpus, run.seeds.order
    )
    vocabulary = Vocabulary.of(corpus.tokenizer)
    step = phase.steps if first else 0
    sums, counts = [], []
    for row in range(first, first + max(2, tokens // phase.context)):
        batch = loader.batch(row)
        targets = run.targets(batch, phase, step, vocabulary)
        with autocast(run.precision, device):
            sums.append(
                float(loss_module(*tensors(MicroBatch(batch, targets), device), phase.attention(targets.direction))[0])
            )
        counts.append(len(targets.labels))
    loss = sum(sums) / max(1, sum(counts))
    residuals = np.array(sums) - loss * np.array(counts)
    return loss, float(np.sqrt((residuals**2).sum())) / max(1, sum(counts))


def describe(boundary: Boundary) -> str:
    """A boundary as text."""
    before, after = boundary.before, boundary.after
    difference, error = boundary.unexplained
    lines = [
        f"{before.name} -> {after.name}: context {before.context} -> {after.context}, loss in nats per loss-bearing token",
        f"  {'training recorded last':<28}{boundary.recorded_before:8.4f}",
        *(
            f"  {'same weights, ' + name:<28}{loss:8.4f} ± {wide:.4f}"
            for name, (loss, wide) in boundary.settings.items()
        ),
        f"  {'training recorded first':<28}{boundary.recorded_after:8.4f}",
        f"  explained by the change {boundary.explained:+.4f}; beyond it {difference:+.4f} ± {error:.4f} (standard error)",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
