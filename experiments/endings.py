"""How a command ends: which errors are one line, and the exit status of each."""

from ettin_core.foundation.errors import DiskFullError, UserError
from ettin_core.training.stops import EXIT_REQUEUE, StopRequested

EXIT_FAULT = 1
EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130


class RunStopped(RuntimeError):
    """Something the user must see in one line, not as a traceback."""


class CellEnded(RuntimeError):
    """A cell of a sweep did not end well: its exit status, and one line that names it by its overrides."""

    def __init__(self, status: int, line: str) -> None:
        super().__init__(status, line)
        self.status, self.line = status, line

    def __str__(self) -> str:
        return self.line


USER_ERRORS = (UserError, RunStopped, DiskFullError)


def status_of(error: BaseException) -> int:
    """The exit status of a command that this error ends; EXIT_FAULT is one of the program, which keeps its traceback."""
    if isinstance(error, CellEnded):
        return error.status
    if isinstance(error, StopRequested):
        return EXIT_REQUEUE
    return EXIT_USER_ERROR if isinstance(error, USER_ERRORS) else EXIT_FAULT
