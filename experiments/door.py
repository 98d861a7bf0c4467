"""The door between Hydra and the library: the composed configuration becomes frozen dataclasses, errors become one line."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import hydra
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch.distributed.elastic.multiprocessing.errors import record

from ettin_core.foundation.errors import DiskFullError, UserError, invalid
from ettin_core.foundation.structures import build
from ettin_core.training.stops import EXIT_REQUEUE, StopRequested

Request = TypeVar("Request")

EXIT_USER_ERROR = 2
CONFIGURATIONS = Path(__file__).resolve().parents[1] / "conf"


def entry(config_name: str, request: type[Request]) -> Callable[[Callable[[Request], Any]], Callable[[], None]]:
    """Make a Hydra main of a function that takes the typed request.

    Mistakes of the user end with one line on stderr and exit status 2, a run that was asked to stop with 75 (start it
    again); anything else keeps its traceback.
    """

    def decorate(function: Callable[[Request], Any]) -> Callable[[], None]:
        @record  # under torchrun, what a process died of stands in the summary
        def run(config: DictConfig) -> None:
            os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
            try:
                function(build(request, to_plain(config)))
            except USER_ERRORS as error:
                print(f"error: {error}", file=sys.stderr, flush=True)
                sys.exit(EXIT_USER_ERROR)
            except StopRequested as stop:
                print(stop, file=sys.stderr, flush=True)
                sys.exit(EXIT_REQUEUE)

        return hydra.main(version_base="1.3", config_path=str(CONFIGURATIONS), config_name=config_name)(run)

    return decorate


class RunStopped(RuntimeError):
    """Something the user must see in one line, not as a traceback."""


USER_ERRORS = (UserError, RunStopped, DiskFullError)


def to_plain(config: DictConfig) -> dict[str, Any]:
    """The composed configuration as a plain dictionary; a missing mandatory value is an error that names it."""
    missing = sorted(OmegaConf.missing_keys(config))
    if missing:
        raise invalid(missing[0], None, "is missing", f"give it on the command line: {missing[0]}=...")
    try:
        plain = OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException as error:
        raise UserError(str(error).split("\n")[0]) from error
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}
