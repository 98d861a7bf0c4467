"""Between Hydra and the library: overrides and the files of conf/ become a frozen dataclass, the request of a command."""

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationKeyError, OmegaConfBaseException

from ettin_core.foundation.errors import UserError, invalid
from ettin_core.foundation.manual import CONFIGURATIONS
from ettin_core.foundation.strict_config import build
from ettin_core.requests.overrides import explained, meant

Request = TypeVar("Request")


def composed(config_name: str, request: type[Request], overrides: Sequence[str]) -> Request:
    """The typed request of a command line, composed within a command. Raises ValueError for what cannot be."""
    try:
        config = compose(config_name, meant(request, overrides))
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(explained(error, config_name, request)) from error
    return build(request, to_plain(config))


def composer(config_name: str, request: type[Request]) -> Callable[[Sequence[str]], Request]:
    """`composed` as a function of the overrides alone, by which a study composes its cells."""
    return functools.partial(composed, config_name, request)


@contextmanager
def configurations() -> Iterator[None]:
    """The files of conf/ for `composed` outside of a command; a Hydra application around it gets its own back."""
    outer = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(CONFIGURATIONS), version_base="1.3"):
            yield
    finally:
        GlobalHydra.instance().hydra = outer


def to_plain(config: DictConfig) -> dict[str, Any]:
    """The composed configuration as a plain dictionary; a missing mandatory value is an error that names it."""
    try:
        missing = sorted(OmegaConf.missing_keys(config))
        if missing:
            raise invalid(missing[0], None, "is missing", f"give it on the command line: {missing[0]}=...")
        plain = OmegaConf.to_container(config, resolve=True)
    except InterpolationKeyError as error:
        key = str(error).split("'")[1]
        problem = f"refers to {key}, which is not there"
        raise invalid(str(error.full_key), f"${{{key}}}", problem, f"give {key}=..., or null") from error
    except OmegaConfBaseException as error:
        raise UserError(str(error).split("\n")[0]) from error
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}
