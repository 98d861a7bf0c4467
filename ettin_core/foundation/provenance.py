"""Where a number came from: code, libraries, machine. Imports without torch."""

import functools
import hashlib
import os
import platform
import re
import socket
import subprocess
import sys
from importlib import metadata
from pathlib import Path

_PLACE = re.compile(r"(?<![^\s=:,\[\]{}()'\"])(?:file://|~)?/(?!/)[^,\[\]{}()'\"=:]*")  # an absolute path, not a URL
LIBRARIES = ("torch", "transformers", "tokenizers", "numpy", "safetensors", "hydra-core", "lm-eval", "mteb")


@functools.cache
def library_versions(*more: str) -> dict[str, str]:
    """Versions of the libraries that can move a number, and of `more` that a package uses; an absent one is left out."""
    versions = {"python": platform.python_version()}
    for name in (*LIBRARIES, *more):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


@functools.cache
def code_hash() -> str:
    """sha256 over the library's own source files, so that a run knows its code even outside git."""
    digest = hashlib.sha256()
    root = Path(__file__).resolve().parents[1]
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


@functools.cache
def git_state() -> dict[str, object]:
    """Commit and whether the tree had uncommitted changes; both None where git does not hold this code.

    Installed into an environment within somebody's repository, this code is not what that repository's commit says.
    """
    file = Path(__file__).resolve()
    root = file.parents[2]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}

    def git(*arguments: str) -> str | None:
        command = ["git", "-C", str(root), *arguments]
        try:
            result = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
        except (OSError, subprocess.CalledProcessError):
            return None
        return result.stdout.strip()

    ours = git("ls-files", "--error-unmatch", str(file.relative_to(root)))
    commit = git("rev-parse", "HEAD") if ours else None
    return {"commit": commit, "dirty": None if commit is None else bool(git("status", "--porcelain", "--", "."))}


def provenance() -> dict[str, object]:
    """Everything a record needs to say about its origin."""
    return {
        **git_state(),
        "code": code_hash(),
        "libraries": library_versions(),
        "machine": {"system": platform.platform(), "processor": platform.machine(), "cores": os.cpu_count()},
        "command": [without_places(argument) for argument in sys.argv],
    }


def without_places(text: str) -> str:
    """A text whose absolute paths have lost their folders: what is published does not say where a machine keeps things.

    >>> without_places("sources={a:{path:/home/me/texts/a.txt},b:{path:~/b}}")
    'sources={a:{path:a.txt},b:{path:b}}'
    """
    return _PLACE.sub(lambda place: place[0].rstrip("/").rpartition("/")[2], text)


def machine_code() -> str:
    """A hash of the machine's name, for comparison only."""
    return hashlib.sha256(socket.gethostname().encode()).hexdigest()[:12]
