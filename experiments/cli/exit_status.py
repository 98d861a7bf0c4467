"""How a command ends: which errors are one line, and the exit status of each."""

from ettin_core.foundation import exits
from ettin_core.foundation.exits import EXIT_FAULT, EXIT_INTERRUPTED, EXIT_REQUEUE, EXIT_USER_ERROR, StopRequested

__all__ = ["EXIT_FAULT", "EXIT_INTERRUPTED", "EXIT_REQUEUE", "EXIT_USER_ERROR", "StopRequested"]


class CellEnded(RuntimeError):
    """A cell of a sweep did not end well: its exit status, and one line that names it by its overrides."""

    def __init__(self, status: int, line: str) -> None:
        super().__init__(status, line)
        self.status, self.line = status, line

    def __str__(self) -> str:
        return self.line


def status_of(error: BaseException) -> int:
    """The exit status of a command that this error ends."""
    return error.status if isinstance(error, CellEnded) else exits.status_of(error)


def line_of(error: BaseException) -> str | None:
    """What to print of an error in one line; None for a fault of the program, whose traceback is needed."""
    return error.line if isinstance(error, CellEnded) else exits.line_of(error)
