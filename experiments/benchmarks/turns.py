"""Sides that take turns: each meets the same machine in every turn, and all must compute one loss first."""

import time

import torch
from tqdm import tqdm

from ettin_core.training.hardware import measured_flops
from experiments.benchmarks.steps import Case, Side

WARM_UP = 2
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
LOSS_TOLERANCE = {"fp32": 1e-4, "bf16": 2e-2}  # nats per token, on the same weights


def in_turns(case: Case, sides: list[Side], rounds: int) -> tuple[dict[Side, list[float]], dict[str, list[float]]]:
    """Each side's seconds per step, and by precision the FLOP/s of matrix products, turn by turn."""
    device = torch.device(case.device)
    steps = {side: side.step(case) for side in sides}
    seconds: dict[Side, list[float]] = {side: [] for side in sides}
    rates: dict[str, list[float]] = {side.precision: [] for side in sides}
    for number in tqdm(range(rounds + WARM_UP), desc=f"benchmark {case.member}", unit="turn", leave=False):
        losses = {}
        for side, step in steps.items():
            begin = time.perf_counter()
            losses[side] = step()  # reading the loss waits for the device
            seconds[side].append(time.perf_counter() - begin)
        if number == 0:
            _check_losses(losses)
        for precision, measured in rates.items():
            measured.append(measured_flops(device, DTYPES[precision]))
    timed = slice(WARM_UP, None)
    return {side: all[timed] for side, all in seconds.items()}, {name: all[timed] for name, all in rates.items()}


def _check_losses(losses: dict[Side, float]) -> None:
    """All sides start from the same weights, so their first losses are the same."""
    exact = next(iter(losses.values()))
    for side, loss in losses.items():
        if abs(loss - exact) > LOSS_TOLERANCE[side.precision]:
            raise RuntimeError(
                f"{side.name} in {side.precision} computes a loss of {loss}, not {exact}: nothing is compared"
            )
