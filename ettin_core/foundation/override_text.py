"""Values in the grammar of Hydra's overrides, so that Hydra reads the same value of the same type."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_NOT_WORDS = ("null", "true", "false", "nan", "inf")  # as Hydra reads them


def assignment(key: str, value: Any) -> str:
    """A key and its value as one writes them on the command line."""
    return f"{key}={spell(value)}"


def spell(value: Any) -> str:
    """A value as one writes it on the command line, so that Hydra reads the same value of the same type."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{_key(key)}:{spell(item)}" for key, item in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(spell(item) for item in value) + "]"
    if isinstance(value, Path):
        return _quoted(str(value).replace("${", "\\${"))  # no interpolation was meant
    if isinstance(value, str) and not _is_word(value):
        return _quoted(value)
    return str(value)


def _quoted(text: str) -> str:
    """In single quotes: backslashes before a quote are doubled, and the quote is escaped."""
    inner = re.sub(r"(\\*)'", lambda match: match[1] * 2 + r"\'", text)
    ending = len(inner) - len(inner.rstrip("\\"))
    return f"'{inner}{inner[len(inner) - ending :]}'"


def _is_word(text: str) -> bool:
    return re.fullmatch(r"[A-Za-z_][\w-]*", text, re.ASCII) is not None and text.lower() not in _NOT_WORDS


def _key(key: Any) -> str:
    """A key of a mapping, which cannot be quoted: letters with a meaning are escaped."""
    return re.sub(r"([\\()\[\]{}:=,\s])", r"\\\1", str(key))
