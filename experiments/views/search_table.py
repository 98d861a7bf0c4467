"""The trials of a search as lines, which are printed, and as rows of trials.csv."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from ettin_core.studies.search_space import Axis

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

COLUMNS = ("member", "protocol", "trial", "key", "value", "log", "loss", "standard_error", "run")


def lines(axes: tuple[Axis, ...], member: str, protocol: str, trials: "list[FrozenTrial]") -> Iterator[str]:
    """The lines about a member: every trial, the best one, whether it is at an edge, and how to use it."""
    widths = [max(len(axis.key), 12) for axis in axes]
    heads = "".join(f"{axis.key:>{width + 2}}" for axis, width in zip(axes, widths, strict=True))
    yield f"{member}: validation loss of its own objective ({protocol}), {len(trials)} trials"
    yield f"{'trial':>5}{heads}{'loss':>10}{'± se':>8}  run"
    for trial in trials:
        values = "".join(
            f"{_short(trial.params[axis.key]):>{width + 2}}" for axis, width in zip(axes, widths, strict=True)
        )
        error = trial.user_attrs["standard_error"]
        loss = "diverged" if trial.value is None else f"{trial.value:.4f}"
        yield f"{trial.number:>5}{values}{loss:>10}{'' if error is None else f'{error:.4f}':>8}  {trial.user_attrs['run']}"
    ended = [trial for trial in trials if trial.value is not None]
    if not ended:
        yield "no trial ended with a number: lower the range"
        return
    best = min(ended, key=lambda trial: trial.value or 0.0)
    yield f"best: loss {best.value:.4f} with {' '.join(axis.override(best.params[axis.key]) for axis in axes)}"
    for axis in axes:
        side = _edge(axis, best.params[axis.key], [trial.params[axis.key] for trial in trials])
        if side:
            yield f"no trial has a {side} {axis.key} than the best: widen space.{axis.key} to that side, or add trials"


def _edge(axis: Axis, best: Any, tried: Iterable[Any]) -> str | None:
    """On which side of the best value nothing was tried; what diverged was."""
    if axis.choices:
        return None
    values = list(tried)
    return "lower" if best == min(values) else "higher" if best == max(values) else None


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def table_rows(axes: tuple[Axis, ...], member: str, protocol: str, trial: "FrozenTrial") -> Iterator[tuple[Any, ...]]:
    """The rows of the table about a trial, one for each key."""
    error, run = trial.user_attrs["standard_error"], trial.user_attrs["run"]
    for axis in axes:
        yield member, protocol, trial.number, axis.key, trial.params[axis.key], axis.log, trial.value, error, run
