"""Folders that may not be written or read, and full disks."""

import os
import shutil
import subprocess
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from experiments.campaign.cases import ACCEPTED, EITHER, IMPOSSIBLE, Case, Input, Outcome, judge
from experiments.campaign.place import SUITE, TINY, Place
from experiments.campaign.processes import Environment, run
from experiments.campaign.texts import COMMON, LINES, put

NOBODY = 65534
FREE = (64, 300, 900, 1600)  # KiB of a disk
MAY_BE_USED = Environment(variables={"HOME": "/nonexistent"}, user=NOBODY if os.getuid() == 0 else None)
READ, WRITE, ALL = 0o444, 0o555, 0o000  # what is left


@dataclass(frozen=True)
class Denied:
    """A command whose user lacks a permission, on paths below its folder (a pattern)."""

    command: str
    arguments: tuple[str, ...]
    pattern: str
    mode: int
    expect: str = "refused"


EVALUATE, EXPORT = ("run=latest", *SUITE), ("run=latest", "out=new/hf")
REPORT = ("runs=runs", "out=new/report", "record=study.json")
TRAIN = ("member=encoder", *TINY)
RUN = "runs/*-*"
DENIED = {
    "train: runs not writable": Denied("experiments.train", TRAIN, "runs", WRITE),
    "train: corpora not writable": Denied("experiments.train", (*TRAIN, "data.documents=301"), "corpora", WRITE),
    "train: corpora not readable": Denied("experiments.train", TRAIN, "corpora", ALL),
    "train: a corpus not readable": Denied("experiments.train", TRAIN, "corpora/*-*", ALL),
    "train: a shard not readable": Denied("experiments.train", TRAIN, "corpora/*/*.bin", ALL),
    "train: a manifest not readable": Denied("experiments.train", TRAIN, "corpora/*/manifest.json", ALL),
    "train: all is read-only": Denied("experiments.train", (*TRAIN, "runs_dir=elsewhere"), ".", WRITE),
    "train again: a run not readable": Denied("experiments.train", ("member=decoder", *TINY), RUN, ALL),
    "evaluate: a run not writable": Denied("experiments.evaluate", (*EVALUATE, "suite.items=13"), f"{RUN}/evaluations", WRITE),
    "evaluate: checkpoints not readable": Denied("experiments.evaluate", EVALUATE, f"{RUN}/checkpoints", ALL),
    "evaluate: weights not readable": Denied("experiments.evaluate", EVALUATE, f"{RUN}/checkpoints/*/model.safetensors", ALL),
    "evaluate: config not readable": Denied("experiments.evaluate", EVALUATE, f"{RUN}/config.yaml", ALL),
    "export: place not writable": Denied("experiments.export", EXPORT, "new", WRITE),
    "export: weights not readable": Denied("experiments.export", EXPORT, f"{RUN}/checkpoints/*/model.safetensors", ALL),
    "report: place not writable": Denied("analysis.report", REPORT, "new", WRITE),
    "report: study not readable": Denied("analysis.report", REPORT, "study.json", ALL),
    "report: metrics not readable": Denied("analysis.report", REPORT, f"{RUN}/metrics.jsonl", ALL),
    "report: runs not readable": Denied("analysis.report", REPORT, "runs", ALL),
    "list: runs not readable": Denied("experiments.runs", (), "runs", ALL),
    "list: COMPLETE not readable": Denied("experiments.runs", (), f"{RUN}/COMPLETE", ALL),
    "remove: runs not writable": Denied("experiments.runs", ("remove=[latest]", "ask=false"), "runs", WRITE),
    "prepare: text not readable": Denied("experiments.prepare", COMMON, "in/a.jsonl", ALL),
    "prepare: folder not readable": Denied("experiments.prepare", COMMON, "in", ALL),
    "preview: text not readable": Denied("experiments.preview", COMMON, "in/a.jsonl", ALL),
    "faults: place not writable": Denied("experiments.faults", ("out=new/faults",), "new", WRITE),
}  # fmt: skip


def permission_cases(place: Place) -> list[Case]:
    """Every missing permission, for a user who is not root."""
    return [Case(title, partial(_denied, place, denied)) for title, denied in DENIED.items()]


def _denied(place: Place, denied: Denied, folder: Path) -> Outcome:
    place.copy("corpora", "runs", "study.json")(folder)
    put("a.jsonl", LINES, folder)
    (folder / "new").mkdir()
    if MAY_BE_USED.user is not None:
        for path in (folder, *folder.rglob("*")):
            os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
    paths = [folder] if denied.pattern == "." else sorted(folder.glob(denied.pattern))
    modes = {path: path.stat().st_mode for path in paths}
    for path in paths:
        path.chmod(denied.mode)
    try:
        names = (Path(denied.pattern).name.strip("*-"), "runs", "corpora", "new", "in", "elsewhere")
        trial = Input(denied.command, denied.arguments, names, denied.expect, environment=MAY_BE_USED)
        return trial(folder)
    finally:
        for path, mode in modes.items():
            path.chmod(mode)


def full_disk_cases(place: Place) -> list[Case]:
    """Writers on disks that are full at several sizes. With space again, the same command has to end well."""
    writers: dict[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {
        "train": ("experiments.train", ("member=encoder", *TINY, "runs_dir=disk/runs"), ("corpora",)),
        "prepare": ("experiments.prepare", (*COMMON, "corpora_dir=disk/corpora"), ()),
        "export": ("experiments.export", ("run=latest", "out=disk/hf"), ("corpora", "runs")),
        "report": ("analysis.report", ("runs=runs", "out=disk/report", "record=study.json"), ("runs", "study.json")),
    }
    sizes = {"train": FREE, "report": FREE}
    return [
        Case(f"{name}: {size} KiB", partial(_full, place, *writer, size))
        for name, writer in writers.items()
        for size in sizes.get(name, FREE[:1])
    ]


def _full(
    place: Place, command: str, arguments: tuple[str, ...], copied: tuple[str, ...], size: int, folder: Path
) -> Outcome:
    place.copy(*copied)(folder)
    put("a.jsonl", LINES * 20, folder)
    with_disk = folder / "disk"
    with_disk.mkdir()
    if not _mount(with_disk, f"size={size}k"):
        return Outcome(IMPOSSIBLE, "a small disk cannot be mounted here (it needs root and CAP_SYS_ADMIN)")
    try:
        trial = Input(command, arguments, ("disk full while writing",), EITHER, leaves=True)
        outcome = trial(folder)
        if outcome.kind != "clear" or outcome.printed.startswith("status 0"):
            return outcome
        subprocess.run(["mount", "-o", "remount,size=64m", str(with_disk)], check=True)
        return judge(run(command, *arguments, folder=folder), ACCEPTED, ())
    finally:
        subprocess.run(["umount", "-l", str(with_disk)], check=True)


def _mount(folder: Path, options: str) -> bool:
    if shutil.which("mount") is None:
        return False
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True)
    return done.returncode == 0
