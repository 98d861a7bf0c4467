"""What cases damage: a prepared corpus, a trained and measured run, its export and a study file."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ettin_core.foundation.storage import write_json
from ettin_core.records.folders import RunFolder, run_folders
from experiments.campaign.processes import preload, run

DATA = ("data.documents=300", "data.vocab_size=400")
SIZE = ("size.hidden_size=32", "size.intermediate_size=48", "size.num_heads=2")
TINY: tuple[str, ...] = (
    *SIZE,
    *DATA,
    "recipe=smoke",
    "recipe.tokens=2e3",
    "recipe.max_epochs=1000",
    "placement.trackers=[]",
)
TINY += ("placement.log_every=1", "checkpoint.every_steps=2")
SUITE = ("suite=smoke", "suite.protocols=[heldout_clm,agreement]", "device=cpu")

COMMANDS = tuple(
    f"experiments.{name}" for name in ("train", "evaluate", "export", "prepare", "preview", "runs", "faults")
)
COMMANDS += ("analysis.report",)


@dataclass(frozen=True)
class Place:
    """The folder with corpora/, runs/, hf/ and study.json."""

    path: Path

    @property
    def run(self) -> RunFolder:
        """The one run."""
        (run,) = run_folders(self.path / "runs")
        return run

    def copy(self, *names: str) -> Callable[[Path], None]:
        """A function that copies these into a case's folder."""

        def prepare(folder: Path) -> None:
            for name in names:
                if (self.path / name).is_dir():
                    shutil.copytree(self.path / name, folder / name, symlinks=True)
                else:
                    shutil.copy2(self.path / name, folder / name)

        return prepare


def build(path: Path) -> Place:
    """Make the place with the commands themselves; raises RuntimeError where one does not end well."""
    path.mkdir(parents=True, exist_ok=True)
    preload(COMMANDS)
    place = Place(path)
    _must(path, "experiments.train", "member=decoder", *TINY)
    _must(path, "experiments.evaluate", "run=latest", *SUITE)
    _must(path, "experiments.export", "run=latest", "out=hf")
    name = place.run.name
    cell = {"name": "a", "run": name, "axes": {"seed": 0}, "parent": None}
    certificate = {"pair": "p", "left": name, "right": name, "verdict": "matched", "differences": [], "evidence": {}}
    study = {"name": "demo", "claim": "", "runs": [name], "cells": [cell], "analysis": {}}
    (path / "study.json").write_text(json.dumps(study | {"certificates": [certificate]}))
    write_json(place.run.certificate_file, certificate)
    return place


def _must(path: Path, command: str, *arguments: str) -> None:
    ended = run(command, *arguments, folder=path)
    if ended.status != 0:
        raise RuntimeError(f"{command} {' '.join(arguments)} ended with {ended.status}:\n{ended.err[-3000:]}")
