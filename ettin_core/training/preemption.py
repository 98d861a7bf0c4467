"""How a run ends early: on a signal of the cluster, or because a process stalls. Neither loses a saved step."""

import faulthandler
import os
import signal
import sys
import threading
import time
from types import FrameType
from typing import Any

from ettin_core.foundation.distributed import ProcessGroup
from ettin_core.foundation.exits import SIGNALS

EXIT_STALLED = 70


class PreemptionSignal:
    """Records SIGTERM, SIGUSR1 (SLURM's warning before the time limit) and Ctrl-C within its block; the process goes on.

    A second Ctrl-C ends the process at once. Where Ctrl-C is ignored already (in a study's worker) it stays ignored.
    Outside the main thread, where Python allows no handlers, nothing is recorded.
    """

    def __init__(self, group: ProcessGroup) -> None:
        self.name: str | None = None
        self._group = group
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "PreemptionSignal":
        if threading.current_thread() is threading.main_thread():
            interrupts = [signal.SIGINT] if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN else []
            self._before = {number: signal.signal(number, self._note) for number in (*SIGNALS, *interrupts)}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT:
            if self.interrupted:
                raise KeyboardInterrupt
            print("\nCtrl-C: saving after this step; once more ends at once", file=sys.stderr, flush=True)
        self.name = signal.Signals(number).name

    @property
    def interrupted(self) -> bool:
        """Whether it was Ctrl-C."""
        return self.name == signal.SIGINT.name

    def agreed(self) -> bool:
        """Whether any process was asked to stop: the same answer on every process."""
        (asked,) = self._group.sum_integers([self.name is not None])
        return asked > 0


class Watchdog:
    """Ends this process and prints the stack of every thread when no step was done for `seconds` (0: never).

    Otherwise a process that waits in a collective for one that died or stalled would hold the whole job.
    """

    def __init__(self, seconds: float, name: str) -> None:
        self._seconds, self._name = seconds, name
        self._alive = time.monotonic()
        self._over = threading.Event()

    def __enter__(self) -> "Watchdog":
        if self._seconds:
            threading.Thread(target=self._watch, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()

    def step(self) -> None:
        """Note that a step was done."""
        self._alive = time.monotonic()

    def _watch(self) -> None:
        while not self._over.wait(min(1.0, self._seconds / 4)):
            if time.monotonic() - self._alive > self._seconds:
                print(
                    f"error: {self._name}: no step for {self._seconds:g} seconds (placement.stall_seconds). Another "
                    "process may have died, or the storage hangs; the last checkpoint is whole. The stack of this process:",
                    file=sys.stderr,
                    flush=True,
                )
                faulthandler.dump_traceback(all_threads=True)
                os._exit(EXIT_STALLED)
