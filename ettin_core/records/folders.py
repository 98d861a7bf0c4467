"""The layout of a run folder, in one place. Reads and writes evidence; imports without torch."""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from ettin_core.foundation.errors import UserError, invalid, nearest, question
from ettin_core.foundation.storage import check_shape, read_mapping, write_json
from ettin_core.records.evaluations import check, chosen
from ettin_core.records.files import append, read_measurements, read_timing, read_training
from ettin_core.records.item_tables import ItemTable, read_item_tables
from ettin_core.records.schema import Item, Measurement, TimingRecord, TrainingRecord, is_finite

__all__ = ["RunFolder", "RunName", "append", "parse_name", "run_folders"]

LATEST = "latest"  # the run that last wrote, where a run is asked for
SHOWN = 8  # candidates that a message lists


ANEW = "start the run's command again, which continues from its last checkpoint and writes it anew"
SUMMARY: dict[str, type | tuple[type, ...]] = dict.fromkeys(("run", "member", "size", "objective", "corpus"), str)
SUMMARY |= dict.fromkeys(("seed", "tokens", "loss_tokens", "parameters"), int)
SUMMARY |= {"flops": (int, float), "seconds": (int, float), "final_checkpoint": str}


class RunName(NamedTuple):
    """What the name of a run says."""

    size: str
    member: str
    seed: int


def parse_name(name: str) -> RunName | None:
    """Size, member and seed in the name of a run of ours; None for any other name."""
    match = re.fullmatch(r"([^-]+)-(.+)-s(\d+)-[0-9a-f]{10}", name)
    return RunName(match[1], match[2], int(match[3])) if match else None


@dataclass(frozen=True)
class RunFolder:
    """`runs/<slug>-<hash>/` with its configuration, evidence, checkpoints and evaluations.

    Of what was measured with several settings, those of the `suite` are read (records/evaluations.py).
    """

    path: Path
    suite: dict[str, str] | None = None

    @property
    def name(self) -> str:
        """The content name: a complete run states it, whatever its folder is called."""
        stated = self._read_summary()[0].get("run")
        return stated if isinstance(stated, str) and stated else self.path.name

    @property
    def config_file(self) -> Path:
        """The resolved configuration."""
        return self.path / "config.yaml"

    @property
    def metrics_file(self) -> Path:
        """Deterministic training rows."""
        return self.path / "metrics.jsonl"

    @property
    def timing_file(self) -> Path:
        """Wall-clock rows."""
        return self.path / "timing.jsonl"

    @property
    def data_order_file(self) -> Path:
        """Rolling hash of the data at logged steps."""
        return self.path / "data_order.json"

    @property
    def heartbeat_file(self) -> Path:
        """The last sign of life of the process that trains the run: time, a code of the host, process, step. Not evidence."""
        return self.path / "heartbeat.json"

    @property
    def checkpoints(self) -> Path:
        """Folder of checkpoints."""
        return self.path / "checkpoints"

    def export_folder(self, checkpoint: str | None = None) -> Path:
        """The run's own transformers folder; of an earlier checkpoint than the last, another folder beside it."""
        return self.path / ("hf" if checkpoint is None else f"hf@{checkpoint}")

    @property
    def beginning_file(self) -> Path:
        """Of a run that begins as a shorter one did: that run, its checkpoint and the hash of its weights."""
        return self.path / "beginning.json"

    @property
    def certificate_file(self) -> Path:
        """The certificate of the comparison this run is the second side of."""
        return self.path / "certificate.json"

    @property
    def failure_file(self) -> Path:
        """Why the last attempt to train the run failed; gone when another begins. Not evidence."""
        return self.path / "failure.json"

    @property
    def failure(self) -> str | None:
        """The first line of why the last attempt failed (None: it did not)."""
        return str(read_mapping(self.failure_file).get("reason")) if self.failure_file.exists() else None

    def config(self) -> dict[str, Any]:
        """The resolved configuration as plain data."""
        return read_mapping(self.config_file, "restore it, or delete the run")

    @property
    def complete(self) -> bool:
        """Whether the run ended and its last record, which can be read, was written."""
        return (self.path / "COMPLETE").exists() and self.damage is None

    @property
    def damage(self) -> str | None:
        """Why the last record of a run that ended cannot be read (None: it can, or is not there)."""
        return self._read_summary()[1]

    def _read_summary(self) -> tuple[dict[str, Any], str | None]:
        file = self.path / "COMPLETE"
        try:
            summary = read_mapping(file, ANEW)
            check_shape(file, summary, ANEW, False, **SUMMARY)
            if not is_finite(summary):
                raise invalid("file", str(file), "holds a number that is not finite", ANEW)
        except FileNotFoundError:
            return {}, None
        except UserError as error:
            return {}, str(error)
        return summary, None

    def summary(self) -> dict[str, Any]:
        """What the run recorded when it completed: the four rulers, parameters, hashes."""
        summary, damage = self._read_summary()
        if damage is not None:
            raise UserError(damage)
        if not self.complete:
            raise invalid("run", self.name, "is not complete", "start its command again; it continues where it stopped")
        return summary

    def finish(self, summary: dict[str, Any]) -> None:
        """Mark the run complete; written last."""
        write_json(self.path / "COMPLETE", summary)

    def training(self) -> list[TrainingRecord]:
        """The training rows. Raises ValueError where those of a complete run are not all that it logged."""
        rows = read_training(self.metrics_file)
        if self.complete and self.data_order_file.exists():
            logged = read_mapping(self.data_order_file, ANEW, steps=dict)["steps"]
            if {str(row.step): row.data_hash for row in rows} != logged:
                problem = f"has {len(rows)} rows, not the {len(logged)} that the run logged (data_order.json)"
                raise invalid("records", str(self.metrics_file), problem, "restore it, or delete the run")
        return rows

    def timing(self) -> list[TimingRecord]:
        """The wall-clock rows."""
        return read_timing(self.timing_file)

    def evaluation_folder(self, protocol: str, version: int, checkpoint: str | None = None) -> Path:
        """The folder of one protocol's records of this run; of an earlier checkpoint than the last, a folder deeper."""
        return self.path / "evaluations" / (checkpoint or "") / f"{protocol}@{version}"

    def evaluations(self, checkpoint: str | None = None) -> dict[str, Path]:
        """The folder of every measured protocol by `<protocol>@<version>` (of the last checkpoint, unless another is named)."""
        return chosen(self.path / "evaluations" / (checkpoint or ""), self.suite)

    def measurements(self, checkpoint: str | None = None) -> list[Measurement]:
        """Every measurement of every complete protocol. Raises ValueError for records that are not whole."""
        name, rows = self.name, []
        for _, folder in sorted(self.evaluations(checkpoint).items()):
            check(folder)
            rows += read_measurements(folder / "measurements.jsonl", name)
        return rows

    def evaluated_checkpoints(self) -> list[str]:
        """The checkpoints before the last that were measured."""
        files = self.path.glob("evaluations/[!.]*/*@*/measurements.jsonl")
        return sorted({file.parent.parent.name for file in files})

    def items(self, protocol: str) -> list[Item]:
        """Item scores of one protocol, all versions present."""
        return [row for table in self.item_tables(protocol) for row in table.rows()]

    def item_tables(self, protocol: str) -> list[ItemTable]:
        """The same by columns."""
        folders = [path for name, path in sorted(self.evaluations().items()) if name.rpartition("@")[0] == protocol]
        for folder in folders:
            check(folder)
        return [table for folder in folders for table in read_item_tables(folder, self.name)]


