"""An estimator's call, repeated on drawn studies of the same shape: each gives estimates with intervals, and the truth.

Where items are known, studies are drawn from them (`resampled_studies`). Where only runs are, scores are normal around the
recorded mean: with the errors over items that all runs share, and the runs' whole spread.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from analysis import inference
from analysis.inference import Bounds
from analysis.observed import Call
from analysis.resampled_studies import Source, draw, shifts_of_null, source
from analysis.uncertainty import crossing

FEWEST_CLUSTERS = 10  # that stand for all that might have been: of two or six there is nothing to draw from
Estimates = tuple[Bounds, float]  # of many studies, and the truth of all
Repeat = Callable[[np.random.Generator, int, bool, float], list[Estimates]]  # given studies, null, level: each estimate


@dataclass(frozen=True)
class Shape:
    """What an interval is of, the numbers behind it, and how studies like it are drawn; None: they cannot be, for `reason`."""

    kind: str
    seeds: int
    items: int
    clusters: int
    test: bool
    draw: Repeat | None
    reason: str = ""


def shape(call: Call, before: list[Call]) -> Shape:
    """The shape of a call; `before` are all calls of the report, among which are the parts of a mean of tasks."""
    given = inspect.signature(call.estimator).bind(*call.given, **call.named)
    given.apply_defaults()
    return SHAPES[call.estimator](before=before, **given.arguments)


def _of_items(kind: str, test: bool, origin: Source, estimates: Repeat) -> Shape:
    _, seeds, n = origin.values.shape
    groups = len(origin.sizes)
    reason = "" if origin.varies else "nothing varies in the records"
    if groups < FEWEST_CLUSTERS:
        reason = f"fewer than {FEWEST_CLUSTERS} clusters to draw from"
    return Shape(kind, seeds, n, groups, test, None if reason else estimates, reason)


def _difference(left: Any, right: Any, clusters: Any, share: bool, **_: Any) -> Shape:
    origin = source(np.stack([left, right]), clusters)

    def estimates(generator: np.random.Generator, studies: int, null: bool, level: float) -> list[Estimates]:
        shift = shifts_of_null(origin) if null else np.zeros(2)
        values = draw(origin, generator, studies, shift)
        bounds = inference.difference(values[0], values[1], origin.labels, share, level)
        return [(bounds, float(np.subtract(*(origin.truth + shift))))]

    return _of_items("difference", True, origin, estimates)


def _mean(values: Any, clusters: Any, share: bool, **_: Any) -> Shape:
    origin = source(values[None], clusters)

    def estimates(generator: np.random.Generator, studies: int, null: bool, level: float) -> list[Estimates]:
        drawn = draw(origin, generator, studies, np.zeros(1))[0]
        return [(inference.mean(drawn, origin.labels, share), float(origin.truth[0]))]

    return _of_items("share" if share else "mean", False, origin, estimates)


def _contrasts(values: Any, weights: Any, clusters: Any, errors: Any, **_: Any) -> Shape:
    cells, blocks, n = values.shape
    if n == 1:
        return Shape("effect", blocks, 0, 0, True, None, "no items are known")
    origin = source(values, clusters)

    def estimates(generator: np.random.Generator, studies: int, null: bool, level: float) -> list[Estimates]:
        shift = shifts_of_null(origin) if null else np.zeros(cells)
        drawn = np.moveaxis(draw(origin, generator, studies, shift), 0, 1)
        truths = np.asarray(weights) @ (origin.truth + shift)
        return list(zip(inference.contrasts(drawn, weights, origin.labels), map(float, truths), strict=True))

    if blocks == 1:
        return Shape("effect", 1, n, len(origin.sizes), True, None, "one seed")
    return _of_items("effect", True, origin, estimates)


def _weighted(components: Any, weights: Any, values: Any, before: list[Call]) -> Shape:
    """Tasks of a mean share their run effects."""
    parts = [next((call for call in before if call.result is part), None) for part in components]
    arrays = [_arrays(part) for part in parts if part is not None]
    sides = {len(each[0]) for each in arrays if each is not None}
    if len(arrays) < len(parts) or None in arrays or len(sides) != 1:
        return Shape("mean of tasks", values.shape[-1], 0, 0, False, None, "no items are known")
    origins = [source(each[0], each[1]) for each in arrays if each is not None]
    shares = [bool(each[2]) for each in arrays if each is not None]
    test, seeds = sides == {2}, values.shape[-1]

    def estimates(generator: np.random.Generator, studies: int, null: bool, level: float) -> list[Estimates]:
        runs = generator.normal(0, 1, (max(sides), studies, seeds))
        drawn_parts, means, truth = [], [], 0.0
        for origin, weight, share in zip(origins, weights, shares, strict=True):
            shift = shifts_of_null(origin) if null else np.zeros(max(sides))
            drawn = draw(origin, generator, studies, shift, runs)
            steps = drawn[0] - drawn[1] if test else drawn[0]
            drawn_parts.append(
                inference.components_of_difference(drawn[0], drawn[1], origin.labels, share)
                if test
                else inference.variance_components(steps, origin.labels)
            )
            means.append(steps.mean(-1))
            moved = origin.truth + shift
            truth += weight * float(moved[0] - moved[1] if test else moved[0])
        return [(inference.weighted(drawn_parts, weights, np.stack(means, axis=-2)), truth)]

    few = min(len(origin.sizes) for origin in origins)
    reason = "" if few >= FEWEST_CLUSTERS else f"fewer than {FEWEST_CLUSTERS} clusters to draw from"
    items = sum(len(origin.order) for origin in origins)
    kind = "difference of means of tasks" if test else "mean of tasks"
    return Shape(kind, seeds, items, few, test, None if reason else estimates, reason)


def _arrays(part: Call) -> tuple[np.ndarray, Any, Any] | None:
    """The items (sides, seeds, items) of a part of a mean of tasks, their clusters, and whether they are shares."""
    given = inspect.signature(part.estimator).bind(*part.given, **part.named)
    given.apply_defaults()
    names = given.arguments
    if part.estimator is inference.components_of_difference:
        return np.stack([names["left"], names["right"]]), names["clusters"], names["share"]
    if part.estimator is inference.variance_components:
        return names["values"][None], names["clusters"], False
    return None


def _normal_runs(generator: np.random.Generator, studies: int, values: np.ndarray, error: Any, spread: float) -> Any:
    """Scores (studies, runs) around the mean of `values`, with an error that runs share and the runs' own."""
    common = 0.0 if error is None else float(np.mean(np.square(error))) ** 0.5
    noise = common * generator.normal(0, 1, (studies, 1)) + spread * generator.normal(0, 1, (studies, values.shape[-1]))
    return float(values.mean()) + noise


