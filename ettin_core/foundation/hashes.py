"""Hashes of files, remembered on this machine: a file is read again only when it has changed.

A change is a change of size, modification time, inode time (which cannot be set back) or inode. The hashes are kept in a small
file per folder in the user's cache ($ETTIN_CACHE, or ~/.cache/ettin-suite). This serves read-only storage, and another machine
reads the files for itself. Where the cache cannot be written, every call reads.
"""

import contextlib
import hashlib
import os
import socket
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tqdm import tqdm

from ettin_core.foundation.folders import locked
from ettin_core.foundation.progress_bars import own_line
from ettin_core.foundation.storage import hash_text, read_json, write_json

SETTLED = 2_000_000_000  # ns: a file changed later than this before it was read could change again under the same times
SHOWN = 2**28  # bytes to read, from which on there is a progress bar
_BLOCK = 2**20

FileState = list[int]


def hash_files(root: Path, files: Sequence[Path], what: str, again: bool = False) -> dict[Path, str]:
    """sha256 of each file below `root`, in hexadecimal; for unchanged files the remembered one.

    Files are read in parallel. Where that takes long, a progress bar is labelled with `what`. A second process that asks for
    the same folder waits for the first. `again` reads every file. Raises OSError for a file that cannot be read.
    """
    memory, states = _memory_file(root), {file: _file_state(file) for file in files}
    names = {file: os.path.relpath(file, root) for file in files}
    known = {} if again else _recalled(memory, states, names)
    if len(known) == len(states):
        return known
    with contextlib.ExitStack() as stack:
        if memory is not None:
            with contextlib.suppress(OSError):  # without a lock two may read at once, which is slower and no worse
                stack.enter_context(locked(memory.parent / ".locks" / memory.stem, wait=True))
        known = {} if again else _recalled(memory, states, names)
        read = _hash_all({file: state[0] for file, state in states.items() if file not in known}, what)
        settled = [file for file in read if time.time_ns() - max(states[file][1:3]) > SETTLED]
        if memory is not None and settled:
            fresh = {names[file]: (states[file], read[file]) for file in settled}
            with contextlib.suppress(OSError):
                write_json(memory, {"folder": str(root.resolve()), "files": _remembered(memory) | fresh})
        return known | read


def _recalled(memory: Path | None, states: dict[Path, FileState], names: dict[Path, str]) -> dict[Path, str]:
    known = _remembered(memory)
    return {
        file: known[names[file]][1] for file, state in states.items() if known.get(names[file], ([], ""))[0] == state
    }


def _file_state(file: Path) -> FileState:
    stat = file.stat()
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]


def _memory_file(root: Path) -> Path | None:
    """Where this machine remembers the files of a folder; None for a user without a home."""
    try:
        cache = Path(os.environ.get("ETTIN_CACHE") or Path.home() / ".cache" / "ettin-suite")
    except RuntimeError:
        return None
    return cache / "hashes" / f"{hash_text(f'{socket.gethostname()}|{root.resolve()}')[:24]}.json"


def _remembered(memory: Path | None) -> dict[str, tuple[FileState, str]]:
    """What is remembered; nothing where that is absent or damaged."""
    try:
        return (
            {}
            if memory is None
            else {name: (state, value) for name, (state, value) in read_json(memory)["files"].items()}
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _hash_all(sizes: dict[Path, int], what: str) -> dict[Path, str]:
    files, total = list(sizes), sum(sizes.values())
    label = f"read {len(files):,} files of {what} to hash them"
    with tqdm(
        total=total, desc=label, unit="B", unit_scale=True, disable=total < SHOWN, position=own_line(), leave=False
    ) as bar:
        if len(files) < 2 or total < _BLOCK:
            return {file: _hash(file, bar) for file in files}
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1, len(files))) as pool:
            return dict(zip(files, pool.map(lambda file: _hash(file, bar), files), strict=True))


def _hash(file: Path, bar: tqdm) -> str:
    digest = hashlib.sha256()
    for block in _blocks(file):
        digest.update(block)
        bar.update(len(block))
    return digest.hexdigest()


def _blocks(file: Path) -> Iterator[memoryview]:
    buffer = memoryview(bytearray(_BLOCK))
    with file.open("rb", buffering=0) as stream:
        while count := stream.readinto(buffer):
            yield buffer[:count]
