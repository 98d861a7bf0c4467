"""Plain dictionaries to frozen dataclasses and back, strictly.

Library code never sees a Hydra object: an entry point hands over a plain dictionary, `build` checks every key and type,
and `plain` gives the dictionary back for files. `identity` is what content names are hashes of.

How fields enter and leave, so that what was made before keeps its name and can still be read (docs/identity.md):

* A field at its default is not hashed. A new field therefore gets the default that does what was done before it.
* A default in a dataclass never changes: a name that does not hash the field means that value. What is done by default
  changes in conf/, whose values are hashed where they are not a dataclass's defaults.
* A field that leaves stays in the dataclass's RETIRED with its default: files that hold it at that value are still read.
* The order of a mapping is hashed and compared where it means something: `field(metadata=ORDERED)`.
"""

import dataclasses
import importlib
import math
import pkgutil
import types
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from ettin_core.foundation.errors import invalid, nearest, question

Structure = TypeVar("Structure")

ORDERED = {"ordered": True}  # metadata of a field: the order of this mapping means something


def build(kind: type[Structure], values: Mapping[str, Any], path: str = "") -> Structure:
    """Build the frozen dataclass `kind` from `values`. A retired field is read at its default and left out.

    Raises ValueError naming the path of an unknown key, a missing key, a value of the wrong type, a number that is
    not finite, or a retired field with another value.
    """
    hints = get_type_hints(kind)
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    retired = getattr(kind, "RETIRED", {})
    for key in values:
        if key in retired and values[key] != retired[key]:
            problem, remedy = f"is of a field that was removed at {retired[key]!r}", "use the code that wrote it"
            raise invalid(_join(path, key), values[key], problem, f"{remedy} (provenance.json names it)")
        if key not in fields and key not in retired:
            near = [_join(path, name) for name in nearest(key, fields)]
            hint = f"{question(near)} There are" if near else "use one of"
            raise invalid(_join(path, key), values[key], "is an unknown key", f"{hint} {', '.join(fields)}")
    arguments = {}
    for name, field in fields.items():
        if name in values:
            arguments[name] = _convert(hints[name], values[name], _join(path, name))
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise invalid(_join(path, name), None, "is missing", f"give it a value of type {_spell(hints[name])}")
    return kind(**arguments)


def plain(value: Any) -> Any:
    """The plain (JSON-able) form of a dataclass, tuple or mapping; the inverse of `build`."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    return value


def identity(value: Any) -> Any:
    """The part of a value that is hashed, as plain data: without fields at their default, ordered mappings as lists of pairs."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        held = {field: getattr(value, field.name) for field in dataclasses.fields(value)}
        return {field.name: _identity(field, item) for field, item in held.items() if not _is_default(field, item)}
    if isinstance(value, (list, tuple)):
        return [identity(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): identity(item) for key, item in value.items()}
    return value


def _identity(field: dataclasses.Field, value: Any) -> Any:
    hashed = identity(value)
    return [list(pair) for pair in hashed.items()] if "ordered" in field.metadata and hashed is not None else hashed


def _is_default(field: dataclasses.Field, value: Any) -> bool:
    if field.default_factory is not dataclasses.MISSING:
        default = field.default_factory()
    elif field.default is not dataclasses.MISSING:
        default = field.default
    else:
        return False
    return not differences(value, default)


