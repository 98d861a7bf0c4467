"""Damaged run folders: every file missing, cut, flipped or of another kind, met by the commands that read it.

A command gives the answer that it gives of the whole folder, or names what is damaged.
"""

import functools
import hashlib
import os
import shutil
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from experiments.campaign.cases import EITHER, Case, Input, files
from experiments.campaign.damages import Damage
from experiments.campaign.place import SUITE, TINY, Place
from experiments.campaign.processes import Ended, run
from experiments.campaign.records import damaged


def _flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def _folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


def _link(file: Path) -> None:
    file.unlink()
    file.symlink_to("nowhere")


DAMAGES: dict[str, Damage] = {
    "missing": Path.unlink,
    "empty": lambda file: os.truncate(file, 0),
    "halved": lambda file: os.truncate(file, file.stat().st_size // 2),
    "a bit flipped": _flip,
    "binary": lambda file: file.write_bytes(b"\0\xff" * 500),
    "a list": lambda file: file.write_text("[]\n"),
    "longer": lambda file: file.write_bytes(file.read_bytes() + b"more\n"),
    "a folder": _folder,
    "a link to nowhere": _link,
}


@dataclass(frozen=True)
class Reader:
    """A command that reads a run folder, and its answer: what it printed, or what it wrote."""

    command: str
    arguments: tuple[str, ...]
    of: tuple[str, ...]  # beginnings of the paths that it reads in a run folder
    wrote: str | None = None

    def answer(self, folder: Path, ended: Ended) -> str:
        """What is compared: the content of what was written but marks and pages, or what was printed."""
        if self.wrote is None:
            return ended.out
        paths = sorted((folder / self.wrote).rglob("*.csv")) + sorted((folder / self.wrote).rglob("*.safetensors"))
        return "".join(f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}\n" for path in paths)


def _unfinish(folder: Path) -> None:
    """The run is to be continued from its last checkpoint but one."""
    (run_path,) = [path.parent for path in folder.glob("runs/*/config.yaml")]
    (run_path / "COMPLETE").unlink(missing_ok=True)
    shutil.rmtree(run_path / "checkpoints" / "decay1", ignore_errors=True)


RECORDS = ("config", "COMPLETE", "metrics", "timing", "data_order", "certificate", "evaluations", "provenance")
READERS = {
    "report": Reader("analysis.report", ("runs=runs", "out=report"), RECORDS, "report"),
    "evaluate": Reader("experiments.evaluate", ("run=latest", *SUITE),
                       ("config", "COMPLETE", "evaluations", "checkpoints/decay")),
    "export": Reader("experiments.export", ("run=latest", "out=out"), ("config", "COMPLETE", "checkpoints/decay"), "out"),
    "list": Reader("experiments.runs", (), ("config", "COMPLETE", "metrics", "timing", "heartbeat")),
    "continue": Reader("experiments.train", ("member=decoder", *TINY),
                       ("config", "metrics", "timing", "data_order", "checkpoints/ext", "provenance"), "runs"),
}  # fmt: skip


def cases(place: Place) -> list[Case]:
    """A case for each reader, file and damage."""
    result = []
    home = f"runs/{place.run.path.name}"
    for title, reader in READERS.items():
        usual = partial(usual_answer, place, reader)
        for name in sorted(files(place.run.path)):
            if not name.startswith(reader.of):
                continue
            prepare = partial(_prepare, place, reader)
            trial = Input(
                reader.command, reader.arguments, _names(name, place), EITHER, answer=reader.answer, usual=usual
            )
            for damage, apply in DAMAGES.items():
                damaged_trial = Input(**vars(trial) | {"prepare": partial(damaged, prepare, apply, f"{home}/{name}")})
                result.append(Case(f"{title}: {name} {damage}", damaged_trial))
    return result


@functools.cache
def usual_answer(place: Place, reader: Reader) -> str:
    """The answer of a whole folder, found once by each process that tries cases."""
    folder = Path(tempfile.mkdtemp(prefix="usual-", dir=place.path.parent))
    _prepare(place, reader, folder)
    ended = run(reader.command, *reader.arguments, folder=folder)
    if ended.status != 0:
        raise RuntimeError(f"{reader.command} does not end well of a whole folder:\n{ended.err[-2000:]}")
    return reader.answer(folder, ended)


def _prepare(place: Place, reader: Reader, folder: Path) -> None:
    place.copy("corpora", "runs")(folder)
    if reader.command == "experiments.train":
        _unfinish(folder)


def _names(name: str, place: Place) -> tuple[str, ...]:
    """How a line may name a damaged file: by its name, its folder's, or the run's."""
    path = Path(name)
    return (
        path.name,
        *([path.parent.name] if path.parent.name else []),
        place.run.name,
        "holds no complete run",
        "is not a run folder",
    )