def run_folders(root: Path) -> list[RunFolder]:
    """Every run folder under `root`, by name."""
    if not root.is_dir():
        raise invalid("runs", str(root), "is not a folder", "train something first, or give the folder of runs")
    names = sorted(name for name in os.listdir(root) if not name.startswith("."))  # raises where it may not be read
    return [RunFolder(root / name) for name in names if (root / name / "config.yaml").exists()]


def find_run(text: str, root: Path = Path("runs")) -> RunFolder:
    """The run of a path, or of what begins its name; `latest` is the one that last wrote. A bare name is looked for in `root`.

    Raises ValueError, with the candidates, for one that is not there or not the only one.
    """
    run = find_run_or_none(text, root)
    if run is None:
        home = root if Path(text).parent == Path(".") else Path(text).parent
        near = nearest(Path(text).name, [run.path.name for run in run_folders(home)] if home.is_dir() else [])
        hint = f"{question(near)} Give" if near else "give"
        remedy = f"{hint} a folder that experiments.train wrote (runs/<name>), the beginning of its name, or latest"
        raise invalid("run", text, "is not a run folder", remedy)
    return run


def find_run_or_none(text: str, root: Path = Path("runs")) -> RunFolder | None:
    """As `find_run`, where a text may also name another model: None for a folder of something else, and for no run's name."""
    path = Path(text)
    if (path / "config.yaml").is_file():
        return RunFolder(path)
    home = root if path.parent == Path(".") else path.parent
    every = run_folders(home) if home.is_dir() and not path.is_dir() else []
    if path.name == LATEST and every:
        return max(every, key=_last_written)
    matches = [run for run in every if run.path.name.startswith(path.name)] if path.name else []
    if len(matches) > 1:
        names = ", ".join(run.path.name for run in matches[:SHOWN]) + (", ..." if len(matches) > SHOWN else "")
        raise invalid("run", text, f"begins the names of {len(matches)} runs", f"give more of one: {names}")
    return matches[0] if matches else None


def folder_of(name: str, root: Path) -> RunFolder:
    """The folder of a run's name: the one called so, else a complete run that states it, as a renamed folder does."""
    usual = RunFolder(root / name)
    if usual.path.exists():
        return usual
    stating = [file for file in sorted(root.glob("[!.]*/COMPLETE")) if name.encode() in file.read_bytes()]
    return next((run for run in (RunFolder(file.parent) for file in stating) if run.name == name), usual)


def _last_written(run: RunFolder) -> float:
    """When a run last changed, in seconds: its last row, or its beginning."""
    return max(file.stat().st_mtime for file in (run.config_file, run.metrics_file) if file.exists())
