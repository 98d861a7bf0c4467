"""Processes that must not outlive the one that started them."""

import ctypes
import os
import signal
import sys

PARENT_DEATH_SIGNAL = 1  # Linux prctl(2) option


def die_with_parent(parent: int | None = None) -> None:
    """End this process when its parent dies (Linux). `parent` is its id, where the child knows whom to expect."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PARENT_DEATH_SIGNAL, signal.SIGKILL)
        if parent is not None and os.getppid() != parent:  # it was gone before this call
            os._exit(1)
