"""What a run takes its first weights from: the parent of a conversion, or the parents of a merged model and the method."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ettin_core.foundation.errors import invalid, unknown

DENSITY = 0.2  # of TIES: the share of the largest changes that stay (Yadav et al. 2023, k = 20)
TOLERANCE = 1e-6  # of a sum of weights


class MergeMethod(NamedTuple):
    """What a method takes: a base or none, weights that are shares of one or any, and how many parents."""

    base: bool = False
    shares: bool = True
    least: int = 2
    most: int | None = None


METHODS = {
    "average": MergeMethod(),
    "weighted": MergeMethod(),
    "slerp": MergeMethod(most=2),
    "task_arithmetic": MergeMethod(base=True, shares=False, least=1),
    "ties": MergeMethod(base=True, least=1),
}


@dataclass(frozen=True)
class Parent:
    """A checkpoint that a run starts from: the content name of its run, its name and the hash of its weights."""

    run: str
    checkpoint: str
    weights: str


@dataclass(frozen=True)
class Merge:
    """How the weights of several parents become those of one model (checkpoints/merging.py).

    `weights` has a number for each parent. The `base` is what the changes of task arithmetic and TIES are measured from.
    `density` is the share of each tensor's changes that TIES keeps.
    """

    method: str
    parents: tuple[Parent, ...]
    weights: tuple[float, ...]
    base: Parent | None = None
    density: float | None = None

    def __post_init__(self) -> None:
        base = None if self.base is None else self.base.run
        check_merge(self.method, len(self.parents), self.weights, base, self.density)


def check_merge(method: str, parents: int, weights: Sequence[float], base: str | None, density: float | None) -> None:
    """Raises ValueError for an unknown method, and for parents, weights, a base or a density that do not fit it."""
    if method not in METHODS:
        raise unknown("method", method, "is not a method of merging", METHODS)
    rule = METHODS[method]
    if parents < rule.least or (rule.most is not None and parents > rule.most):
        number = f"{rule.least} or more" if rule.most is None else str(rule.most)
        raise invalid("parents", parents, f"is not a number of parents for {method}", f"give {number}")
    if len(weights) != parents:
        problem = f"holds {len(weights)} weights for {parents} parents"
        raise invalid("weights", list(weights), problem, "give a number for each parent, in their order")
    _check_weights(method, weights)
    if (base is not None) != rule.base:
        if rule.base:
            problem = f"is missing: {method} merges changes from a base"
            raise invalid("base", None, problem, "give the run that the parents started from, e.g. runs/<run>@step0")
        raise invalid("base", base, f"has no meaning for {method}", "leave it out, or use task_arithmetic or ties")
    if (density is not None) != (method == "ties"):
        raise invalid("density", density, f"does not fit {method}", "give it to method=ties and to no other")
    if density is not None and not 0 < density <= 1:
        raise invalid("density", density, "is not a share of the changes", f"use more than 0 up to 1, e.g. {DENSITY}")


def _check_weights(method: str, weights: Sequence[float]) -> None:
    """Raises ValueError for a weight that is not finite, and for shares that are negative or do not sum to one."""
    if not all(map(math.isfinite, weights)):
        raise invalid("weights", list(weights), "holds a number that is not finite", "give finite numbers")
    if METHODS[method].shares and (min(weights) < 0 or abs(sum(weights) - 1) > TOLERANCE):
        remedy = "give shares of at least 0 that sum to 1, e.g. [0.3,0.7]"
        raise invalid("weights", list(weights), f"is not a division of one (its sum is {sum(weights):g})", remedy)
