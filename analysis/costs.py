"""What a run had cost by each ruler when a row was logged or a checkpoint saved."""

import json
from typing import Any

import numpy as np
import pandas as pd

from ettin_core.records.folders import RunFolder
from ettin_core.records.readout import fills_masks
from ettin_core.records.schema import Measurement

RULERS = {"tokens": "tokens", "loss_tokens": "loss-bearing tokens", "flops": "FLOPs", "seconds": "seconds"}


def seconds_at(folder: RunFolder, steps: pd.Series) -> np.ndarray:
    """The clock of a run at its steps; not a number where none was recorded."""
    clock = {row.step: row.seconds for row in folder.timing()}
    return np.interp(steps, list(clock), list(clock.values())) if clock else np.full(len(steps), np.nan)


def trained_on(folder: RunFolder) -> str:
    """The objective in full and the mask rates of its phases: training losses of different ones cannot be compared."""
    objective = folder.config().get("objective") or {"name": folder.summary()["objective"]}
    rates = sorted({str(phase.get("mask_rate")) for phase in _phases(folder).values()})
    masked = objective.get("parts") or fills_masks(folder.summary().get("readout", objective["name"]))
    return json.dumps([objective, rates if masked else None], sort_keys=True)


def checkpoints(folder: RunFolder, training: pd.DataFrame) -> list[tuple[dict[str, float], list[Measurement]]]:
    """The measured checkpoints before the last: what each had cost, and its measurements."""
    costs = [(_cost(folder, training, name), folder.measurements(name)) for name in folder.evaluated_checkpoints()]
    return [(cost, measurements) for cost, measurements in costs if cost]


def _cost(folder: RunFolder, training: pd.DataFrame, checkpoint: str) -> dict[str, float]:
    """The rulers at a checkpoint, <prefix of its phase><step of that phase>; empty where no training row has the step."""
    names = list(dict.fromkeys(training["phase"]))
    for place, name in enumerate(names):
        prefix = str(_phases(folder).get(name, {}).get("prefix"))
        steps = checkpoint.removeprefix(prefix)
        if checkpoint.startswith(prefix) and steps.isdigit():
            earlier = training[training["phase"].isin(names[:place])]["step"].max() if place else 0
            known = [0, *training["step"]]
            return {ruler: float(np.interp(int(steps) + earlier, known, [0.0, *training[ruler]])) for ruler in RULERS}
    return {}


def _phases(folder: RunFolder) -> dict[str, Any]:
    return (folder.config().get("recipe") or {}).get("phases") or {}
