"""Progress of a grid: a bar over trials and, below it, one over the steps of the current training; both with the time left."""

from collections.abc import Callable, Sequence
from typing import Generic, Protocol, TypeVar

from tqdm import tqdm

ReportProgress = Callable[[str, int, int], None]  # what is done now, and step of steps within it
SILENT: ReportProgress = lambda doing, step, steps: None  # noqa: E731


class Named(Protocol):
    """What the bar shows of a trial."""

    @property
    def name(self) -> str:
        """The trial's name."""


Trial = TypeVar("Trial", bound=Named)


class TrialBars(Generic[Trial]):
    """The bars of a list of trials, used as a context."""

    def __init__(self, trials: Sequence[Trial]) -> None:
        self.trials = trials
        self._steps: tqdm | None = None

    def __enter__(self) -> "TrialBars[Trial]":
        self._bar = tqdm(total=len(self.trials), unit="trial", dynamic_ncols=True, disable=not self.trials)
        self._begun = 0
        return self

    def __exit__(self, *error: object) -> None:
        self._close()
        self._bar.update((self._begun if error[0] is None else self._begun - 1) - self._bar.n)
        self._bar.close()

    def begin(self, trial: Trial) -> ReportProgress:
        """Count the trials before this one as done; returns what it reports to."""
        self._close()
        self._bar.update(self._begun - self._bar.n)
        self._bar.set_description(trial.name)
        self._begun += 1
        return self._report

    def _report(self, doing: str, step: int, steps: int) -> None:
        if doing != "training":
            self._close()
            self._bar.set_postfix_str(doing)
            return
        if self._steps is None:
            self._steps = tqdm(total=steps, desc=doing, unit="step", leave=False, position=1, dynamic_ncols=True)
        self._steps.update(step - self._steps.n)

    def _close(self) -> None:
        if self._steps is not None:
            self._steps.close()
        self._steps = None
