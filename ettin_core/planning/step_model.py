"""A model of a training step on a GPU: how many tokens a second to expect, and where the time goes (docs/model_of_the_step.md).

Time is the sum over the parts of a step. Of a matrix product it is the longer of its arithmetic at an attainable rate and its
bytes at an attainable bandwidth; of everything else it is its bytes. The kernels' launches are a bound of their own, because the
host issues them while the device computes. Imports without torch.
"""

from dataclasses import dataclass

import numpy as np

from ettin_core.model.accounting import FlopCounter, layer_matrices, parameter_count
from ettin_core.model.config import ModelConfig
from ettin_core.objectives.directions import DIRECTIONS
from ettin_core.objectives.kinds import OBJECTIVES
from ettin_core.training.config import PlacementConfig, RunConfig
from ettin_core.training.expected_rate import ExpectedRate
from ettin_core.training.memory import micro_batch_count
from ettin_core.training.phases import Phase

# Assumptions, none of them measured by us. Rates are shares of the data sheet's.
MATRIX_SHARE = 0.65  # of large products; H100s hold 600 to 700 TFLOP/s in bf16
ATTENTION_SHARE = 0.35  # of flex attention's products, in blocks that are not empty
BANDWIDTH_SHARE = 0.8
BLOCK = 128  # queries and keys of a block of flex attention
BACKWARD = 3.5  # forward and backward of attention over forward alone: seven products against two
LAUNCH_SECONDS = 5e-6
LAUNCHES_A_LAYER, LAUNCHES_AROUND = 24, 60  # of a compiled micro-batch, forward and backward
UPDATE_BYTES = 120  # a parameter, moved by StableAdamW's foreach operations
HEAD_ROWS = 4096
BAND = (0.6, 1.1)  # of the prediction: what is expected


@dataclass(frozen=True)
class Gpu:
    """Peak of bf16 products in FLOP/s and bandwidth of memory in bytes/s, from the data sheet."""

    name: str
    matrix_rate: float
    bandwidth: float


GPUS = (  # the first name that is part of the device's name counts
    Gpu("H200", 989e12, 4.8e12),
    Gpu("H100 PCIe", 756e12, 2.0e12),
    Gpu("H100 NVL", 835e12, 3.9e12),
    Gpu("H100", 989e12, 3.35e12),
    Gpu("A100-SXM4-40GB", 312e12, 1.56e12),
    Gpu("A100", 312e12, 2.0e12),
)


def known_gpu(name: str) -> Gpu | None:
    """The GPU of a device's name (None: not known)."""
    return next((gpu for gpu in GPUS if gpu.name in name), None)


@dataclass(frozen=True)
class StepShape:
    """What one GPU computes in a step: micro-batches of `rows` x `context` tokens, `step_tokens` in all.

    A share `scored` of the tokens is predicted. Documents fill their rows.
    """

    rows: int
    context: int
    step_tokens: int
    scored: float


@dataclass(frozen=True)
class StepPrediction:
    """Seconds a token by part of the step, and those in which the host issues its kernels."""

    parts: dict[str, float]
    launches: float

    @property
    def tokens_per_second(self) -> float:
        """The device's rate, or the host's where that is lower."""
        return 1 / max(sum(self.parts.values()), self.launches)

    @property
    def band(self) -> tuple[float, float]:
        """The lowest and highest rate that is expected."""
        return BAND[0] * self.tokens_per_second, BAND[1] * self.tokens_per_second

    @property
    def largest(self) -> str:
        """The parts from the largest to the smallest, as shares of the device's time."""
        whole = sum(self.parts.values())
        ordered = sorted(self.parts.items(), key=lambda part: -part[1])
        return ", ".join(f"{name} {seconds / whole:.0%}" for name, seconds in ordered)


