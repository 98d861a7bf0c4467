"""Mirrors of the records: TensorBoard, Weights & Biases. Reports read the run's files and never these."""

import importlib.util
import os
from typing import Any, Protocol

from ettin_core.foundation.errors import invalid, with_extra
from ettin_core.records.folders import RunFolder
from ettin_core.records.schema import TimingRecord, TrainingRecord

PACKAGES = {"tensorboard": "pip install tensorboard", "wandb": with_extra("wandb")}


class Tracker(Protocol):
    """Takes the scalars of a logged step."""

    def log(self, scalars: dict[str, float], row: TrainingRecord) -> None:
        """The scalars of a row."""

    def close(self) -> None:
        """Write what is left."""


def check_trackers(names: tuple[str, ...]) -> None:
    """Raises ValueError if a tracker is unknown or its package is not installed."""
    for name in names:
        if name not in PACKAGES:
            raise invalid("placement.trackers", name, "is not a tracker", f"use some of {', '.join(PACKAGES)}, or []")
        if importlib.util.find_spec(name) is None:
            raise invalid("placement.trackers", name, "needs a package", f"{PACKAGES[name]}, or leave it out")


def open_trackers(names: tuple[str, ...], folder: RunFolder, tokens: int) -> list[Tracker]:
    """The trackers of a run that continues after `tokens` tokens."""
    kinds: dict[str, type[TensorBoard] | type[WeightsAndBiases]] = {
        "tensorboard": TensorBoard,
        "wandb": WeightsAndBiases,
    }
    return [kinds[name](folder, tokens) for name in names]


def scalars_of(row: TrainingRecord, timing: TimingRecord) -> dict[str, float]:
    """The numbers of a logged step by name."""
    scalars: dict[str, float | None] = {
        "loss": row.loss,
        "learning_rate": row.learning_rate,
        "gradient_norm": row.gradient_norm,
        "skipped": row.skipped,
        "tokens_per_second": timing.tokens_per_second,
        "mfu": timing.mfu,
    }
    scalars |= {f"source_loss/{name}": loss for name, loss in row.source_losses.items()}
    scalars |= {f"update_ratio/{name}": ratio for name, ratio in row.update_ratios.items()}
    scalars |= {f"attention_logit/layer_{layer}": logit for layer, logit in enumerate(row.attention_logits)}
    return {name: value for name, value in scalars.items() if value is not None}


class TensorBoard:
    """Event files in the run's folder, against tokens: tensorboard --logdir runs."""

    def __init__(self, folder: RunFolder, tokens: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        # purge_step hides what a killed session wrote after its last checkpoint.
        self._writer = SummaryWriter(str(folder.path / "tensorboard"), purge_step=tokens + 1)

    def log(self, scalars: dict[str, float], row: TrainingRecord) -> None:
        """Against the tokens consumed."""
        for name, value in scalars.items():
            self._writer.add_scalar(name, value, row.tokens)

    def close(self) -> None:
        """Write what is left."""
        self._writer.close()


class WeightsAndBiases:
    """A Weights & Biases run of the same name, continued with the run; set WANDB_PROJECT, WANDB_MODE as usual."""

    def __init__(self, folder: RunFolder, tokens: int) -> None:
        import wandb

        try:
            self._run: Any = wandb.init(
                project=os.environ.get("WANDB_PROJECT", "ettin"),
                id=folder.name,
                dir=str(folder.path),
                config=folder.config(),
                resume="allow",
            )
        except Exception as error:  # of its service, or of the network
            raise invalid(
                "placement.trackers", "wandb", f"does not start ({error})", "set WANDB_MODE=offline, or leave it out"
            ) from error
        self._run.define_metric("*", step_metric="tokens")

    def log(self, scalars: dict[str, float], row: TrainingRecord) -> None:
        """Against steps, with tokens beside; steps that a continued run repeats are left out by wandb itself."""
        self._run.log({**scalars, "tokens": row.tokens}, step=row.step)

    def close(self) -> None:
        """Write what is left."""
        self._run.finish()
