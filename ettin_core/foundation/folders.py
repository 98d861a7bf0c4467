"""Folders that are whole or absent, replaced in one step, and locked while somebody writes them.

A folder is built under a temporary name beside its target and then exchanged with what was there: a reader finds the old
one or the new one. What is written where a user says (`maker` given) carries a mark file. Only a folder with the mark of
the same maker is ever replaced; files of others in it are carried over.
"""

import contextlib
import ctypes
import errno
import fcntl
import os
import re
import shutil
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from ettin_core.foundation.errors import BusyError, UserError, invalid
from ettin_core.foundation.storage import disk_errors, read_json, sync_folder, write_json

MARK = ".made_by.json"
_HELD: set[IO[str]] = set()  # locks of this process
_CURRENT_FOLDER, _EXCHANGE = -100, 2  # AT_FDCWD and RENAME_EXCHANGE of renameat2(2)
_UNSUPPORTED = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP)


@contextlib.contextmanager
def folder_under_construction(
    folder: Path, maker: str | None = None, alongside: tuple[str, ...] = ()
) -> Iterator[Path]:
    """Yield a temporary folder that becomes `folder` when the block succeeds, and is deleted when it does not.

    With a `maker` an existing folder is replaced only if it is empty, holds nothing but `alongside`, or carries this maker's
    mark. Files of others in it stay. Without a `maker` whatever is there is replaced.
    Raises ValueError, before anything is written, for a folder of others, and BusyError while another process writes it.
    """
    folder = Path(os.path.abspath(folder))
    with disk_errors(folder), _held_name(folder):
        foreign = _foreign_files(folder, maker, alongside) if maker is not None else []
        temporary = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}.building")
        try:
            temporary.mkdir()
            yield temporary
            if maker is not None:
                _carry_over(foreign, temporary, maker)
            _flush(temporary)
            _put_in_place(temporary, folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


@contextlib.contextmanager
def emptied_folder(folder: Path, maker: str) -> Iterator[Path]:
    """Lock a folder of this maker for writing, emptied first and marked. Raises ValueError for a folder of others."""
    folder = Path(os.path.abspath(folder))
    with disk_errors(folder), _held_name(folder):
        if foreign := _foreign_files(folder, maker, ()):
            names = ", ".join(path.name for path in foreign[:3])
            raise invalid("out", str(folder), f"holds {names}, which {maker} did not write", "name another folder")
        remove_folder(folder)
        write_json(folder / MARK, {"maker": maker, "files": None})
        yield folder


def check_replaceable(folder: Path, maker: str) -> None:
    """Raises ValueError for a folder that `folder_under_construction` would not replace for this maker."""
    _foreign_files(Path(os.path.abspath(folder)), maker, ())


def remove_folder(folder: Path) -> None:
    """Delete a folder, if it is there; a kill meanwhile leaves it whole or absent (and hidden leftovers)."""
    aside = folder.with_name(f".{folder.name}.removing")
    shutil.rmtree(aside, ignore_errors=True)
    if folder.exists():
        os.replace(folder, aside)
        shutil.rmtree(aside, ignore_errors=True)


def _foreign_files(folder: Path, maker: str, alongside: tuple[str, ...]) -> list[Path]:
    """What is in a folder that this maker did not make. Raises ValueError for a folder that it may not replace."""
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise invalid("out", str(folder), "is not a folder", "name a new folder")
    content = sorted(folder.iterdir()) if folder.exists() else []
    mark = _mark(folder)
    if mark is None:
        strange = [path.name for path in content if path.name not in alongside]
        if strange:
            problem = (
                f"holds {', '.join(strange[:3])}{', ...' if len(strange) > 3 else ''}, and {maker} did not write it"
            )
            raise invalid("out", str(folder), problem, "name a new folder, or one that an earlier call wrote")
        return content
    if mark["maker"] != maker:
        raise invalid("out", str(folder), f"was written by {mark['maker']}, not by {maker}", "name another folder")
    maker_files = mark["files"]
    return [path for path in content if maker_files is not None and path.name not in maker_files and path.name != MARK]


def _mark(folder: Path) -> dict | None:
    """The mark of a folder; None where there is none that can be read."""
    try:
        mark = read_json(folder / MARK)
    except (OSError, UserError):
        return None
    return mark if isinstance(mark, dict) and {"maker", "files"} <= mark.keys() else None


def _carry_over(foreign: list[Path], folder: Path, maker: str) -> None:
    """Mark a new folder, and copy into it what its predecessor holds of others."""
    write_json(folder / MARK, {"maker": maker, "files": sorted(path.name for path in folder.iterdir())})
    for path in foreign:
        target = folder / path.name
        if target.exists():
            raise invalid("out", str(path), "is in the way of a file of that name", "move it, or name another folder")
        if path.is_dir() and not path.is_symlink():
            shutil.copytree(path, target, symlinks=True)
        else:
            shutil.copy2(path, target, follow_symlinks=False)


def _flush(folder: Path) -> None:
    for file in sorted(folder.rglob("*")):
        if file.is_file():
            with file.open("rb") as handle:
                os.fsync(handle.fileno())


def _put_in_place(new: Path, folder: Path) -> None:
    """Give a folder this name, in one step; the folder that had it is deleted afterwards."""
    if not folder.exists():
        os.replace(new, folder)
    elif _exchange(new, folder):
        shutil.rmtree(new, ignore_errors=True)
    else:  # a file system that cannot exchange: `_recover` puts the old one back after a kill between the two renames
        old = new.with_suffix(".replaced")
        os.replace(folder, old)
        os.replace(new, folder)
        shutil.rmtree(old, ignore_errors=True)
    sync_folder(folder.parent)


def _exchange(new: Path, folder: Path) -> bool:
    """Exchange two names in one step, where the system can."""
    if not sys.platform.startswith("linux"):
        return False
    library = ctypes.CDLL(None, use_errno=True)
    if not hasattr(library, "renameat2"):
        return False
    if library.renameat2(_CURRENT_FOLDER, os.fsencode(new), _CURRENT_FOLDER, os.fsencode(folder), _EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in _UNSUPPORTED:
        return False
    raise OSError(number, os.strerror(number), str(folder))


def _recover(folder: Path) -> None:
    """Remove what a killed process left beside a folder, and put the folder back if it was being replaced."""
    leftover = re.compile(rf"\.{re.escape(folder.name)}(\.[0-9a-f]{{8}})?\.(building|replaced)")
    for path in [path for path in folder.parent.iterdir() if leftover.fullmatch(path.name)]:
        if path.suffix == ".replaced" and not folder.exists():
            os.replace(path, folder)
        else:
            shutil.rmtree(path, ignore_errors=True)


@contextlib.contextmanager
def _held_name(folder: Path) -> Iterator[None]:
    """Hold a name, whether or not there is a folder of that name. Raises BusyError when another process holds it."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = folder.with_name(f".{folder.name}.lock")
    while True:
        file = lock.open("w")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.close()
            raise _busy(folder) from error
        if lock.exists() and os.path.samestat(os.fstat(file.fileno()), lock.stat()):
            break
        file.close()  # its holder removed it between the two calls
    _HELD.add(file)
    try:
        _recover(folder)
        yield
    finally:
        _HELD.discard(file)
        if not file.closed:
            lock.unlink(missing_ok=True)
            file.close()


@contextlib.contextmanager
def locked(folder: Path, wait: bool = False) -> Iterator[None]:
    """Hold a folder's lock. Raises BusyError at once when another process holds it, unless `wait`."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError as error:
            raise _busy(folder) from error
        _HELD.add(file)
        try:
            yield
        finally:
            _HELD.discard(file)


def _busy(folder: Path) -> BusyError:
    message = invalid("folder", str(folder), "is being written by another process", "wait for it to end, or stop it")
    return BusyError(str(message))


def _let_go() -> None:
    """A forked child holds no lock: it may outlive its parent by seconds, and another process must not wait for it."""
    for file in _HELD:
        file.close()
    _HELD.clear()


os.register_at_fork(after_in_child=_let_go)