def predict(model: ModelConfig, direction: str, shape: StepShape, gpu: Gpu) -> StepPrediction:
    """The prediction for a compiled model in bf16."""
    counter, hidden, layers = FlopCounter(model, direction), model.hidden_size, model.num_layers
    rate, bandwidth = MATRIX_SHARE * gpu.matrix_rate, BANDWIDTH_SHARE * gpu.bandwidth
    tokens, parameters = shape.rows * shape.context, parameter_count(model)
    products = 0.0  # of the layers
    for inputs, outputs in layer_matrices(model):
        products += 3 * layers * max(2 * inputs * outputs / rate, 2 * (inputs + outputs) / bandwidth)
    # Norms, rotation, residual stream (fp32) and GeGLU, fused by the compiler; the backward pass moves twice as much.
    elementwise = 3 * (layers * (48 * hidden + 6 * model.intermediate_size) + 30 * hidden)
    logits = model.vocab_size
    head = 3 * max(counter.per_scored / rate, 2 * 2 * logits / bandwidth)  # three products of the output matrix
    softmax = logits * (8 + 12 * hidden / HEAD_ROWS) + 60 * hidden
    copies = 16 * parameters / tokens  # of weights to bf16, and gradients that are added to
    launches = LAUNCHES_A_LAYER * layers + LAUNCHES_AROUND + 12 * shape.scored * tokens / HEAD_ROWS
    return StepPrediction(
        {
            "matrices": products,
            "attention": BACKWARD
            * 4
            * hidden
            * _pairs(model, direction, shape.context)
            / ATTENTION_SHARE
            / gpu.matrix_rate,
            "elementwise": elementwise / bandwidth,
            "head's products": shape.scored * head,
            "softmax": shape.scored * softmax / bandwidth,
            "update": (copies + UPDATE_BYTES * parameters / shape.step_tokens) / bandwidth,
        },
        LAUNCH_SECONDS * launches / tokens,
    )


def _pairs(model: ModelConfig, direction: str, context: int) -> float:
    """Pairs of a query and a key that flex attention computes, for one token in all layers: whole blocks."""
    blocks = -(-context // BLOCK)
    reach = -(-model.local_window // BLOCK)
    index = np.arange(blocks)
    ahead = 0 if direction == "causal" else blocks
    whole = np.minimum(index + ahead, blocks - 1) + 1
    local = np.minimum(index + min(ahead, reach), blocks - 1) - np.maximum(index - reach, 0) + 1
    global_layers = sum(model.is_global(layer) for layer in range(model.num_layers))
    return BLOCK * (global_layers * whole.mean() + (model.num_layers - global_layers) * local.mean())


def step_shape(run: RunConfig, placement: PlacementConfig, phase: Phase, processes: int) -> StepShape:
    """What one GPU computes in a whole step of a phase. Of a mixture of objectives the first counts."""
    rows = phase.batch_rows // processes
    count = micro_batch_count(run, placement, phase.batch_rows, phase.context, processes)
    corrupts = OBJECTIVES[run.objective.under(run.direction)[0].objective].corrupts
    scored = phase.mask_rate if corrupts else run.objective.scored_share
    return StepShape(rows // count, phase.context, rows * phase.context, scored)


def expected_rate(
    run: RunConfig, placement: PlacementConfig, processes: int, device: str
) -> tuple[ExpectedRate, str] | None:
    """The expected rate of the longest phase on GPUs of this name, and a line about it; None for an unknown name."""
    gpu = known_gpu(device)
    if gpu is None:
        return None
    phase = max(run.phases, key=lambda phase: phase.tokens)
    shape = step_shape(run, placement, phase, processes)
    visibility = DIRECTIONS[run.objective.under(run.direction)[0].direction].visibility
    prediction = predict(run.model, "causal" if visibility == "causal" else "bidirectional", shape, gpu)
    low, high = (processes * rate for rate in prediction.band)
    suspects = []
    if not placement.compile:
        suspects.append("the model is not compiled: placement.compile=true")
    if run.precision != "bf16":
        suspects.append(f"the precision is {run.precision}, the expectation holds for bf16")
    if prediction.launches > sum(prediction.parts.values()) / 2:
        suspects.append(f"micro-batches of {shape.rows} x {shape.context} tokens are too small to hide kernel launches")
    if phase.packing == "off":
        suspects.append("rows hold padding, which is not counted: packing=best_fit or stream")
    where = f"{processes} x {gpu.name}" if processes > 1 else gpu.name
    line = (
        f"expected on {where}: {low:,.0f} to {high:,.0f} tokens/s in phase {phase.name} (a prediction for bf16 and a compiled "
        f"model, never measured; docs/model_of_the_step.md). Time by part: {prediction.largest}."
    )
    return ExpectedRate(low, high, tuple(suspects)), line
