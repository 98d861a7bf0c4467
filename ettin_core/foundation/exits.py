"""How a command ends: exit statuses, and what of an error is one line for people. Imports without torch."""

import contextlib
import errno
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import NoReturn

from ettin_core.foundation.errors import BusyError, DiskFullError, UserError
from ettin_core.foundation.terminal import printable

EXIT_FAULT = 1
EXIT_USER_ERROR = 2
EXIT_REQUEUE = 75  # EX_TEMPFAIL of sysexits.h: not a failure, start the same command again
EXIT_INTERRUPTED = 130
EXIT_NOBODY_READS = 141  # as the shell says of a process that SIGPIPE ended
SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
AGAIN = "start the same command again to continue"

# What the place of a file causes, and its user can change.
_PLACE = {
    errno.EACCES: "change its permissions, or name another place",
    errno.EPERM: "change its permissions, or name another place",
    errno.EROFS: "the disk is read-only; name another place",
    errno.ENOENT: "create it, or name another place",
    errno.ENOTDIR: "a part of this path is a file; name another place",
    errno.EISDIR: "this is a folder; name a file",
    errno.ENAMETOOLONG: "shorten the name",
    errno.ELOOP: "its links lead in a circle; name another place",
}

_NAMELESS = {errno.ENOENT: "the current folder", errno.ENOSPC: "stdout", errno.EDQUOT: "stdout", errno.EBADF: "stdout"}


class StopRequested(RuntimeError):
    """The run was asked to stop; it has saved its state and continues when it is started again.

    `interrupted`: by Ctrl-C, not by the system.
    """

    def __init__(self, message: str, interrupted: bool = False) -> None:
        super().__init__(message)
        self.interrupted = interrupted


def status_of(error: BaseException) -> int:
    """The exit status of a command that this error ends; EXIT_FAULT is one of the program or of the machine."""
    if isinstance(error, StopRequested):
        return EXIT_INTERRUPTED if error.interrupted else EXIT_REQUEUE
    if isinstance(error, BusyError):  # the other process does the work
        return EXIT_REQUEUE
    if isinstance(error, UserError | DiskFullError):
        return EXIT_USER_ERROR
    return EXIT_USER_ERROR if isinstance(error, OSError) and error.errno in _PLACE else EXIT_FAULT


def line_of(error: BaseException) -> str | None:
    """What to print of an error in one line; None for a fault of the program, whose traceback is needed."""
    if isinstance(error, DiskFullError) or not isinstance(error, OSError):
        return str(error) if isinstance(error, UserError | DiskFullError | StopRequested) else None
    if error.errno is None:
        return None
    if error.filename is None:  # of a stream, or of the current folder
        about = _NAMELESS.get(error.errno)
        return None if about is None else f"{about}: {error.strerror}; start the same command again from another place."
    remedy = _PLACE.get(error.errno, "look at the disk, then start the same command again")
    return f"file={os.fsdecode(error.filename)!r}: {error.strerror}; {remedy}."


def end(line: str, status: int) -> NoReturn:
    """End the process with a line on stderr and an exit status."""
    prefix = "error: " if status in (EXIT_USER_ERROR, EXIT_FAULT) else ""
    print(f"{prefix}{printable(line)}", file=sys.stderr, flush=True)
    sys.exit(status)


@contextlib.contextmanager
def ending_in_one_line() -> Iterator[None]:
    """Run a command: errors that have a line end with it, signals and Ctrl-C with their status, a closed pipe in silence.

    Streams that cannot show a letter (ASCII, Latin-1) show an escape instead of failing.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        with _signals_end_politely():
            yield
            if sys.stdout is not None:  # closed by whoever started this process
                sys.stdout.flush()
    except KeyboardInterrupt:
        end(f"\ninterrupted: {AGAIN}", EXIT_INTERRUPTED)
    except BrokenPipeError:  # `| head`: nobody reads; Python would complain once more when it flushes at exit
        _say_nothing_more()
        sys.exit(EXIT_NOBODY_READS)
    except Exception as error:
        line = line_of(error)
        if line is None:
            raise
        if isinstance(error, OSError) and error.filename is None and error.errno in (errno.ENOSPC, errno.EDQUOT):
            _say_nothing_more()
        end(line, status_of(error))


def _say_nothing_more() -> None:
    """Let what is still to be written to stdout go nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextlib.contextmanager
def _signals_end_politely() -> Iterator[None]:
    """SIGTERM and SIGUSR1 end this process with EXIT_REQUEUE unless training handles them, which saves first."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    owner = os.getpid()

    def stop(number: int, frame: FrameType | None) -> None:
        if os.getpid() != owner:  # a forked worker, which dies as if there were no handler
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        end(f"\n{signal.Signals(number).name}: {AGAIN}", EXIT_REQUEUE)

    before = {number: signal.signal(number, stop) for number in SIGNALS}
    try:
        with _no_ending_is_lost():
            yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _no_ending_is_lost() -> Iterator[None]:
    """End also where Python drops what a signal's handler raises: within a destructor it only prints "Exception ignored"."""
    usual = sys.unraisablehook

    def hook(dropped: "sys.UnraisableHookArgs") -> None:
        if not isinstance(dropped.exc_value, SystemExit | KeyboardInterrupt):
            usual(dropped)
            return
        number = signal.SIGINT if isinstance(dropped.exc_value, KeyboardInterrupt) else signal.SIGTERM
        threading.Timer(0.05, os.kill, (os.getpid(), number)).start()  # once the destructor is left

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = usual
