"""How a command of this package starts and ends: Hydra composes its configuration, mistakes end in one line."""

import os
from collections.abc import Callable

import hydra
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from ettin_core.foundation.errors import UserError
from ettin_core.foundation.exits import ending_in_one_line


def command(config_name: str) -> Callable[[Callable[[DictConfig], None]], Callable[[], None]]:
    """Make a Hydra main of a function: a ValueError or a bad override is one line on stderr and exit status 2."""

    def decorate(function: Callable[[DictConfig], None]) -> Callable[[], None]:
        composed = hydra.main(version_base=None, config_path="../conf", config_name=config_name)(function)

        def main() -> None:
            os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # Hydra hands its errors over instead of printing them
            with ending_in_one_line():
                try:
                    composed()
                except (HydraException, OmegaConfBaseException, ValueError) as error:
                    raise UserError(str(error).split("\nConfig search path")[0].strip()) from error

        return main

    return decorate
