"""Files that are whole or absent: atomic writes, content hashes, JSON lines. For whole folders see folders.py.

A write goes to a temporary file beside the target, is flushed to the disk, and is renamed. A reader therefore never meets a
half-written file, and a full disk or a kill leaves what was there before.
"""

import contextlib
import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml

from ettin_core.foundation.errors import DiskFullError, invalid
from ettin_core.foundation.strict_config import identity

NAME_HASH_LENGTH = 10


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces: one text per value, for hashing. The order of mappings does not count."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def hash_text(text: str) -> str:
    """sha256 of a text, in hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()


def content_name(slug: str, content: Any) -> str:
    """A readable slug and a hash of everything that matters: the same content (strict_config.identity) has the same name."""
    return f"{slug}-{hash_text(canonical_json(identity(content)))[:NAME_HASH_LENGTH]}"


def hash_file(path: Path) -> str:
    """sha256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn a full disk into an error that says where and what to do; whatever was saved before stays."""
    try:
        yield
    except Exception as error:
        number = next((number for number in (errno.ENOSPC, errno.EDQUOT) if _has_number(error, number)), None)
        if number is not None:
            free = shutil.disk_usage(path.parent if path.parent.exists() else Path(".")).free
            raise DiskFullError(
                number,
                f"disk full while writing {path} ({free / 2**20:.0f} MiB free): free some space or point the output "
                "folder elsewhere, then start the same command again; nothing saved before is lost",
            ) from error
        raise


def _has_number(error: Exception, number: int) -> bool:
    """Whether an error is the system's error `number`; safetensors raises its own type and only spells the number."""
    return number == error.errno if isinstance(error, OSError) else f"(os error {number})" in str(error)


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries, so that a rename survives a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file(path: Path) -> None:
    """Flush a file that was appended to, if it is there."""
    if path.exists():
        with path.open("rb") as file:
            os.fsync(file.fileno())


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file atomically and durably."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Write indented JSON atomically."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file. Raises ValueError naming the file when it is damaged."""
    return _parsed(path, "JSON", json.loads)


def read_mapping(path: Path, remedy: str = "restore it or delete it", /, **fields: type) -> dict[str, Any]:
    """Read a JSON or YAML (.yaml) file that holds a mapping with `fields` of these types.

    Raises ValueError naming the file for anything else.
    """
    yaml_file = path.suffix == ".yaml"
    value = _parsed(path, "YAML" if yaml_file else "JSON", yaml.safe_load if yaml_file else json.loads, remedy)
    check_shape(path, value, remedy, True, **fields)
    return dict(value)


def check_shape(
    path: Path, value: Any, remedy: str, required: bool, at: str = "", /, **fields: type | tuple[type, ...]
) -> None:
    """Raises ValueError if a value at the place `at` of a file is not a mapping with `fields` of these types.

    Fields that are not `required` may be missing or null.
    """
    inside = f"{at} " if at else ""
    if not isinstance(value, dict):
        raise invalid("file", str(path), f"holds {inside}a {type(value).__name__} instead of a mapping", remedy)
    for name, kind in fields.items():
        item = value.get(name)
        if item is None and not required:
            continue
        if name not in value:
            raise invalid("file", str(path), f"lacks {inside}{name}", remedy)
        if not isinstance(item, kind) or (isinstance(item, bool) and kind is not bool):
            words = f"holds {inside}{name}={item!r:.60} instead of a {getattr(kind, '__name__', 'number')}"
            raise invalid("file", str(path), words, remedy)


def _parsed(path: Path, language: str, parse: Callable[[bytes], Any], remedy: str = "restore it or delete it") -> Any:
    content = path.read_bytes()
    try:
        return parse(content)
    except RecursionError as error:
        raise invalid("file", str(path), f"is {language} that is nested too deeply", remedy) from error
    except (ValueError, yaml.YAMLError) as error:  # bad letters, numbers of thousands of digits and dates included
        reason = "it holds NUL bytes" if b"\0" in content else " ".join(str(error).split())
        raise invalid("file", str(path), f"is not valid {language} ({reason})", remedy) from error


def append_json_lines(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Append rows to a JSON-lines file in one write; a last line cut off by a kill is dropped first."""
    text = "".join(json.dumps(row, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n" for row in rows)
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+b") as file:
            if file.tell() and os.pread(file.fileno(), 1, file.tell() - 1) != b"\n":
                file.truncate(path.read_bytes().rfind(b"\n") + 1)
            file.write(text.encode())


def numbered_json_lines(path: Path) -> list[tuple[str, dict[str, Any]]]:
    """Rows of a JSON-lines file, each with its place as `<file>:<line>`; a last line cut off by a kill is left out.

    Raises ValueError naming file and line if a line is not a JSON mapping.
    """
    if not path.exists():
        return []
    rows = []
    lines = path.read_bytes().split(b"\n")
    for number, line in enumerate(lines[:-1], start=1):  # what follows the last newline is an unfinished write
        place = f"{path}:{number}"
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            problem = "holds NUL bytes" if b"\0" in line else "is not a JSON line"
            raise invalid("file", place, problem, "restore the file") from error
        if not isinstance(row, dict):
            raise invalid("file", place, f"holds a {type(row).__name__} instead of a mapping", "restore the file")
        rows.append((place, row))
    return rows


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """Rows of a JSON-lines file; a last line cut off by a kill is left out."""
    return [row for _, row in numbered_json_lines(path)]
