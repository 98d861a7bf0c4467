"""Memory of training: an estimate for plans, and the least that a device must hold, checked before training."""

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ettin_core.foundation.errors import invalid
from ettin_core.model.accounting import activation_bytes, parameter_count
from ettin_core.model.config import ModelConfig
from ettin_core.objectives.config import CHUNK_ROWS
from ettin_core.training.config import PlacementConfig, RunConfig

if TYPE_CHECKING:
    import torch

    from ettin_core.foundation.distributed import ProcessGroup

FP32, BF16 = 4, 2  # bytes
MOST_TOKENS = 2**17  # of a micro-batch that memory bounds: beyond it a GPU gains nothing


@dataclass(frozen=True)
class Memory:
    """Bytes of one GPU at the peak of a step: an estimate. See `estimate_memory`."""

    weights: int
    gradients: int
    optimizer: int
    activations: int
    loss: int
    rows: int

    @property
    def total(self) -> int:
        """The sum of all."""
        return self.states + self.activations + self.loss

    @property
    def states(self) -> int:
        """Weights, gradients and optimiser state, which do not depend on the batch."""
        return self.weights + self.gradients + self.optimizer


def estimate_memory(
    run: RunConfig, rows: int, context: int, scored_share: float, shards: int = 1, recompute: bool = False
) -> Memory:
    """Memory of one GPU with micro-batches of `rows` x `context` tokens, the states divided into `shards` (FSDP): an estimate.

    P parameters, T of them trained (all, or the A that an adapter adds to them), V vocabulary, H hidden. b = 2 bytes under
    bf16, else 4. n = rows x context tokens, s of them scored:

    weights      4 (P + A) (fp32), and 2 (P + A) for the bf16 copies that autocast keeps; with N shards 4 P / N, and whole
                 what is not in a layer (4 V H and more) and one layer
    gradients    4 T / N
    optimizer    8 T / N (two fp32 moments; Muon has one for the layers' matrices: 4 P / N for these)
    activations  n x `accounting.activation_bytes`, and 4 x 4 n H around the layers (embedding, two norms, result); with
                 `recompute` the first for one layer only, and 4 n H for the input of each
    loss         s x (12 + 3 b) H (head), a chunk of logits and its gradient c V (4 + b), and, where it is
                 trained, 4 V H (gradient of the output matrix before it joins the others); c = min(s, CHUNK_ROWS)

    It is that of eager execution: torch.compile keeps less. Left out are the framework's memory (about 1 GiB),
    fragmentation, DDP's buckets (4 P with several processes) and the dense masks of the sdpa and reference backends.
    """
    model, tokens = run.model, rows * context
    operand = BF16 if run.precision == "bf16" else FP32
    parameters, hidden, vocabulary = parameter_count(model), model.hidden_size, model.vocab_size
    trained, held = run.trained_parameters, parameters + run.adapter_parameters
    layer, layers = layer_parameters(model), activation_bytes(model, operand)
    if recompute:
        layers = layers // model.num_layers + FP32 * hidden * model.num_layers
    whole = 0 if shards == 1 else FP32 * (parameters - model.num_layers * layer + layer)
    copies = BF16 * held if operand == BF16 and shards == 1 else 0
    second = trained - (model.num_layers * layer if run.optimizer.name == "muon" else 0)
    scored = round(tokens * scored_share)
    output = FP32 * vocabulary * hidden if run.adapter is None else 0
    chunk = min(scored, CHUNK_ROWS["cuda"])
    return Memory(
        weights=-(-FP32 * held // shards) + whole + copies,
        gradients=-(-FP32 * trained // shards),
        optimizer=-(-FP32 * (trained + second) // shards),
        activations=tokens * (layers + 4 * FP32 * hidden),
        loss=scored * (12 + 3 * operand) * hidden + chunk * vocabulary * (FP32 + operand) + output,
        rows=rows,
    )


def micro_batch_count(run: RunConfig, placement: PlacementConfig, batch_rows: int, context: int, processes: int) -> int:
    """The number of micro-batches of each process in a batch, by `micro_rows` or, where that is None, `activation_gib`.

    By the latter the fewest equal ones whose activations fit, of MOST_TOKENS tokens at most, and one row at least. Raises
    ValueError if the rows do not divide.
    """
    by_rows = placement.micro_batches(batch_rows, processes)
    if placement.micro_rows is not None or placement.activation_gib is None:
        return by_rows
    rows = batch_rows // processes
    a_row = estimate_memory(run, 1, context, 0.0, recompute=placement.recompute).activations
    most = max(1, min(int(placement.activation_gib * 2**30) // a_row, MOST_TOKENS // context))
    return next(count for count in range(1, rows + 1) if rows % count == 0 and rows // count <= most)


def layer_parameters(model: ModelConfig) -> int:
    """Parameters of one layer's matrices."""
    return 4 * model.hidden_size**2 + 3 * model.hidden_size * model.intermediate_size


def check_memory(run: RunConfig, placement: PlacementConfig, processes: int, available: int) -> None:
    """Raises ValueError if processes with `available` bytes each cannot hold their parts of the states.

    Weights, gradients and moments are needed for any batch; whether the batch fits beside them is not checked.
    """
    needed = _states(run, placement, processes)
    if needed <= available:
        return
    enough = next((n for n in (2**k for k in range(16)) if _states(run, placement, n) <= available), None)
    if placement.parallel == "fsdp" and enough:
        remedy = f"start {enough} processes or more"
    else:
        remedy = "use placement.parallel=fsdp with more processes, a smaller size, or larger devices"
    raise invalid(
        "placement",
        f"{placement.parallel} over {processes} process{'es' if processes > 1 else ''}",
        f"needs {needed / 2**30:.3g} GiB in each for weights, gradients and optimiser of size {run.size} and has "
        f"{available / 2**30:.3g} GiB",
        remedy,
    )


def _states(run: RunConfig, placement: PlacementConfig, processes: int) -> int:
    return estimate_memory(run, 1, 8, 0.0, processes if placement.parallel == "fsdp" else 1).states


def device_memory(device: "torch.device", group: "ProcessGroup") -> int:
    """Bytes that this process may use at most: its GPU's, or its share of the machine's."""
    if device.type == "cuda":
        import torch

        return torch.cuda.get_device_properties(device).total_memory
    here = int(os.environ.get("LOCAL_WORLD_SIZE", group.world_size))
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // here