def _difference_of_runs(left: Any, right: Any, errors: Any, **_: Any) -> Shape:
    spread = float((left - right).std(ddof=1)) if len(left) > 1 else 0.0

    first, second = (None, None) if errors is None else errors

    def estimates(generator: np.random.Generator, studies: int, null: bool, level: float) -> list[Estimates]:
        ours, theirs = (left - left.mean(), right - right.mean()) if null else (left, right)
        sides = (
            _normal_runs(generator, studies, ours, first, spread),
            _normal_runs(generator, studies, theirs, second, 0.0),
        )
        shape = sides[0].shape
        drawn = [np.broadcast_to(error, shape) for error in errors or ()]
        drawn_errors = (drawn[0], drawn[1]) if drawn else None
        bounds = inference.difference_of_runs(*sides, drawn_errors, level)
        return [(bounds, float(ours.mean() - theirs.mean()))]

    known = spread > 0 or errors is not None
    reason = "" if known else "nothing varies in the records"
    return Shape("difference, runs alone", len(left), 0, 0, True, estimates if known else None, reason)


def _mean_of_runs(values: Any, errors: Any, **_: Any) -> Shape:
    spread = float(values.std(ddof=1)) if len(values) > 1 else 0.0

    def estimates(generator: np.random.Generator, studies: int, null: bool, level: float) -> list[Estimates]:
        drawn = _normal_runs(generator, studies, values, errors, spread)
        known = None if errors is None else np.broadcast_to(errors, drawn.shape)
        return [(inference.mean_of_runs(drawn, known), float(values.mean()))]

    known = spread > 0 or errors is not None
    reason = "" if known else "nothing varies in the records"
    return Shape("mean, runs alone", len(values), 0, 0, False, estimates if known else None, reason)


def _correlation(values: Any, n: int, errors: Any, **_: Any) -> Shape:
    """Normal on Fisher's scale, on which the interval is."""
    inside = np.arctanh(np.clip(values, -1 + 1e-9, 1 - 1e-9))
    spread = float(inside.std(ddof=1)) if len(values) > 1 else 0.0
    error = np.full(len(values), 1 / max(1, n - 3) ** 0.5)
    if errors is not None:
        error = np.where(errors > 0, errors / (1 - np.tanh(inside) ** 2), error)

    def estimates(generator: np.random.Generator, studies: int, null: bool, level: float) -> list[Estimates]:
        drawn = np.tanh(_normal_runs(generator, studies, inside, error, spread))
        stored = error * (1 - drawn**2)
        return [(inference.correlation(drawn, n, stored), float(np.tanh(inside.mean())))]

    return Shape("correlation", len(values), n, n, False, estimates)


def _crossing(x: Any, values: Any, **_: Any) -> Shape:
    """Lines with the mean line and the spread of the recorded units, seeds or items."""
    units = len(values)
    design = np.column_stack([np.ones(len(x)), np.log(x)])
    level, slope = np.linalg.pinv(design) @ values.mean(0)
    spread = np.atleast_2d(np.cov(values.T)) if units > 1 else np.empty((0, 0))

    def estimates(generator: np.random.Generator, studies: int, null: bool, _: float) -> list[Estimates]:
        steps = generator.multivariate_normal(np.zeros(len(x)), spread, (studies, units), method="svd")
        fits = [crossing(x, design @ (level, slope) + each) for each in steps]
        ends = np.array([(fit.interval.low, fit.interval.high) if fit.interval else (0.0, np.inf) for fit in fits])
        places = np.array([fit.x for fit in fits])
        bounds = Bounds(places, ends[:, 0], ends[:, 1], np.full(studies, np.nan))
        return [(bounds, float(np.exp(-level / slope)))]

    reason = "one unit" if units < 2 else ""
    return Shape("crossing", units, 0, 0, False, None if reason else estimates, reason)


SHAPES: dict[Callable[..., Any], Callable[..., Shape]] = {
    inference.difference: _difference,
    inference.mean: _mean,
    inference.contrasts: _contrasts,
    inference.weighted: _weighted,
    inference.difference_of_runs: _difference_of_runs,
    inference.mean_of_runs: _mean_of_runs,
    inference.correlation: _correlation,
    crossing: _crossing,
}