def differences(left: Any, right: Any, path: str = "") -> dict[str, tuple[Any, Any]]:
    """Every dotted path at which two structures or plain values differ, with both as plain values (a missing one: None).

    Ordered mappings with their common keys in another order appear under their path, with both lists of keys.
    """
    if dataclasses.is_dataclass(left) and type(left) is type(right):
        changes = {}
        for field in dataclasses.fields(left):
            left_item, right_item, where = (
                getattr(left, field.name),
                getattr(right, field.name),
                _join(path, field.name),
            )
            changes.update(differences(left_item, right_item, where))
            if (
                "ordered" in field.metadata
                and left_item
                and right_item
                and _common(left_item, right_item) != _common(right_item, left_item)
            ):
                changes[where] = (list(left_item), list(right_item))
        return changes
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        changes = {}
        for key in sorted(set(left) | set(right), key=str):
            if key in left and key in right:
                changes.update(differences(left[key], right[key], _join(path, key)))
            else:
                changes[_join(path, key)] = (plain(left.get(key)), plain(right.get(key)))
        return changes
    if isinstance(left, (list, tuple)) and type(left) is type(right) and len(left) == len(right):
        changes = {}
        for index, (left_item, right_item) in enumerate(zip(left, right, strict=True)):
            name = left_item["name"] if isinstance(left_item, Mapping) and "name" in left_item else index
            changes.update(differences(left_item, right_item, _join(path, name)))
        return changes
    return {} if left == right and type(left) is type(right) else {path: (plain(left), plain(right))}


def _common(left: Mapping[str, Any], right: Mapping[str, Any]) -> list[str]:
    """The keys that both have, in the order of the first."""
    return [key for key in left if key in right]


def _convert(hint: Any, value: Any, path: str) -> Any:
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        if value is None and type(None) in get_args(hint):
            return None
        options = [option for option in get_args(hint) if option is not type(None)]
        mappings = [option for option in options if get_origin(option) is dict]
        return _convert(mappings[0] if mappings and isinstance(value, Mapping) else options[0], value, path)
    if dataclasses.is_dataclass(hint):
        if isinstance(value, Mapping):
            return build(hint, value, path)  # type: ignore[arg-type]
        if isinstance(value, hint):  # type: ignore[arg-type]
            return value
    elif origin is tuple and isinstance(value, (list, tuple)):
        inner = get_args(hint)[0]
        return tuple(_convert(inner, item, _join(path, index)) for index, item in enumerate(value))
    elif origin is dict and isinstance(value, Mapping):
        inner = get_args(hint)[1]
        return {str(key): _convert(inner, item, _join(path, key)) for key, item in value.items()}
    elif hint is Any:
        return _finite(value, path)
    elif hint is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        return _finite(float(value), path)
    elif hint is int and isinstance(value, float) and value.is_integer():
        return int(value)  # 3e6 is how people write token counts
    elif hint in (int, str, bool) and type(value) is hint:
        return value
    raise invalid(path, value, f"has type {type(value).__name__}", f"give a value of type {_spell(hint)}")


def _finite(value: Any, path: str) -> Any:
    """The value itself. Raises ValueError for NaN and infinity, which pass comparisons that other numbers do not."""
    if isinstance(value, float) and not math.isfinite(value):
        raise invalid(path, value, "is not a finite number", "give a finite number")
    for key, item in value.items() if isinstance(value, Mapping) else enumerate(value) if _is_list(value) else ():
        _finite(item, _join(path, key))
    return value


def _is_list(value: Any) -> bool:
    return isinstance(value, (list, tuple))


def _spell(hint: Any) -> str:
    return getattr(hint, "__name__", str(hint)) if get_origin(hint) is None else str(hint)


def _join(path: str, key: object) -> str:
    return f"{path}.{key}" if path else str(key)


def members_of(package: str, path: Iterable[str], name: str) -> dict[str, Any]:
    """The objects called `name` in the modules of a package, by their names and in that order: a registry without a list."""
    modules = (importlib.import_module(f"{package}.{item.name}") for item in pkgutil.iter_modules(path))
    members = [getattr(module, name) for module in modules if hasattr(module, name)]
    return {item.name: item for item in sorted(members, key=lambda item: item.name)}


def defining_module(member: Any, package: str, path: Iterable[str], name: str) -> str | None:
    """The module of a package that defines a member of `members_of`; None for one that a program registered."""
    modules = (importlib.import_module(f"{package}.{item.name}") for item in pkgutil.iter_modules(path))
    return next((module.__name__ for module in modules if getattr(module, name, None) is member), None)
