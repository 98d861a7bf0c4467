"""Sweeps (-m): every cell is checked before the first starts, and the exit status says whether all ended well.

Cells are content-named runs: a sweep that is started again skips complete runs and continues the others. Hydra takes
plugins from this package only. The underscore hides the module from its scan, which would import torch, so commands
register the class.
"""

import itertools
import sys
from collections.abc import Sequence

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import HydraException
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict
from omegaconf.errors import OmegaConfBaseException

from ettin_core.foundation.errors import USER_ERRORS, UserError, invalid
from ettin_core.requests.overrides import explained, meant, one_line
from experiments.cli.exit_status import EXIT_FAULT, EXIT_REQUEUE, EXIT_USER_ERROR, CellEnded, status_of

SAME_TERMINAL = (
    "basic",
    "joblib",
)  # launchers whose cells write to the sweep's terminal; submitit writes files


class CellSweeper(Sweeper):
    """The product of all swept values, with checks before the first cell and a verdict after the last."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep what Hydra passes to a sweep."""
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config
        self.launcher = Plugins.instance().instantiate_launcher(hydra_context, task_function, config)

    def sweep(self, arguments: list[str]) -> None:
        """Run every cell. Raises ValueError before the first if a cell is wrong, CellEnded after the last if one failed."""
        assert self.launcher is not None and self.config is not None
        cells = [self._meant(cell) for cell in _cells(arguments)]
        for cell in cells:
            self._check(cell)
        results = self.launcher.launch(cells, initial_job_idx=0)
        _verdict(results, self.config.hydra.runtime.choices["hydra/launcher"])

    def _meant(self, cell: list[str]) -> list[str]:
        """The overrides of a cell in full (ettin_core/requests/overrides.py)."""
        try:
            return meant(self.task_function.request, cell)  # type: ignore[attr-defined]
        except UserError as error:
            raise UserError(f"no cell was started: {' '.join(cell)}: {error}") from error

    def _check(self, cell: list[str]) -> None:
        """Compose a cell and build its request."""
        assert self.hydra_context is not None and self.config is not None
        try:
            config = self.hydra_context.config_loader.load_sweep_config(self.config, cell)
            with open_dict(config):
                del config["hydra"]
            self.task_function.request_of(config)  # type: ignore[attr-defined]
        except (*USER_ERRORS, HydraException, OmegaConfBaseException) as error:
            message = str(error) if isinstance(error, USER_ERRORS) else self._explained(error)
            raise UserError(f"no cell was started: {' '.join(cell)}: {message}") from error

    def _explained(self, error: Exception) -> str:
        task = self.task_function
        return explained(error, task.config_name, task.request)  # type: ignore[attr-defined]


def _cells(arguments: list[str]) -> list[list[str]]:
    """The overrides of every cell, each cell once."""
    values = []
    for override in OverridesParser.create().parse_overrides(arguments):
        key = override.get_key_element()
        if not override.is_sweep_override():
            values.append([f"{key}={override.get_value_element_as_str()}"])
        elif override.is_discrete_sweep():
            values.append([f"{key}={value}" for value in override.sweep_string_iterator()])
        else:
            raise invalid(
                "sweep", override.input_line, "is not a list of values", "use a,b,c, choice(...) or range(...)"
            )
        if not values[-1]:
            raise invalid("sweep", override.input_line, "has no value", "give at least one")
    return [list(cell) for cell in dict.fromkeys(itertools.product(*values))]


def _verdict(results: Sequence[JobReturn], launcher: str) -> None:
    """Print how many cells ended well. Raises CellEnded otherwise: 75 if one was stopped, 2 for user errors only, else 1."""
    endings = [result._return_value for result in results if result.status is not JobStatus.COMPLETED]
    if launcher not in SAME_TERMINAL:
        for error in endings:
            print(f"error: {one_line(error)}", file=sys.stderr)
    if not endings:
        print(f"sweep: {len(results)} of {len(results)} cells are done")
        return
    statuses = {status_of(error) for error in endings}
    status = (
        EXIT_REQUEUE if EXIT_REQUEUE in statuses else EXIT_FAULT if statuses - {EXIT_USER_ERROR} else EXIT_USER_ERROR
    )
    message = (
        f"{len(endings)} of {len(results)} cells are not done; start the same command again: it skips what is complete"
    )
    raise CellEnded(status, f"sweep: {message}")
