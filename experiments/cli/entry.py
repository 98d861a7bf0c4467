"""How a command starts and ends: Hydra composes, the typed request goes to a function, errors become one line."""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import hydra
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from ettin_core.foundation.errors import UserError
from ettin_core.foundation.exits import end, ending_in_one_line
from ettin_core.foundation.help import requested_help
from ettin_core.foundation.manual import CONFIGURATIONS
from ettin_core.foundation.strict_config import build
from ettin_core.foundation.typos import check_options
from ettin_core.requests.compose import to_plain
from ettin_core.requests.overrides import explained, meant
from experiments.cli.exit_status import CellEnded
from experiments.cli.sweep_cell import in_a_sweep, run_cell
from hydra_plugins._ettin_suite import CellSweeper

Request = TypeVar("Request")


@dataclass(frozen=True)
class Task(Generic[Request]):
    """What Hydra calls with a composed configuration: a function of the typed request, alone or as a cell of a sweep."""

    function: Callable[[Request], Any]
    request: type[Request]
    config_name: str

    def request_of(self, config: DictConfig) -> Request:
        """The typed request. Raises ValueError for a key or value that cannot be."""
        return build(self.request, to_plain(config))

    def __call__(self, config: DictConfig) -> None:
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
        if "TORCHELASTIC_RUN_ID" not in os.environ:
            return self._run(config)
        from torch.distributed.elastic.multiprocessing.errors import record

        record(self._run)(config)  # under torchrun, the summary names the error of a process that died

    def _run(self, config: DictConfig) -> None:
        if in_a_sweep():
            run_cell(lambda: self.function(self.request_of(config)))
            return
        with ending_in_one_line():  # before Hydra, which would print another line
            self.function(self.request_of(config))


def entry(config_name: str, request: type[Request]) -> Callable[[Callable[[Request], Any]], Callable[[], None]]:
    """Make a Hydra main of a function that takes the typed request.

    Mistakes of the user end with one line on stderr and exit status 2, a run that was asked to stop or that another
    process trains with 75 (start it again), Ctrl-C with 130; a fault of the program keeps its traceback.
    """

    def decorate(function: Callable[[Request], Any]) -> Callable[[], None]:
        task = Task(function, request, config_name)
        command = hydra.main(version_base="1.3", config_path=str(CONFIGURATIONS), config_name=config_name)(task)

        def main() -> None:
            os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # Hydra hands its errors over instead of printing them
            Plugins.instance().register(CellSweeper)
            with ending_in_one_line():
                if (text := requested_help(CONFIGURATIONS / f"{config_name}.yaml", sys.argv[1:])) is not None:
                    print(text)
                    return
                check_options(sys.argv[1:], CONFIGURATIONS / f"{config_name}.yaml")
                try:
                    sys.argv[1:] = meant(request, sys.argv[1:])
                    command()
                except (HydraException, OmegaConfBaseException) as error:
                    raise UserError(explained(error, config_name, request)) from error
                except CellEnded as error:
                    end(error.line, error.status)

        return main

    return decorate
