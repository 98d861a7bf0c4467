"""How far two runs of one configuration are apart: the effect of another placement on the same training, measured."""

from dataclasses import dataclass

from ettin_core.records.folders import RunFolder

LIMIT = 0.01  # of the loss: beyond it two runs are not the same training


@dataclass(frozen=True)
class Deviation:
    """The largest relative differences of losses and gradient norms at shared steps, and the largest of a final weight.

    `weights` is None where a final checkpoint is missing; `same_weights` compares the recorded hashes.
    """

    steps: int
    loss: float
    gradient_norm: float
    weights: float | None
    same_weights: bool

    @property
    def is_none(self) -> bool:
        """Whether the two runs are the same, bit for bit."""
        return self.same_weights and self.loss == 0 and self.gradient_norm == 0

    def __str__(self) -> str:
        if self.is_none:
            return f"none: the same losses at {self.steps} steps and the same weights, bit for bit"
        weights = "" if self.weights is None else f", final weights by up to {self.weights:.1g}"
        return (
            f"over {self.steps} steps losses differ by up to {self.loss:.1g} of their value, gradient norms by "
            f"{self.gradient_norm:.1g}{weights}"
        )


def measure(left: RunFolder, right: RunFolder) -> Deviation | None:
    """The deviation of two complete runs of one configuration; None where they logged no step together."""
    left_rows, right_rows = ({row.step: row for row in folder.training()} for folder in (left, right))
    shared = sorted(left_rows.keys() & right_rows.keys())
    if not shared:
        return None
    norms = [(left_rows[step].gradient_norm, right_rows[step].gradient_norm) for step in shared]
    return Deviation(
        len(shared),
        max(_apart(left_rows[step].loss, right_rows[step].loss) for step in shared),
        max(_apart(a, b) for a, b in norms),
        _weights_apart(left, right),
        left.summary()["final_weights"] == right.summary()["final_weights"],
    )


def _apart(left: float | None, right: float | None) -> float:
    if left is None or right is None:
        return 0.0 if left is right else float("inf")
    return 0.0 if left == right else abs(left - right) / max(abs(left), abs(right))


def _weights_apart(left: RunFolder, right: RunFolder) -> float | None:
    paths = [folder.checkpoints / str(folder.summary()["final_checkpoint"]) for folder in (left, right)]
    if not all(path.is_dir() for path in paths):
        return None
    from ettin_core.checkpoints import native  # with torch

    left_weights, right_weights = (native.load(path).model for path in paths)
    shapes = [{name: weight.shape for name, weight in weights.items()} for weights in (left_weights, right_weights)]
    if shapes[0] != shapes[1]:
        return None
    return max(float((left_weights[name] - right_weights[name]).abs().max()) for name in left_weights)
