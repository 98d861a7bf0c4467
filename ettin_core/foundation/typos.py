"""Hydra's errors about an unknown key or choice, in one line and with what was probably meant."""

import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import yaml

from ettin_core.foundation.errors import UserError, nearest, question, unknown
from ettin_core.foundation.manual import CONFIGURATIONS, NOT_KEYS, manual, parsed

OPTIONS = (  # Hydra's, where --help is ours
    *("--help", "--hydra-help", "--version", "--cfg", "--resolve", "--package", "--run", "--multirun", "--info"),
    *("--shell-completion", "--config-path", "--config-name", "--config-dir", "--experimental-rerun"),
)
CHOICE = re.compile(r"Could not find '(\S+)/([^/']*)'\s+Available options in '\S+':\n((?:\t\S+\n?)+)")
KEY = re.compile(r"Could not override '([^']+)'.*\+\1=(.*)", re.DOTALL)
GROUP = re.compile(r"Override ([^=]+)=(\S+) looks like a config group override")
DELETED = re.compile(r"Could not delete from config\. '()([^']+)' does not exist")
SEVERAL = re.compile(r"Ambiguous value for argument '([^=]+)=(.+)'\n")
NO_VALUE = re.compile(r"Error parsing override '([^'=]+)'\nmissing EQUAL")


def explain(message: str, file: Path, takes_more: Callable[[str], bool] = lambda key: False) -> str | None:
    """A message of Hydra about the command line of a command (its `file` in conf/), explained; None for other messages.

    `takes_more` says whether a key is a mapping to which any name may be added.
    """
    if match := CHOICE.search(message):
        return str(unknown(match[1], match[2], "is not there", match[3].split()))
    if match := SEVERAL.search(message):
        key, values = match[1], match[2]
        return f"{key}={values} is several values; add -m to run each, or give a list, {key}=[{values}]."
    if match := NO_VALUE.search(message):
        return f"{match[1]!r} is not a key=value; --help lists the keys."
    if match := KEY.search(message) or GROUP.search(message):
        return _unknown_key(match[1], f"{match[1]}={match[2]}", file, takes_more)
    if match := DELETED.search(message):
        return _unknown_key(match[2], f"~{match[2]}", file, takes_more)
    return None


def check_options(arguments: Iterable[str], file: Path) -> None:
    """Raises ValueError if an argument begins with dashes and is not an option: keys are given without dashes."""
    for argument in arguments:
        name = argument.partition("=")[0]
        if name.startswith("--") and name not in OPTIONS:
            near = nearest(name.strip("-").replace("-", "_"), names(file))
            hint = f"{question([f'{item}=...' for item in near])} " if near else ""
            raise UserError(f"{name} is not an option; {hint}Keys are given without dashes; --help lists them.")


def _unknown_key(key: str, typed: str, file: Path, takes_more: Callable[[str], bool]) -> str:
    near = [name for name in nearest(key, names(file)) if name != key]
    hints = [question(near)] if near else []
    if takes_more(key.rpartition(".")[0]):
        hints.append(f"+{typed} adds it.")
    return " ".join([f"{typed} is not a key of {file.stem};", *hints, "--help lists the keys."])


def names(file: Path) -> list[str]:
    """Every key of a command with its full path, and its groups."""
    command = manual(file)
    keys = [group.name for group in command.groups]
    keys += [name for item in (*_files_below(file), file) for name in _paths(item.read_text(), "")]
    for group in command.groups:
        package = group.name.partition("@")[2] or group.name
        for choice in group.choices:
            text = (group.folder / f"{choice}.yaml").read_text()
            keys += _paths(text, "" if "@package _global_" in text else f"{package}.")
    return list(dict.fromkeys(keys))


def _files_below(file: Path) -> Iterator[Path]:
    """The commands' files that a command's file builds on."""
    for entry in re.findall(r"^  - (\w+)$", file.read_text(), re.MULTILINE):
        below = CONFIGURATIONS / f"{entry}.yaml"
        if below.exists():
            yield below
            yield from _files_below(below)


def _paths(text: str, path: str) -> Iterator[str]:
    """The dotted keys of a file, those of mappings in it included."""
    root = parsed(text)
    if root is not None:
        yield from _below(root, path)


def _below(node: yaml.MappingNode, path: str) -> Iterator[str]:
    for key, value in node.value:
        if not path and key.value in NOT_KEYS:
            continue
        yield f"{path}{key.value}"
        if isinstance(value, yaml.MappingNode):
            yield from _below(value, f"{path}{key.value}.")
