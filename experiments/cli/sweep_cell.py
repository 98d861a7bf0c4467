"""A cell of a sweep (-m), which Hydra runs by one of its launchers: how it fails without stopping the others.

What comes before the first cell and after the last is in hydra_plugins/_ettin_suite.py.
"""

import multiprocessing
import os
import sys
import traceback
from collections.abc import Callable
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

from ettin_core.foundation.processes import die_with_parent
from ettin_core.foundation.progress_bars import take_line
from ettin_core.requests.overrides import one_line
from experiments.cli.exit_status import EXIT_INTERRUPTED, EXIT_REQUEUE, CellEnded, StopRequested, line_of, status_of


def in_a_sweep() -> bool:
    """Whether Hydra runs the caller as a cell."""
    return bool(HydraConfig.get().mode == RunMode.MULTIRUN)


def run_cell(function: Callable[[], Any]) -> None:
    """Call what a cell does. Raises CellEnded, which Hydra notes before it goes on, once the error's line is printed.

    In a basic sweep, whose cells are all of this process, SIGTERM and Ctrl-C end the whole of it.
    """
    launcher = HydraConfig.get().runtime.choices["hydra/launcher"]
    if launcher == "joblib":
        _enter_worker()
    asked = False
    try:
        function()
    except SystemExit as end:
        status, message = int(end.code or 0), f"ended with status {end.code}"
        asked = status in (EXIT_REQUEUE, EXIT_INTERRUPTED)
    except Exception as error:
        asked = isinstance(error, StopRequested)  # a cell that another process trains ends with 75 as well
        status, message = status_of(error), line_of(error) or f"{type(error).__name__}: {one_line(error)}"
        if line_of(error) is None:
            traceback.print_exc()
    else:
        return
    if not status:
        return
    line = f"{' '.join(HydraConfig.get().overrides.task)}: {message}"
    print(f"error: {line}", file=sys.stderr, flush=True)
    if launcher == "basic" and asked:
        sys.exit(status)
    raise CellEnded(status, line)


def _enter_worker() -> None:
    """A joblib worker dies with its sweep (its locks would keep a new start out), and its bar has a separate line."""
    die_with_parent()
    number = multiprocessing.current_process().name.rpartition("-")[2]  # LokyProcess-1, -2, ...
    take_line((int(number) - 1) % (os.cpu_count() or 1) if number.isdigit() else 0)
