"""How a command of this package starts and ends: Hydra composes its configuration, mistakes end in one line."""

import os
import sys
from collections.abc import Callable

import hydra
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from ettin_core.foundation.errors import UserError
from ettin_core.foundation.exits import ending_in_one_line
from ettin_core.foundation.help import requested_help
from ettin_core.foundation.manual import CONFIGURATIONS
from ettin_core.foundation.typos import check_options, explain


def command(config_name: str) -> Callable[[Callable[[DictConfig], None]], Callable[[], None]]:
    """Make a Hydra main of a function: a ValueError or a bad override is one line on stderr and exit status 2."""
    file = CONFIGURATIONS / f"{config_name}.yaml"

    def decorate(function: Callable[[DictConfig], None]) -> Callable[[], None]:
        def task(config: DictConfig) -> None:
            with ending_in_one_line():  # before Hydra, which would add a line of its own
                try:
                    function(config)
                except (OmegaConfBaseException, ValueError) as error:
                    raise UserError(str(error).split("\n")[0]) from error

        composed = hydra.main(version_base=None, config_path=str(CONFIGURATIONS), config_name=config_name)(task)

        def main() -> None:
            os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # Hydra hands its errors over instead of printing them
            with ending_in_one_line():
                if (text := requested_help(file, sys.argv[1:])) is not None:
                    print(text)
                    return
                check_options(sys.argv[1:], file)
                try:
                    composed()
                except (HydraException, OmegaConfBaseException) as error:
                    message = explain(str(error), file)
                    raise UserError(message or " ".join(str(error).split("\nConfig search path")[0].split())) from error

        return main

    return decorate
