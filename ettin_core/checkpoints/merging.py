"""The weights of several models of one shape merged into those of one: pure functions of tensors.

A method merges one tensor of all models at a time. It computes in float64, and `merged` rounds once, to the dtype of the
first model. A factor of zero leaves its tensor out, so that weights of one and zeros give a model back bit for bit.
"""

import functools
from collections.abc import Callable, Mapping, Sequence

import torch

Tensors = Sequence[torch.Tensor]
Method = Callable[[Tensors, Sequence[float], torch.Tensor | None, float | None], torch.Tensor]
COLLINEAR = 0.9995  # a cosine above this gives an angle too small to divide by; mergekit has the same bound


def merged(
    method: str,
    models: Sequence[Mapping[str, torch.Tensor]],
    weights: Sequence[float],
    base: Mapping[str, torch.Tensor] | None = None,
    density: float | None = None,
) -> dict[str, torch.Tensor]:
    """Models of the same names and shapes as one, of the first one's dtypes; `weights` has a number for each."""
    assert all(model.keys() == models[0].keys() for model in models)
    merge = MERGES[method]
    return {
        name: merge([model[name] for model in models], weights, None if base is None else base[name], density).to(
            tensor.dtype
        )
        for name, tensor in models[0].items()
    }


def average(
    tensors: Tensors, weights: Sequence[float], base: torch.Tensor | None, density: float | None
) -> torch.Tensor:
    """The mean, a uniform soup (Wortsman et al. 2022, arXiv:2203.05482); of one run's checkpoints, Izmailov et al. 2018."""
    return _sum(tensors, [1 / len(tensors)] * len(tensors))


def weighted(
    tensors: Tensors, weights: Sequence[float], base: torch.Tensor | None, density: float | None
) -> torch.Tensor:
    """The weighted mean: a straight line between two models (WiSE-FT, Wortsman et al. 2022, arXiv:2109.01903)."""
    return _sum(tensors, weights)


def slerp(tensors: Tensors, weights: Sequence[float], base: torch.Tensor | None, density: float | None) -> torch.Tensor:
    """A point on the arc between two tensors, at the second's weight (Shoemake 1985), per tensor, as mergekit does.

    Where the angle is not defined or next to nothing, the point on the straight line.
    """
    first, second = (tensor.double().flatten() for tensor in tensors)
    norms = first.norm() * second.norm()
    cosine = torch.dot(first, second) / norms if norms > 0 else torch.ones(())
    if cosine.abs() > COLLINEAR:
        return _sum(tensors, weights)
    angle = torch.arccos(cosine)
    factors = [float(torch.sin(weight * angle) / torch.sin(angle)) for weight in weights]
    return _sum(tensors, factors)


def task_arithmetic(
    tensors: Tensors, weights: Sequence[float], base: torch.Tensor | None, density: float | None
) -> torch.Tensor:
    """The base plus the weighted changes of each model from it (Ilharco et al. 2023, arXiv:2212.04089)."""
    assert base is not None
    return _sum([base, *tensors], [1 - sum(weights), *weights])


def ties(tensors: Tensors, weights: Sequence[float], base: torch.Tensor | None, density: float | None) -> torch.Tensor:
    """Trim, elect sign, merge (Yadav et al. 2023, arXiv:2306.01708).

    Of each model's changes from the base the largest stay, a share `density` of the tensor. The sign of their weighted sum
    is elected, plus where that is zero. The base is moved by the weighted mean of the changes of that sign. The paper
    ranks the changes of the whole model; they are ranked per tensor here, as in mergekit.
    """
    assert base is not None and density is not None
    changes = torch.stack([trimmed(tensor.double() - base.double(), density) for tensor in tensors])
    factors = torch.tensor(weights, dtype=torch.float64).reshape(-1, *[1] * base.ndim)
    scaled = changes * factors
    elected = torch.where(scaled.sum(0) >= 0, 1.0, -1.0)
    agreeing = scaled.sign() == elected
    total = (factors * agreeing).sum(0)
    return base.double() + (scaled * agreeing).sum(0) / torch.where(total == 0, 1.0, total)


def trimmed(changes: torch.Tensor, density: float) -> torch.Tensor:
    """The changes with all but the largest share, by magnitude, set to zero; one of them always stays."""
    kept = max(1, int(density * changes.numel()))
    flat = changes.flatten()
    places = flat.abs().topk(kept).indices
    return torch.zeros_like(flat).scatter(0, places, flat[places]).reshape(changes.shape)


MERGES: dict[str, Method] = {
    "average": average,
    "weighted": weighted,
    "slerp": slerp,
    "task_arithmetic": task_arithmetic,
    "ties": ties,
}


def _sum(tensors: Tensors, factors: Sequence[float]) -> torch.Tensor:
    """The sum of tensors times their factors, in float64, without those of factor zero."""
    terms = [tensor.double() * factor for tensor, factor in zip(tensors, factors, strict=True) if factor]
    return functools.reduce(torch.add, terms) if terms else torch.zeros_like(tensors[0], dtype=torch.float64)
