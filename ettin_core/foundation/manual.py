"""A command as its configuration file describes it: the comments there are the only explanation of a command's keys.

A file of `conf/` begins with comments: the sentences say what the command does, lines with `python -m` are its examples and a
line `Docs:` names pages. A comment beside a key, or right above it, explains the key; one beside an entry of the defaults
explains the group.
"""

import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import yaml

CONFIGURATIONS = Path(__file__).resolve().parents[2] / "conf"
REQUIRED = "required"
NOT_KEYS = ("defaults", "hydra")
GLOBAL = "@package _global_"  # Hydra's mark of a file that sets keys of the command


@dataclass(frozen=True)
class Entry:
    """A key with its value as the file spells it, or a group with its choice; `comment` explains it."""

    name: str
    value: str
    comment: str

    @property
    def folder(self) -> Path:
        """Of a group: where its choices are."""
        return CONFIGURATIONS / self.name.partition("@")[0]

    @property
    def choices(self) -> list[str]:
        """Of a group: the names of its files."""
        return sorted(file.stem for file in self.folder.glob("*.yaml"))


@dataclass(frozen=True)
class Manual:
    """A command as its file describes it: its keys, those of the files it builds on, and its groups."""

    sentences: str
    examples: tuple[str, ...]
    docs: str
    keys: tuple[Entry, ...]
    groups: tuple[Entry, ...]
    sweeps: bool

    @property
    def summary(self) -> str:
        """The first sentence."""
        return re.split(r"(?<=[.?]) ", self.sentences)[0]


def commands() -> dict[str, Path]:
    """The configuration file of every command, by its module."""
    modules = {module_of(file): file for file in sorted(CONFIGURATIONS.glob("*.yaml"))}
    return {module: file for module, file in modules.items() if module}


def module_of(file: Path) -> str:
    """The module of a command, from its first example; "" for a file that belongs to no command."""
    match = re.search(r"^# python -m (\S+)", file.read_text(), re.MULTILINE)
    return match[1] if match else ""


def manual(file: Path) -> Manual:
    """The manual of a command's file, with the keys and groups of the files that it builds on."""
    text = file.read_text()
    comments = header(text)
    examples = tuple(line for line in comments if line.startswith("python -m"))
    docs = " ".join(line.removeprefix("Docs:").strip() for line in comments if line.startswith("Docs:"))
    sentences = " ".join(line for line in comments if line not in examples and not line.startswith("Docs:"))
    keys, groups = _contents(file)
    given = {name: entry for name, entry in keys.items() if name not in groups}
    asked = [replace(entry, value=keys[name].value) if name in keys else entry for name, entry in groups.items()]
    return Manual(
        sentences, examples, docs, tuple(given.values()), tuple(asked), "override hydra/job_logging" not in text
    )


def header(text: str) -> list[str]:
    """The comments that a file begins with, but for Hydra's own."""
    lines = []
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.lstrip("# ").rstrip())
    return [line for line in lines if not line.startswith("@package")]


def _contents(file: Path) -> tuple[dict[str, Entry], dict[str, Entry]]:
    """Keys and groups of a file, then those of the files that it builds on, which also give comments it does not repeat."""
    text = file.read_text()
    keys = dict(_entries(text))
    inherited: dict[str, Entry] = {}
    groups: dict[str, Entry] = {}
    for entry in _defaults(text):
        name = entry.name.removeprefix("override ").removeprefix("/")
        if name == "_self_" or name.startswith("hydra/"):
            continue
        if entry.value:
            groups[name] = replace(entry, name=name, comment=entry.comment or _comment(groups, name))
            groups |= {inner.name: inner for inner in _within(groups[name])}
        else:
            more, theirs = _contents(file.with_name(f"{name}.yaml"))
            inherited |= more
            groups |= theirs
    keys = {
        name: replace(entry, comment=entry.comment or _comment(inherited, name))
        for name, entry in keys.items()
        if name not in NOT_KEYS
    }
    return keys | {name: entry for name, entry in inherited.items() if name not in keys}, groups


def _within(group: Entry) -> Iterator[Entry]:
    """The groups that the choice of a group takes."""
    file = group.folder / f"{group.value}.yaml"
    package = group.name.partition("@")[2] or group.name
    for entry in _defaults(file.read_text()) if file.exists() else ():
        if entry.value and not entry.name.startswith("override "):
            name, _, place = entry.name.lstrip("/").partition("@")
            yield replace(entry, name=f"{name}@{package}.{place or name}")
        elif not entry.value and entry.name != "_self_":
            yield from _within(replace(group, value=entry.name))


