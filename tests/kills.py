"""A process that is killed at its n-th change of the disk, for every n: what a writer leaves behind is looked at each time."""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

CHANGES = ("os.rename", "os.mkdir", "os.rmdir", "os.remove", "os.link", "os.symlink", "os.truncate", "ctypes.dlsym")


def killed_at_every_change(action: Callable[[], object], check: Callable[[int], None]) -> int:
    """Fork, do `action`, kill at the n-th change of the disk; then `check` in this process. Until an action ends by itself.

    A change is a file opened for writing, a folder made, a rename, a removal, or a call of the system's own functions.
    Returns the number of kills.
    """
    number = 0
    while True:
        child = os.fork()
        if child == 0:
            _kill_at(number)
            try:
                action()
            except BaseException as error:  # a child must never go on as a second test process
                os.write(2, f"{type(error).__name__}: {error}\n".encode())
                os._exit(1)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status):
            assert os.waitstatus_to_exitcode(status) == 0, "the action fails by itself"
            return number
        assert os.WTERMSIG(status) == signal.SIGKILL
        check(number)
        number += 1


def _kill_at(number: int) -> None:
    seen = 0

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal seen
        if event in CHANGES or (event == "open" and _writes(arguments)):
            if seen == number:
                os.kill(os.getpid(), signal.SIGKILL)
            seen += 1

    sys.addaudithook(watch)


def _writes(arguments: tuple[Any, ...]) -> bool:
    path, _, flags = arguments
    on_disk = isinstance(path, (str, bytes, Path)) and not str(path).startswith(("/dev/", "/proc/"))
    return on_disk and bool(flags & (os.O_WRONLY | os.O_RDWR))
