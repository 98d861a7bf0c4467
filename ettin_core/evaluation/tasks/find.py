"""The task of a name: a file of the user's, files in the folder of a kind, or a built-in file."""

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ettin_core.evaluation.lines import FOLDER, SUFFIXES, find, rows_of, stem_of
from ettin_core.evaluation.tasks.config import KINDS, PARTS, TaskFile, read_task_file
from ettin_core.foundation.errors import UserError, choose, invalid

OWN = "tasks"  # the user's task files, in the folder of evaluation sets
BUILTIN = Path(__file__).parent / "builtin"
NAME = re.compile(r"[A-Za-z0-9_-]+")  # of records and their folders


@dataclass(frozen=True, eq=False)
class Task:
    """A named task. `folder` is the folder of evaluation sets (None: the task comes from the hub)."""

    name: str
    spec: TaskFile
    folder: Path | None

    @property
    def stem(self) -> str:
        """The path of its rows in the folder of evaluation sets, without a suffix."""
        return stem_of(self.spec.file or f"{KINDS[self.spec.kind].folder}/{self.name}")

    def exists(self) -> bool:
        """Whether the folder holds it."""
        try:
            return bool(self.files())
        except UserError:
            return False

    def files(self) -> dict[str | None, Path]:
        """Its files by part; one file for all parts under None. Raises ValueError where there are none."""
        assert self.folder is not None, f"{self.name} comes from the hub"
        if not self.folder.is_dir():
            raise invalid("eval_data", str(self.folder), "is not a folder", FOLDER)
        if (path := find(self.folder, self.stem)) is not None:
            return {None: path}
        inside = self.folder / self.stem
        files: dict[str | None, Path] = {
            part: path for part in PARTS for name in self.spec.of(part) if (path := find(inside, name)) is not None
        }
        if not files:
            remedy = "add the file (.jsonl, .jsonl.gz or .jsonl.zst), or a folder with a file for each split"
            if self.spec.hub is not None:
                remedy += "; eval_data=null fetches it from GLUE by name"
            raise invalid("eval_data", str(self.folder), f"lacks {self.stem} of task {self.name}", remedy)
        return files


@functools.cache
def builtin() -> dict[str, TaskFile]:
    """The package's own task files by name."""
    return {path.stem: read_task_file(path) for path in sorted(BUILTIN.glob("*.yaml"))}


def user_files(folder: Path | None) -> dict[str, Path]:
    """The user's task files by name."""
    if folder is None:
        return {}
    paths = [path for path in sorted((folder / OWN).glob("[!.]*")) if path.suffix in (".yaml", ".yml")]
    files: dict[str, Path] = {}
    for path in paths:
        if not NAME.fullmatch(path.stem):
            raise invalid(
                "task", path.stem, "is not a valid name of a task", "use letters, digits, _ and - in the file's name"
            )
        if path.stem in files:
            raise invalid("task", path.stem, f"has two files in {folder / OWN}", "keep one of them")
        files[path.stem] = path
    return files


def tasks_for(command: str, folder: Path | None) -> dict[str, Task]:
    """Every task of a folder that a command takes, but for the built-in ones: the user's files, and those in folders of kinds."""
    if folder is None:
        return {}
    tasks = {name: Task(name, read_task_file(path), folder) for name, path in user_files(folder).items()}
    described = [task for task in tasks.values() if command in KINDS[task.spec.kind].commands]
    claimed = {task.stem for task in described} | {Task(name, spec, folder).stem for name, spec in builtin().items()}
    for kind, stem in _in_place(folder):
        name = stem.partition("/")[2]
        if NAME.fullmatch(name) and stem not in claimed and name not in tasks and name not in builtin():
            tasks[name] = Task(name, TaskFile(kind), folder)
    return {name: task for name, task in sorted(tasks.items()) if command in KINDS[task.spec.kind].commands}


def find_task(name: str, folder: Path | None, command: str) -> Task:
    """The task of a name. Raises ValueError for an unknown one, and for one of a kind that the command does not measure."""
    files = user_files(folder)
    if name in files:
        task = Task(name, read_task_file(files[name]), folder)
    elif name in builtin():
        task = Task(name, builtin()[name], folder)
    else:
        known = {**builtin(), **files, **tasks_for(command, folder)}
        task = tasks_for(command, folder).get(name) or _unknown(name, known, folder)
    commands = KINDS[task.spec.kind].commands
    if command not in commands:
        problem = f"is of kind {task.spec.kind}, which {command} does not measure"
        raise invalid("task", name, problem, f"use {' or '.join(commands)}")
    return task


def _unknown(name: str, known: Sequence[str] | dict[str, object], folder: Path | None) -> Task:
    more = "" if folder is None else f"; or add {folder / OWN}/{name}.yaml"
    raise invalid("task", name, "is not a task", f"{choose(name, known)}{more}")


def _in_place(folder: Path) -> list[tuple[str, str]]:
    """Kind and stem of each file in the folder of a kind that has its fields."""
    fitting = []
    for place in dict.fromkeys(kind.folder for kind in KINDS.values() if kind.fields):
        kinds = [name for name, kind in KINDS.items() if kind.folder == place]
        names = {stem_of(path.name) for path in (folder / place).glob("[!.]*") if path.name.endswith(SUFFIXES)}
        names |= {path.name for path in (folder / place).glob("[!.]*") if path.is_dir()}
        for name in sorted(names):
            first = _first_row(folder, f"{place}/{name}")
            fits = [kind for kind in kinds if all(field in first for field in KINDS[kind].fields)]
            fitting += [(kind, f"{place}/{name}") for kind in fits[:1]]
    return fitting


def _first_row(folder: Path, stem: str) -> dict[str, object]:
    """The first row; nothing of what cannot be read, which is an error when the task is asked for by name."""
    try:
        paths = [find(folder, stem)] + [find(folder / stem, name) for names in PARTS.values() for name in names]
        return next((row for path in paths if path is not None for _, row in rows_of(path)), {})
    except (UserError, OSError):
        return {}