def _comment(entries: dict[str, Entry], name: str) -> str:
    return entries[name].comment if name in entries else ""


@functools.cache
def parsed(text: str) -> yaml.MappingNode | None:
    """The syntax tree of a file, with the line of each key; None for a file of comments alone."""
    root = yaml.compose(text, yaml.SafeLoader)
    return root if isinstance(root, yaml.MappingNode) else None


def _entries(text: str) -> Iterator[tuple[str, Entry]]:
    """The keys at the top of a text."""
    root = parsed(text)
    for key, value in root.value if root is not None else ():
        yield key.value, _entry(text, key, value)


def _settings(text: str, explained: set[str]) -> Iterator[Entry]:
    """The keys of a group's file; a mapping that is not among the `explained` keys is replaced by its keys."""
    root = parsed(text)
    waiting = [("", pair) for pair in (root.value if root is not None else ())]
    while waiting:
        path, (key, value) = waiting.pop(0)
        name = f"{path}{key.value}"
        if isinstance(value, yaml.MappingNode) and value.value and name not in {*explained, *NOT_KEYS}:
            waiting = [(f"{name}.", pair) for pair in value.value] + waiting
        elif name not in NOT_KEYS:
            yield replace(_entry(text, key, value), name=name)


def _entry(text: str, key: yaml.Node, value: yaml.Node) -> Entry:
    lines, one_line = text.splitlines(), key.start_mark.line == value.end_mark.line
    spelled = text[value.start_mark.index : value.end_mark.index] if one_line else _flow(value)
    beside = lines[key.start_mark.line][value.end_mark.column if one_line else key.end_mark.column + 1 :]
    note = beside[beside.find("#") :].lstrip("# ") if "#" in beside else ""
    comment = " ".join([*_above(lines, key.start_mark.line), note]).strip()
    return Entry(key.value, REQUIRED if spelled == "???" else spelled, comment)


def _above(lines: list[str], number: int) -> list[str]:
    """The comments right above a line, but for the file's header."""
    first = number
    while first > 0 and lines[first - 1].startswith("#"):
        first -= 1
    return [line.lstrip("# ") for line in lines[first:number]] if first else []


def _defaults(text: str) -> Iterator[Entry]:
    """The entries of a file's defaults: groups with their choice, other files with none."""
    root, lines = parsed(text), text.splitlines()
    for key, value in root.value if root is not None else ():
        if key.value == "defaults":
            for item in value.value:
                comment = lines[item.start_mark.line].partition(" #")[2].strip()
                if isinstance(item, yaml.MappingNode):
                    ((name, choice),) = item.value
                    yield Entry(name.value, choice.value, comment)
                else:
                    yield Entry(item.value, "", comment)


def _flow(node: yaml.Node) -> str:
    """A value of several lines in one."""
    if isinstance(node, yaml.MappingNode):
        return "{" + ", ".join(f"{key.value}: {_flow(value)}" for key, value in node.value) + "}"
    if isinstance(node, yaml.SequenceNode):
        return "[" + ", ".join(map(_flow, node.value)) + "]"
    return str(node.value)


def keys_of(folder: Path, choice: str) -> list[Entry]:
    """The keys of a choice of a group, explained by its file, by those that it builds on, or by others of the group.

    A choice that sets keys of the command itself has none.
    """
    file = folder / f"{choice}.yaml"
    if GLOBAL in file.read_text():
        return []
    files = _built_on(file)
    texts = [item.read_text() for item in (*files, *sorted(set(folder.glob("*.yaml")) - set(files)))]
    explained = {name for text in texts for name, entry in _entries(text) if entry.comment}
    settings = [{entry.name: entry for entry in _settings(text, explained)} for text in texts]
    keys: dict[str, Entry] = {}
    for entries in reversed(settings[: len(files)]):
        keys |= entries
    return [replace(entry, comment=_explanation(entry.name, settings)) for entry in keys.values()]


def _built_on(file: Path) -> list[Path]:
    """A group's file and the files of the group that it builds on."""
    inner = [entry.name for entry in _defaults(file.read_text()) if not entry.value and entry.name != "_self_"]
    return [file, *(below for name in inner for below in _built_on(file.with_name(f"{name}.yaml")))]


def _explanation(name: str, settings: list[dict[str, Entry]]) -> str:
    """The first comment of a key in several files, or of a key of that last name, as phases have the same ones."""
    last = name.rpartition(".")[2]
    for entries in settings:
        alike = [entry for entry in entries.values() if entry.name.rpartition(".")[2] == last and entry.comment]
        if alike:
            return next((entry for entry in alike if entry.name == name), alike[0]).comment
    return ""
