"""One sentence form for every error a user can cause: field, value, what is wrong, what to do."""

import difflib
from collections.abc import Iterable, Sequence

SHOWN = 30  # names that are listed


class UserError(ValueError):
    """A mistake of the user, reported in one line; any other ValueError is a fault of the program."""


class BusyError(UserError):
    """Another process holds what this one would write."""


class DiskFullError(OSError):
    """No space left; what was saved before is whole."""


def with_extra(name: str) -> str:
    """The command that installs an extra, for the remedy of an error. It names the checkout: no package index has the project.

    >>> with_extra("data")
    'run pip install -c constraints.txt -e ".[data]" in the checkout'
    """
    return f'run pip install -c constraints.txt -e ".[{name}]" in the checkout'


def invalid(field: str, value: object, problem: str, remedy: str) -> UserError:
    """Build (not raise) the error for a user's mistake.

    >>> str(invalid("size", "17n", "is not a known size", "use one of nano, micro"))
    "size='17n' is not a known size; use one of nano, micro."
    """
    return UserError(f"{field}={value!r} {problem}; {remedy}.")


def nearest(name: object, known: Iterable[object]) -> list[str]:
    """The known name that was probably meant, or none. Of dotted names also those with the same last part.

    >>> nearest("recipe.tokenz", ["recipe.tokens", "size"]), nearest("tokens", ["recipe.tokens", "size.tokens"])
    (['recipe.tokens'], ['recipe.tokens', 'size.tokens'])
    """
    names = dict.fromkeys(str(item) for item in known)
    close = difflib.get_close_matches(str(name), names, n=1, cutoff=0.6)
    ends: dict[str, list[str]] = {}
    for item in names:
        ends.setdefault(item.rpartition(".")[2], []).append(item)
    last = str(name).rpartition(".")[2]
    alike = ends.get(last) or [
        item for end in difflib.get_close_matches(last, ends, n=1, cutoff=0.8) for item in ends[end]
    ]
    return (
        close if close and (close[0] != last or not alike) and _parts(close[0]) == _parts(name) else alike[:3] or close
    )


def _parts(name: object) -> int:
    return str(name).count(".")


def question(names: Sequence[str]) -> str:
    """The question whether one of these names was meant."""
    return f"did you mean {' or '.join(map(repr, names))}?"


def choose(name: object, known: Iterable[object]) -> str:
    """The remedy for an unknown name: the nearest known one, and the list of known names.

    >>> choose("encodr", ["encoder", "decoder"]), choose("x", ["encoder", "decoder"])
    ("did you mean 'encoder'? There are encoder, decoder", 'use one of encoder, decoder')
    """
    names = [str(item) for item in known]
    listed = ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
    near = nearest(name, names)
    return f"{question(near)} There are {listed}" if near else f"use one of {listed}"


def unknown(field: str, name: object, problem: str, known: Iterable[object]) -> UserError:
    """Build (not raise) the error for a name that is not among the known ones."""
    return invalid(field, name, problem, choose(name, known))


class RunStopped(UserError):
    """A run that stopped for a reason the user must see in one line, not as a traceback."""


USER_ERRORS = (UserError, DiskFullError)
