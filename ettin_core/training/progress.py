"""The progress of a run: where it is, what it has consumed, and its training rows."""

import hashlib
from dataclasses import dataclass, replace
from typing import TypeVar

from ettin_core.data.loader import document_lengths
from ettin_core.foundation.distributed import ProcessGroup
from ettin_core.model.config import ModelConfig
from ettin_core.records.schema import TrainingRecord, is_finite
from ettin_core.training.config import RunConfig
from ettin_core.training.diagnostics import Diagnosis
from ettin_core.training.loss_module import MicroBatch
from ettin_core.training.phases import Phase
from ettin_core.training.step import StepResult

Number = TypeVar("Number", int, float)


@dataclass(frozen=True)
class Progress:
    """A run between two steps. With weights and optimiser state it is the whole state: there are no hidden streams.

    `step` counts within the phase. `window_*` sum since the last training row (`window_source_*` by number of the source),
    and `metric_rows` counts the rows. `sessions` holds the distinct environments (training/environment.py) that the run
    was trained in, in order of their last use. `skipped` counts updates left out because a number was not finite.
    """

    phase: int = 0
    step: int = 0
    global_step: int = 0
    tokens: int = 0
    loss_tokens: int = 0
    flops: float = 0.0
    data_hash: str = ""
    window_loss: float = 0.0
    window_tokens: int = 0
    metric_rows: int = 0
    seconds: float = 0.0
    sessions: tuple[str, ...] = ()
    skipped: int = 0
    window_source_losses: tuple[float, ...] = ()
    window_source_tokens: tuple[int, ...] = ()

    def with_result(self, result: StepResult) -> "Progress":
        """The progress after the results of a step were read: its loss joins the window unless its update was left out."""
        if result.skipped:
            return replace(self, skipped=self.skipped + 1)
        return replace(
            self,
            window_loss=self.window_loss + result.loss_sum,
            window_tokens=self.window_tokens + result.loss_tokens,
            window_source_losses=_add(self.window_source_losses, result.source_losses),
            window_source_tokens=_add(self.window_source_tokens, result.source_tokens),
        )

    def row_written(self, seconds: float) -> "Progress":
        """The progress after a training row was written, at `seconds` of training: the window begins again."""
        return replace(
            self,
            window_loss=0.0,
            window_tokens=0,
            window_source_losses=(),
            window_source_tokens=(),
            metric_rows=self.metric_rows + 1,
            seconds=seconds,
        )


def update_progress(
    run: RunConfig,
    progress: Progress,
    micro_batches: list[MicroBatch],
    loss_tokens: int,
    group: ProcessGroup,
    built: ModelConfig | None = None,
) -> Progress:
    """The progress after a step, but for its results: real tokens, FLOPs and the rolling hash of the unmasked ids.

    All are sums over all processes, as is `loss_tokens`, and the host knows them without the device. FLOPs are counted for
    the targets' documents and directions, in a model of the shape `built` (None: the run's).
    """
    digest = sum(batch.digest() for batch, _ in micro_batches) % 2**63
    local_totals = [
        sum(int(batch.real.sum()) for batch, _ in micro_batches),
        sum(_flops(run, built, micro) for micro in micro_batches),
    ]
    local_totals += [digest % 2**31, digest // 2**31]
    tokens, flops, low, high = group.sum_integers(local_totals)
    combined = (low + high * 2**31) % 2**63
    return replace(
        progress,
        step=progress.step + 1,
        global_step=progress.global_step + 1,
        tokens=progress.tokens + tokens,
        loss_tokens=progress.loss_tokens + loss_tokens,
        flops=progress.flops + flops + run.flop_counter(run.direction, built).scoring(loss_tokens),
        data_hash=roll(progress.data_hash, combined),
    )


def _add(window: tuple[Number, ...], step: tuple[Number, ...]) -> tuple[Number, ...]:
    """The sum by source; a window that has just begun is empty."""
    return tuple(total + added for total, added in zip(window, step, strict=True)) if window else step


def _flops(run: RunConfig, built: ModelConfig | None, micro: MicroBatch) -> int:
    """Training FLOPs of a micro-batch, without those of its predictions."""
    batch, targets = micro
    prefixes = None if targets.prefix_mask is None else document_lengths(batch, targets.prefix_mask)
    return run.flop_counter(targets.direction, built).training(document_lengths(batch), 0, prefixes)


def roll(data_hash: str, digest: int) -> str:
    """The rolling hash of the data after a step whose global batch has this digest; "" before the first step."""
    return hashlib.sha256(f"{data_hash}|{digest}".encode()).hexdigest()[:32]


def training_row(
    phase: Phase, progress: Progress, result: StepResult, sources: list[str], diagnosis: Diagnosis | None
) -> TrainingRecord:
    """The record of the steps since the previous row; `sources` names the phase's sources, `diagnosis` is of the last."""
    sums = zip(sources, progress.window_source_losses, progress.window_source_tokens, strict=False)
    logits = diagnosis.attention_logits if diagnosis else []
    return TrainingRecord(
        phase=phase.name,
        step=progress.global_step,
        tokens=progress.tokens,
        loss_tokens=progress.loss_tokens,
        flops=progress.flops,
        loss=progress.window_loss / progress.window_tokens if progress.window_tokens else None,
        learning_rate=phase.rate(progress.step - 1),
        gradient_norm=None if result.skipped else result.gradient_norm,
        data_hash=progress.data_hash,
        skipped=progress.skipped,
        source_losses={name: round(loss / tokens, 6) for name, loss, tokens in sums if tokens},
        update_ratios=_short(diagnosis.update_ratios) if diagnosis and not result.skipped else {},
        attention_logits=[round(logit, 4) for logit in logits] if is_finite(logits) else [],
    )


def _short(numbers: dict[str, float]) -> dict[str, float]:
    """To four significant digits."""
    return {name: float(f"{number:.4g}") for name, number in numbers.items()}
