"""The contents of a folder of data: its files, each once, what is not read and why, and the splits that names state."""

import os
import re
import stat
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from ettin_core.data.config import SourceConfig
from ettin_core.data.documents import SPLIT_NAMES, NotRead, bad
from ettin_core.foundation.errors import invalid

EXAMPLES = 3
HIDDEN, DANGLING, REPEATED = "hidden", "dangling link", "link to what is read already"
COMPRESSED = "compressed copy of what is read"
UNREADABLE, SPECIAL, LEAVES = "unreadable", "no regular file", "link that leaves the folder"
_NAMES = "|".join(SPLIT_NAMES)
_SPLIT = re.compile(rf"(?:^|(?<=[-._ ]))(?:{_NAMES})(?=[-._ \d]|$)", re.IGNORECASE)
_NAMED = re.compile(rf"^(?:(?P<source>.+?)\.)?(?P<split>{_NAMES})(?:[-.].*)?$", re.IGNORECASE)
_LOOSELY_NAMED = re.compile(rf"^(?P<source>.+?)[-._ ](?:{_NAMES})(?:[-._ \d].*)?$", re.IGNORECASE)


class Listing:
    """The files below a folder in order, each once.

    Hidden files and folders are left out, as Hugging Face's library does. A link is followed within the folder, to what is
    not read under its own name; `leaving` are those whose target is outside. `leave_out` notes anything that is not read.
    """

    def __init__(self, root: Path) -> None:
        self.files: list[Path] = []
        self.leaving: list[Path] = []
        self._root, self._inside = root, _boundary(root.resolve())
        self._counts: Counter[str] = Counter()
        self._examples: dict[str, list[str]] = {}
        self._seen: set[tuple[int, int]] = set()
        self._links: list[Path] = []
        self._enter(root)
        for link in self._links:  # grows where a link leads to a folder
            self._follow(link)
        self.files.sort()

    @property
    def not_read(self) -> dict[str, NotRead]:
        """What was left out, by reason."""
        return {reason: NotRead(count, tuple(self._examples[reason])) for reason, count in sorted(self._counts.items())}

    def leave_out(self, path: Path, reason: str) -> None:
        """Count something that is not read."""
        self._counts[reason] += 1
        examples = self._examples.setdefault(reason, [])
        if len(examples) < EXAMPLES:
            examples.append(os.fsencode(path.relative_to(self._root)).decode(errors="replace"))

    def _enter(self, folder: Path) -> None:
        try:
            self._seen.add(_inode(folder))
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError:
            self.leave_out(folder, UNREADABLE)
            return
        for entry in entries:
            path = folder / entry.name
            if entry.name.startswith(".") or (entry.name.startswith("__") and entry.is_dir()):
                self.leave_out(path, HIDDEN)
            elif entry.is_symlink():
                self._links.append(path)
            elif entry.is_dir():
                self._enter(path)
            else:
                self._take(path)

    def _take(self, path: Path) -> None:
        try:
            if not stat.S_ISREG(path.stat().st_mode):  # opening a FIFO would wait for its writer
                self.leave_out(path, SPECIAL)
                return
            path.open("rb").close()
        except OSError:
            self.leave_out(path, UNREADABLE)
            return
        self._seen.add(_inode(path))
        self.files.append(path)

    def _follow(self, link: Path) -> None:
        try:
            target = link.resolve(strict=True)
            known = _inode(target) in self._seen
        except PermissionError:
            self.leave_out(link, UNREADABLE)
        except (OSError, RuntimeError):  # a link to nowhere, or in a circle
            self.leave_out(link, DANGLING)
        else:
            if not target.is_relative_to(self._inside):
                self.leaving.append(link)
            elif known:
                self.leave_out(link, REPEATED)
            elif target.is_dir():
                self._enter(link)
            else:
                self._take(link)


def _inode(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


def _boundary(root: Path) -> Path:
    """What links may not leave: the folder, or around a snapshot of the hub's cache the cache of that dataset."""
    for folder in (root, *root.parents):
        if folder.parent.name == "snapshots" and (folder.parent.parent / "blobs").is_dir():
            return folder.parent.parent
    return root


def check_leaving(config: SourceConfig, listing: Listing, links: Iterable[Path]) -> None:
    """Raises ValueError for a link that leaves the folder, or counts it when `on_bad` is skip."""
    for link in links:
        problem = invalid(
            "data.path",
            str(link),
            "is a link that leaves the folder",
            "put the file itself there, or name its folder as a source, 'data.sources={<name>:{path:<folder>}}'",
        )
        bad(config, str(link), problem, LEAVES)
        listing.leave_out(link, LEAVES)


def listed(not_read: Mapping[str, NotRead]) -> str:
    """What is not read, for people: "hidden 1 (.cache), suffix .csv 12 (a.csv, b.csv, c.csv, ...)"."""
    return ", ".join(
        f"{reason} {entry.count:,} ({', '.join(entry.examples)}{', ...' if entry.count > len(entry.examples) else ''})"
        for reason, entry in not_read.items()
    )


def stated(place: Path) -> tuple[str | None, str | None]:
    """(source, split) as folders and the file's name state them: "dev/0.jsonl", "books.train-00.jsonl", "books_test1.txt".

    Names of splits are those of Hugging Face's library, set off by "-", "_", ".", a blank or a digit. Only a file's name
    states a source. Raises ValueError where two splits are stated.
    """
    named = _NAMED.match(place.name)
    parts = [*place.parts[:-1], *([] if named else [place.name])]
    splits = {SPLIT_NAMES[name.lower()] for part in parts for name in _SPLIT.findall(part)}
    if named:
        splits.add(SPLIT_NAMES[named["split"].lower()])
    if len(splits) > 1:
        problem = f"states several splits ({', '.join(sorted(splits))})"
        raise invalid("data.path", place.as_posix(), problem, "name one split in folders and file name together")
    named = named or _LOOSELY_NAMED.match(place.name)
    return named["source"] if named else None, next(iter(splits), None)
