"""python -m experiments.runs: the runs there are, one in full (show=<run>), and the removal of runs and corpora (remove=[...]).

A run is named by its folder, what begins its name, or `latest`, here as wherever a run is asked for.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten
from typing import Any

from ettin_core.foundation.errors import UserError, invalid
from ettin_core.foundation.folders import locked, remove_folder
from ettin_core.foundation.strict_config import differences
from ettin_core.planning.forecast import UNKNOWN
from ettin_core.planning.run_plan import open_run
from ettin_core.records.folders import RunFolder, find_run, run_folders
from ettin_core.requests.compose import composed
from ettin_core.requests.train import TrainRequest
from experiments.cli.entry import entry
from experiments.status import state

ORPHANS = "orphans"
ELSEWHERE = ("corpus", "fingerprint")
WIDTH = 70  # characters of what differs, in the table


@dataclass(frozen=True)
class RunsRequest:
    """conf/runs.yaml."""

    show: str | None
    remove: tuple[str, ...]
    ask: bool
    runs_dir: str
    corpora_dir: str

    def __post_init__(self) -> None:
        if self.show is not None and self.remove:
            raise invalid("show", self.show, "and remove are two things", "give one of them")


@entry("runs", RunsRequest)
def main(request: RunsRequest) -> None:
    """List, show or remove."""
    if request.remove:
        remove(request)
    elif request.show is not None:
        print("\n".join(shown(find_run(request.show, Path(request.runs_dir)))))
    else:
        runs = Path(request.runs_dir)
        print("\n".join([*table(run_folders(runs)), *strays(runs)]))


def table(runs: list[RunFolder]) -> list[str]:
    """A line per run and one for all."""
    rows: list[tuple[str, ...]] = [("run", "state", "tokens", "loss", "disk", "differs from the default in")]
    for run in runs:
        try:
            rows.append(_row(run))
        except UserError as error:  # one damaged folder does not hide the others
            rows.append((run.path.name, _short(f"damaged: {error}"), "-", "-", mebibytes(run.path), ""))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(f"{cell:<{wide}}" for cell, wide in zip(row, widths, strict=True)).rstrip() for row in rows]
    return [*lines, f"{len(runs)} {'run' if len(runs) == 1 else 'runs'}"]


def strays(root: Path) -> list[str]:
    """A line about the folders that hold records or checkpoints of a run but no configuration, if there are any."""
    marks = {
        file.parent for name in ("metrics.jsonl", "checkpoints", "COMPLETE") for file in root.glob(f"[!.]*/{name}")
    }
    names = sorted(folder.name for folder in marks if not (folder / "config.yaml").exists())
    return [f"not listed, because config.yaml is missing: {_short(', '.join(names))}"] if names else []


def _row(run: RunFolder) -> tuple[str, ...]:
    rows = run.training() if run.metrics_file.exists() else []
    tokens = f"{rows[-1].tokens:,}" if rows else "0"
    last = rows[-1].loss if rows else None  # a row whose updates were all left out has none
    loss = "-" if last is None else f"{last:.4f}"
    how = "complete" if run.complete else _short(state(run))
    changes = ", ".join(f"{key}={value}" for key, value in unusual(run).items())
    return run.path.name, how, tokens, loss, mebibytes(run.path), _short(changes)


def _short(text: str) -> str:
    return shorten(text, WIDTH, placeholder=" ...")


def shown(folder: RunFolder) -> list[str]:
    """What the folder of a run records, in short."""
    measured = [row for row in folder.measurements() if row.value is not None and "/" not in row.task]
    return [
        *table([folder])[:2],
        "",
        *(f"{key} = {value}" for key, value in unusual(folder).items()),
        "",
        *(f"{row.protocol}@{row.version}  {row.task}  {row.metric}  {row.value:.4f}  n={row.n}" for row in measured),
    ]


def unusual(folder: RunFolder) -> dict[str, Any]:
    """The values of a run that `train member=... size=...` alone would not give it."""
    run = open_run(str(folder.path))[1]
    names = [f"member={run.member}", f"size={run.size}"]
    try:
        usual = composed("train", TrainRequest, names)
    except UserError:  # a member or size that is not in conf
        usual = composed("train", TrainRequest, [])
    default = usual.parts.planned(usual.member, usual.data.vocab_size, UNKNOWN, UNKNOWN)
    changes = differences(run, default)
    return {key: value for key, (value, _) in changes.items() if key not in ELSEWHERE}


def remove(request: RunsRequest) -> None:
    """Remove runs and corpora, after asking. Raises ValueError for what is not there, or where nobody can be asked."""
    chosen = doomed(request)
    print("\n".join(f"{mebibytes(path):>12}  {path}" for path in chosen) if chosen else "nothing to remove")
    if not chosen or not agreed(request, len(chosen)):
        return
    for path in chosen:
        with locked(path):  # nobody is writing it
            remove_folder(path)
        print(f"removed {path}")


def doomed(request: RunsRequest) -> list[Path]:
    """The folders to remove, each once. Raises ValueError for a corpus or run that another run needs."""
    runs, corpora = Path(request.runs_dir), Path(request.corpora_dir)
    configs = {folder.path: folder.config() for folder in (run_folders(runs) if runs.is_dir() else [])}
    used = {str(config.get("corpus")) for config in configs.values()}
    doomed_paths: dict[Path, None] = {}
    for name in request.remove:
        if name == ORPHANS:
            files = sorted(corpora.glob("[!.]*/manifest.json"))
            doomed_paths |= dict.fromkeys(file.parent for file in files if file.parent.name not in used)
        elif Path(name).name == name and (corpora / name / "manifest.json").is_file():
            doomed_paths[corpora / name] = None
        else:
            doomed_paths[find_run(name, runs).path] = None
    left = {path: config for path, config in configs.items() if path not in doomed_paths}
    for path, config in left.items():
        for gone in doomed_paths:
            if RunFolder(gone).name in _needs(config):
                raise invalid("remove", gone.name, f"is what {path.name} was trained from", "remove that run as well")
    return list(doomed_paths)


def _needs(config: dict[str, Any]) -> set[str]:
    """The corpus and the runs that a run's configuration names."""
    merge = config.get("merge") or {}
    parents = [config.get("parent"), merge.get("base"), *merge.get("parents", ())]
    return {str(config.get("corpus")), *(str(parent["run"]) for parent in parents if parent)}


def agreed(request: RunsRequest, count: int) -> bool:
    """Whether the user wants it. Raises ValueError where there is nobody to ask."""
    if not request.ask:
        return True
    if not sys.stdin.isatty():
        raise invalid("remove", count, "folders would be removed permanently and nobody can be asked", "add ask=false")
    return input(f"remove these {count}? [y/N] ").strip().lower() in ("y", "yes")


def mebibytes(folder: Path) -> str:
    """The size of a folder's files."""
    return f"{sum(file.stat().st_size for file in folder.rglob('*') if file.is_file()) / 2**20:,.1f} MiB"


if __name__ == "__main__":
    main()
