"""What `--help` prints, from the configuration files alone (manual.py). Imports neither torch nor Hydra, to answer at once."""

import importlib.util
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from textwrap import wrap

from ettin_core.foundation.errors import unknown
from ettin_core.foundation.exits import ending_in_one_line
from ettin_core.foundation.manual import Entry, Manual, commands, header, keys_of, manual, module_of

OPTIONS = ("--help", "-h")
WIDTH = 110
WIDEST = 24  # of the column of values


def command_help(file: Path, program: str | None = None) -> str:
    """The help of the command of a file; `program` is how it was called."""
    command, usual = manual(file), f"python -m {module_of(file)}"
    lines = [*wrap(command.sentences, WIDTH), "", f"usage: {usual} [key=value ...]"]
    lines += _block("Keys", command.keys)
    shown = [replace(item, comment=f"{item.comment}: {' '.join(item.choices)}") for item in command.groups]
    lines += _block("Groups (group=choice; group.key=value changes one value of it)", shown)
    lines += ["", "Examples", *(f"  {line}" for line in command.examples), "", *_more(command)]
    return "\n".join(lines).replace(usual, program or usual)


def _more(command: Manual) -> list[str]:
    options = ["--help <group> lists its choices and keys"] if command.groups else []
    options += ["--cfg job prints the composed configuration"]
    if command.sweeps:
        options += ["-m runs every combination of key=a,b"]
    return wrap(f"More: {command.docs or 'README.md'}; {'; '.join(options)}.", WIDTH)


def group_help(file: Path, name: str) -> str:
    """The choices of a group of a command, and the keys of the one that it takes.

    Raises ValueError for a group that the command does not have.
    """
    groups = {group.name: group for group in manual(file).groups}
    if name not in groups:
        raise unknown("--help", name, f"is not a group of {file.stem}", groups)
    group = groups[name]
    files = [group.folder / f"{choice}.yaml" for choice in group.choices]
    choices = [Entry(file.stem, "", " ".join(header(file.read_text()))) for file in files]
    lines = [f"{name}: {group.comment}", *_block(f"Choices ({name}=...)", choices)]
    example = group.value if group.value in group.choices else group.choices[0]
    keys = keys_of(group.folder, example)
    package = name.partition("@")[2] or name
    return "\n".join([*lines, *_block(f"Keys of {name}={example} ({package}.key=value)", keys)])


def _block(title: str, entries: Iterable[Entry]) -> list[str]:
    """Entries in columns: name, value, comment; what is too wide for its column has a line of its own."""
    entries = list(entries)
    if not entries:
        return []
    names = max(len(entry.name) for entry in entries) + 2
    widest = min(WIDEST, max(len(entry.value) for entry in entries))
    values = widest + 2 if widest else 0
    place = 2 + names + values
    lines = ["", title]
    for entry in entries:
        head = f"  {entry.name:<{names}}{entry.value:<{values}}"
        comment = wrap(entry.comment, WIDTH - place) or [""]
        if len(entry.value) > widest:
            lines += wrap(head, WIDTH, subsequent_indent=" " * (names + 2), drop_whitespace=True)
            head = " " * place
        lines += [(head + comment[0]).rstrip(), *(" " * place + part for part in comment[1:])]
    return lines


def print_requested_help(package: str) -> None:
    """Print the help of `python -m <package>.<command> ... --help` and exit, before anything slow is imported.

    Does nothing for other processes. An unknown command ends the process with the name of the nearest one.
    """
    place = sys.orig_argv.index("-m") + 1 if "-m" in sys.orig_argv else len(sys.orig_argv)
    module, *arguments = sys.orig_argv[place:] or [""]
    if module.rpartition(".")[0] != package:
        return
    with ending_in_one_line():
        known = commands()
        if module not in known and importlib.util.find_spec(module) is None:
            names = [name.partition(".")[2] for name in known if name.startswith(f"{package}.")]
            raise unknown("command", module.rpartition(".")[2], f"is not a command of {package}", names)
        text = requested_help(known[module], arguments) if module in known else None
        if text is None:
            return
        print(text)
    sys.exit()


def requested_help(file: Path, arguments: Sequence[str], program: str | None = None) -> str | None:
    """The help that arguments ask for: of the command of a file, or of the group after --help; None without --help."""
    place = next((number for number, item in enumerate(arguments) if item in OPTIONS), None)
    if place is None:
        return None
    topic = arguments[place + 1] if place + 1 < len(arguments) else ""
    return group_help(file, topic) if topic and "=" not in topic else command_help(file, program)
