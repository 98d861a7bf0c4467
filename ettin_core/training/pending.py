"""Steps whose results have not been read, in order: a device may be a few steps behind the host."""

from ettin_core.training.config import RunConfig
from ettin_core.training.phases import Phase
from ettin_core.training.progress import Progress
from ettin_core.training.step import NonFiniteError, PendingStep, StepResult


class PendingSteps:
    """The steps of a run that have not been read, each with its phase and the progress before it."""

    def __init__(self, run: RunConfig) -> None:
        self._run = run
        self._steps: list[tuple[PendingStep, Phase, Progress]] = []

    @property
    def last(self) -> PendingStep | None:
        """The last step, if there is one."""
        return self._steps[-1][0] if self._steps else None

    def add(self, step: PendingStep, phase: Phase, before: Progress) -> None:
        """Append a step that began at the progress `before` of a phase."""
        self._steps.append((step, phase, before))

    def read(self, progress: Progress) -> tuple[Progress, StepResult | None]:
        """The progress with the results of all steps, and those of the last; waits for the device.

        Raises NonFiniteError, with its place, for the first step whose numbers are not finite under "stop".
        """
        result = None
        for step, phase, before in self._steps:
            try:
                result = step.read()
            except NonFiniteError as error:
                raise _with_place(error, self._run, phase, before) from error
            progress = progress.with_result(result)
        self._steps.clear()
        return progress, result


def _with_place(error: NonFiniteError, run: RunConfig, phase: Phase, before: Progress) -> NonFiniteError:
    """The error of a step, with its place and what to do."""
    first, last = phase.batches.before(before.step), phase.batches.before(before.step + 1) - 1
    return NonFiniteError(
        f"{error} at run {run.name}, global step {before.global_step}, phase {phase.name}, step {before.step}, "
        f"global rows {first} to {last}: stopped before the update. Look at the batch with experiments.view_batch; lower the "
        "learning rate, lengthen the warm-up, or leave such updates out with recipe.on_nonfinite=skip."
    )
