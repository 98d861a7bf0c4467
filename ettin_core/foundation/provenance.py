"""Where a number came from: code, libraries, machine. Imports without torch."""

import functools
import hashlib
import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path

LIBRARIES = ("torch", "transformers", "tokenizers", "numpy", "safetensors", "hydra-core", "lm-eval", "mteb")


@functools.cache
def library_versions(*more: str) -> dict[str, str]:
    """Versions of the libraries that can move a number, and of `more` that a room uses; an absent one is left out."""
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
    """Commit and whether the tree had uncommitted changes; both None outside git."""
    root = Path(__file__).resolve().parents[2]

    def git(*arguments: str) -> str | None:
        try:
            result = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True)
        except (OSError, subprocess.CalledProcessError):
            return None
        return result.stdout.strip()

    commit = git("rev-parse", "HEAD")
    return {"commit": commit, "dirty": None if commit is None else bool(git("status", "--porcelain"))}


def provenance() -> dict[str, object]:
    """Everything a record needs to say about its origin."""
    return {
        **git_state(),
        "code": code_hash(),
        "libraries": library_versions(),
        "machine": {"system": platform.platform(), "processor": platform.machine(), "cores": os.cpu_count()},
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
    }
