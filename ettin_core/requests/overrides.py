"""What is typed on the command line, where Hydra's meaning is not what one means.

`key={...}` replaces a mapping that is a value (a mixture, phases, axes), as it replaces a number; Hydra would merge it into
what the files say. `+key={...}` adds to it, `key.part=...` changes a part of it, and a mapping of settings that all have
names (an optimiser, a phase) is merged, because leaving one out means its value stays. Which is which follows from the type
of the field in the command's request. Where a group takes one name, a list of names is an error.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import is_dataclass
from typing import Any, get_args, get_origin, get_type_hints

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, OverrideParseException
from omegaconf.errors import OmegaConfBaseException

from ettin_core.foundation.errors import invalid
from ettin_core.foundation.manual import CONFIGURATIONS
from ettin_core.foundation.override_text import spell
from ettin_core.foundation.typos import explain


def meant(kind: type, overrides: Iterable[str]) -> list[str]:
    """Overrides that make Hydra do what was typed, for a request of a `kind`.

    What is swept or cannot be parsed is left as it is. Raises ValueError for several names of a group.
    """
    corrected: list[str] = []
    for text in overrides:
        override = parsed(text)
        if override is None or override.is_delete() or override.is_sweep_override():
            corrected.append(text)
            continue
        _check_group(override)
        key = override.key_or_group
        mappings: dict[str, Mapping[Any, Any]] = {}
        rest = _taken(_field(kind, key.split(".")), key, override.value(), mappings)
        if override.is_add() or override.is_force_add() or not mappings:
            corrected.append(text)
        else:  # a mapping that is null has nothing that the new one could be merged into
            corrected += [f"{key}={spell(rest)}", *(f"++{path}={spell(mapping)}" for path, mapping in mappings.items())]
    return corrected


def parsed(text: str) -> Override | None:
    """An argument as an override (None: an option, or what Hydra will say cannot be)."""
    if text.startswith("-") or "=" not in text:
        return None
    try:
        return OverridesParser.create().parse_override(text)
    except HydraException:
        return None


def explained(error: BaseException, config_name: str, kind: type) -> str:
    """An error of Hydra's in one line; about a key or a choice that is not there, with what was probably meant."""

    def takes_more(key: str) -> bool:
        hint = _field(kind, key.split(".")) if key else None
        return hint is Any or get_origin(hint) is dict

    return explain(str(error), CONFIGURATIONS / f"{config_name}.yaml", takes_more) or one_line(error)


def one_line(error: BaseException) -> str:
    """An error's message in one line; of Hydra's, with the override it is about and without the search path."""
    about = f"{error.override}: " if isinstance(error, OverrideParseException) else ""
    text = " ".join(re.split(r"\n(?:Config search path|See https)", str(error))[0].split())
    if isinstance(error.__cause__, OmegaConfBaseException):  # why an override does not fit what the files say
        text += f": {str(error.__cause__).splitlines()[0]}; give a value of the kind that the files hold"
    return about + text


def _check_group(override: Override) -> None:
    """Raises ValueError for a list where a file of a group is named."""
    group, value = override.key_or_group, override.value()
    if isinstance(value, list) and not group.startswith("hydra") and (CONFIGURATIONS / group).is_dir():
        key = override.get_key_element().lstrip("+")
        names = ",".join(str(name) for name in value)
        remedy = f"give one of them; -m {key}={names} makes a run of each"
        raise invalid(key, value, "is a list where one name is wanted", remedy)


def _field(hint: Any, names: list[str]) -> Any:
    """The type of the field at a path of names (None: there is none)."""
    for name in names:
        hint = _present(hint)
        if is_dataclass(hint):
            hint = get_type_hints(hint).get(name)
        elif get_origin(hint) is dict:
            hint = get_args(hint)[1]
        elif hint is not Any:
            return None
    return _present(hint)


def _present(hint: Any) -> Any:
    """A type without its None."""
    options = [option for option in get_args(hint) if option is not type(None)]
    return options[0] if type(None) in get_args(hint) and get_origin(hint) is not dict else hint


def _taken(hint: Any, path: str, value: Any, mappings: dict[str, Mapping[Any, Any]]) -> Any:
    """What is given for a field, with null for the mappings that are values; those are put into `mappings` by path."""
    if not isinstance(value, Mapping):
        return value
    if is_dataclass(hint):
        parts = value.items()
        return {name: _taken(_field(hint, [str(name)]), f"{path}.{name}", part, mappings) for name, part in parts}
    if get_origin(hint) is dict or hint is Any:
        mappings[path] = value
        return None
    return value
