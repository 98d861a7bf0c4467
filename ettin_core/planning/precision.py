"""precision=auto: fp32 or bf16, whichever computes a small step faster on this device.

bf16 is twice as fast where a processor has instructions for it, and slower where it has none. The choice is measured once for
a folder of runs (records/precision_choice.py); a run's configuration, and so its name, holds the precision that was chosen.
"""

import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from ettin_core.foundation.errors import invalid
from ettin_core.foundation.folders import locked
from ettin_core.records.precision_choice import PrecisionChoice, find_choice, keep_choice
from ettin_core.training.config import PRECISIONS, PlacementConfig, RunConfig

AUTO = "auto"
GAIN = 1.1  # times as fast as fp32 a step in bf16 must be: less is not worth coarser products
PROBE_SECONDS = 2.0
PROBE_TURNS = 3
PROBE_TOKENS = 512  # of a step
PROBE_WIDTH = 512  # of a wider model fewer layers and outputs are enough: products dominate it


def choose(run: RunConfig, placement: PlacementConfig, runs_dir: str, keep: bool = True) -> str:
    """The precision that `auto` means in a folder of runs: the one chosen there, or else the faster one here.

    `run` is any run of the size. Processes of one machine that ask at once get one answer. Without `keep` nothing is written.
    Raises ValueError for processes on several machines, which could answer differently.
    """
    if int(os.environ.get("WORLD_SIZE", 1)) > int(os.environ.get("LOCAL_WORLD_SIZE", os.environ.get("WORLD_SIZE", 1))):
        raise invalid("precision", AUTO, "is chosen on one machine, and this run has several", "use bf16 or fp32")
    folder = Path(runs_dir)
    choice = find_choice(folder, run.size, placement.device)
    if choice is None and not keep:
        choice = probe(run, placement)
    elif choice is None:
        with locked(folder / ".locks" / "precision", wait=True):
            choice = find_choice(folder, run.size, placement.device)
            if choice is None:
                choice = probe(run, placement)
                keep_choice(folder, run.size, placement.device, choice)
    if int(os.environ.get("RANK", 0)) == 0:
        tqdm.write(f"precision={choice.precision} for {run.size}: {choice.reason}", sys.stderr)
    return choice.precision


def chosen_before(size: str, placement: PlacementConfig, runs_dir: str) -> str:
    """The precision that was chosen in a folder of runs. Raises ValueError where none was, for commands that only look."""
    choice = find_choice(Path(runs_dir), size, placement.device)
    if choice is None:
        problem = f"was not chosen yet for {size} in {runs_dir}"
        raise invalid("precision", AUTO, problem, "train first, or give fp32 or bf16")
    return choice.precision


def with_precision(overrides: Sequence[str], precision: str) -> list[str]:
    """Overrides of a command line with a concrete precision instead of what they say about it."""
    others = [text for text in overrides if text.partition("=")[0].lstrip("+") != "precision"]
    return [*others, f"precision={precision}"]


def probe(run: RunConfig, placement: PlacementConfig) -> PrecisionChoice:
    """Time small steps of a run's width in both precisions, in turns, and matrix products: about two seconds."""
    import torch  # here: looking at runs does without

    from ettin_core.foundation.distributed import ProcessGroup, choose_device
    from ettin_core.planning.measured_rate import step_of, using_threads
    from ettin_core.training.hardware import measured_flops
    from ettin_core.training.numerics import device_name, processor

    device = choose_device(placement.device, ProcessGroup(local_rank=int(os.environ.get("LOCAL_RANK", 0))))
    on_cpu = device.type == "cpu"
    clock = (
        time.process_time if on_cpu else time.perf_counter
    )  # processor time does not see what else a machine computes
    if not on_cpu:
        placement = replace(placement, attention="sdpa")  # flex compiles for longer than the probe takes
    dtypes = {"fp32": torch.float32, "bf16": torch.bfloat16}
    with using_threads(placement.threads):
        flops = {name: measured_flops(device, dtypes[name]) for name in PRECISIONS}
        runs = {name: replace(_small(run), precision=name) for name in PRECISIONS}
        steps = {name: step_of(runs[name], placement, device, PROBE_TOKENS, PROBE_TOKENS) for name in PRECISIONS}
        seconds = _in_turns(steps, clock)
    return judged(seconds, flops, processor() if on_cpu else device_name(device))


def _in_turns(steps: dict[str, Callable[[], int]], clock: Callable[[], float]) -> dict[str, float]:
    """The median seconds of each step, taken in turns; the first turn is slower and does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    end = time.perf_counter() + PROBE_SECONDS
    while min(map(len, seconds.values())) <= PROBE_TURNS or time.perf_counter() < end:
        for name, step in steps.items():
            begin = clock()
            step()
            seconds[name].append(clock() - begin)
    return {name: statistics.median(times[1:]) for name, times in seconds.items()}


def judged(step_seconds: dict[str, float], flops: dict[str, float], device: str) -> PrecisionChoice:
    """bf16 where it gains enough, else fp32, in words."""
    gain = step_seconds["fp32"] / step_seconds["bf16"]
    rates = " and ".join(f"{flops[precision] / 1e9:,.0f} GFLOP/s in {precision}" for precision in PRECISIONS)
    reason = f"a small step in bf16 is {gain:.2f} times as fast as in fp32 on {device} (matrix products {rates}; "
    reason += f"bf16 is taken from {GAIN} times)"
    return PrecisionChoice("bf16" if gain >= GAIN else "fp32", reason, device, step_seconds, flops)


def _small(run: RunConfig) -> RunConfig:
    """The run with one period of layers and as many outputs as 2^24 weights have; of a wide model one layer and a quarter."""
    wide = run.model.hidden_size > PROBE_WIDTH
    layers = 1 if wide else min(run.model.num_layers, 1 + run.model.global_every)
    outputs = min(run.model.vocab_size, max(64, (2**22 if wide else 2**24) // run.model.hidden_size))
    return replace(run, model=replace(run.model, num_layers=layers, vocab_size=outputs))
