"""Reading the records of a study from its run folders, with the checks that keep unlike records apart."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis import swept
from analysis.cell_names import cell_labels
from analysis.costs import RULERS, checkpoints, seconds_at, trained_on
from analysis.harness import harness_files, harness_items, harness_measurements
from analysis.items import Items, Key, item_frame, item_frames
from analysis.sources import record_files
from analysis.study_records import ALL, DISTINCT, MEASURE, PAIR, StudyRecords
from ettin_core.foundation.errors import unknown
from ettin_core.foundation.storage import read_mapping
from ettin_core.records.evaluations import COLUMNS
from ettin_core.records.folders import RunFolder, run_folders
from ettin_core.records.schema import CHOICE, Measurement, TrainingRecord
from ettin_core.records.studies import CERTIFICATE, read_study


def load(
    runs: Path,
    study: Path | None = None,
    ruler: str = "tokens",
    records: Path | None = None,
    where: Mapping[str, Any] | None = None,
) -> StudyRecords:
    """Read the runs of a study, or every complete run of the folder; of either only those that have the settings `where`.

    Without a study, runs of one member that differ in more than their seed are the cells of a sweep. `records` is a folder
    with more measurements of these runs, as lm-eval's `--output_path` writes them. `ruler` is the measure of cost on axes.
    Raises ValueError for an unknown ruler, no complete run, two runs that claim one cell, or mixed versions of a protocol.
    """
    if ruler not in RULERS:
        raise unknown("ruler", ruler, "is not a ruler", RULERS)
    plan = read_study(study) if study else {}
    folders = _folders(runs, plan)
    wanted, complete = _chosen(runs, folders, plan, where)
    from_harness = harness_measurements(complete, records)
    if not study:
        plan = swept.plan(complete, bool(from_harness))
    cells = {cell["name"]: cell for cell in plan.get("cells", []) if cell["run"] in wanted}
    analysis = {"kind": PAIR, **(plan.get("analysis") or {})}
    labels = {} if analysis["kind"] == PAIR else cell_labels(cells, analysis.get("block", "seed"))
    summaries = _by_cells(_summaries(complete), cells, labels)
    if not labels:
        _check_one_run_per_cell(summaries)
    measured = [row for folder in complete for row in folder.measurements()] + from_harness
    measurements = _with_run(_frame(Measurement, _reported(measured)), summaries)
    training = _training(complete, summaries)
    trajectory = _trajectory(complete, training, summaries, measurements)
    _check_versions(trajectory)
    return StudyRecords(
        name=plan.get("name", runs.resolve().name),
        runs=summaries,
        measurements=_unique(measurements, ["run", *MEASURE]).assign(scored_as=lambda frame: frame["protocol"]),
        items=Items(_items(complete, sorted(measurements["protocol"].unique())), harness_items(complete, records)),
        training=training,
        certificates=plan["certificates"] if study else _certificates(complete),
        missing=_missing(wanted, folders, bool(study)),
        fingerprint=_fingerprint(complete, study, records),
        trajectory=trajectory,
        claim=plan.get("claim") or "",
        cells=cells,
        labels=labels,
        analysis=analysis,
        ruler=ruler,
        predictions=plan.get("predictions") or {},
        files=record_files(complete, runs, harness_files(complete, records)),
    )


def _chosen(
    runs: Path, folders: dict[str, RunFolder], plan: dict[str, Any], where: Mapping[str, Any] | None
) -> tuple[list[str], list[RunFolder]]:
    """The names of the runs to report and the folders of those that are complete, both only with the settings `where`."""
    listed = [cell["run"] for cell in plan.get("cells", [])]
    wanted = list(dict.fromkeys([*plan.get("runs", folders), *listed]))
    complete = [folders[name] for name in wanted if name in folders and folders[name].complete]
    if not complete:
        raise ValueError(f"runs={str(runs)!r} holds no complete run to report; train and evaluate something first.")
    if not where:
        return wanted, complete
    kept = swept.chosen(complete, where)
    dropped = {folder.name for folder in complete} - {folder.name for folder in kept}
    return [name for name in wanted if name not in dropped], kept


def _folders(runs: Path, plan: dict[str, Any]) -> dict[str, RunFolder]:
    """The run folders by the runs that they hold, which read what the study's own suite measured.

    Raises ValueError for a run that several folders hold, and for the damaged last record of one.
    """
    folders: dict[str, RunFolder] = {}
    for folder in run_folders(runs):
        name = folder.name
        if name in folders and name in plan.get("runs", [name]):
            raise ValueError(f"runs={name!r} is in {folders[name].path} and {folder.path}; move one of them elsewhere.")
        if folder.damage is not None and name in plan.get("runs", [name]):
            raise ValueError(folder.damage)
        folders[name] = replace(folder, suite=plan.get("suite", {}).get(name))
    return folders


def _missing(wanted: list[str], folders: dict[str, RunFolder], listed: bool) -> list[str]:
    """Runs that a study lists and the folder lacks, and protocols of its suite that a run was not measured with."""
    complete = [name for name in wanted if name in folders and folders[name].complete]
    lacking = [
        f"{name}: {protocol}"
        for name in complete
        for protocol in (folders[name].suite or {}).keys() - folders[name].evaluations().keys()
    ]
    unmeasured = [f"{name}: any measurement" for name in complete if not folders[name].evaluations()]
    # A folder of which nothing was evaluated reports its training, and lacks nothing.
    evaluated = listed or len(unmeasured) < len(complete)
    return [name for name in wanted if listed and name not in complete] + sorted(
        lacking or (unmeasured if evaluated else [])
    )


def _reported(records: list[Measurement]) -> list[Measurement]:
    """Without what choices were made on."""
    return [record for record in records if not record.protocol.startswith(CHOICE)]


def _frame(kind: type, records: list[Any]) -> pd.DataFrame:
    return pd.DataFrame([vars(record) for record in records], columns=[field.name for field in fields(kind)])


def _summaries(folders: list[RunFolder]) -> pd.DataFrame:
    frame = pd.DataFrame([{**folder.summary(), "run": folder.name} for folder in folders]).set_index("run")
    # Runs that are older than the readout have the name of their objective, which is one.
    frame["readout"] = frame["readout"].fillna(frame["objective"]) if "readout" in frame else frame["objective"]
    frame["block"] = frame["size"] + " on " + frame["corpus"]
    shapes = [folder.config().get("model") or {} for folder in folders]
    placed = [_placed(folder.summary().get("sessions") or []) for folder in folders]
    frame["device"], frame["cores"] = zip(*placed, strict=True)
    frame["embedding"] = [shape.get("vocab_size", np.nan) * shape.get("hidden_size", np.nan) for shape in shapes]
    return frame


def _placed(sessions: list[str]) -> tuple[str | None, float]:
    """The device of a run's last session and how many cores (or devices) it had; none and not a number where it is not noted."""
    session = json.loads(sessions[-1]) if sessions else {}
    device, placement = session.get("device", {}).get("name"), session.get("placement", {})
    if device is None or "processes" not in placement:
        return device, float("nan")
    return device, float(placement["processes"] * ((placement.get("threads") or 1) if device == "cpu" else 1))


def _by_cells(summaries: pd.DataFrame, cells: dict[str, dict[str, Any]], labels: dict[str, str]) -> pd.DataFrame:
    """The runs with the seed of their cell (a conversion's is its parent's), and its label where cells are compared."""
    frame = summaries.assign(drawn_as=summaries["member"], seed=summaries["seed"].astype(object))
    for name, cell in reversed(cells.items()):  # a run of several cells is called by the first
        if cell["run"] in frame.index:
            frame.loc[cell["run"], "seed"] = cell["axes"].get("seed", frame.loc[cell["run"], "seed"])
            if labels:
                frame.loc[cell["run"], "member"] = labels[name]
    if len(set(labels.values())) <= DISTINCT:  # more curves than this look alike: then by the members' names
        frame["drawn_as"] = frame["member"]
    if labels:
        frame["block"] = ", ".join(sorted(set(frame["block"])))
    return frame


def _check_one_run_per_cell(summaries: pd.DataFrame) -> None:
    for (block, member, seed), group in summaries.groupby(["block", "member", "seed"]):
        if len(group) > 1:
            raise ValueError(
                f"runs={list(group.index)!r} are all {member} with seed {seed} of {block}, and averaging them would hide "
                "their difference; give the study cells, and analysis.kind=sweep, or choose some by where={<key>: <value>}."
            )


def _items(folders: list[RunFolder], protocols: list[str]) -> dict[Key, pd.DataFrame]:
    """The items of every task, and all of a protocol together."""
    items: dict[Key, pd.DataFrame] = {}
    for folder in folders:
        for protocol in protocols:
            tables = folder.item_tables(protocol)
            items |= item_frames(tables)
            if tables:
                items.setdefault((folder.name, protocol, ALL), item_frame(tables, by_task=True))
    return items


def _with_run(frame: pd.DataFrame, summaries: pd.DataFrame) -> pd.DataFrame:
    return frame.drop(columns=["member", "seed", "size"], errors="ignore").join(
        summaries[["member", "seed", "block"]], on="run"
    )


def _training(folders: list[RunFolder], summaries: pd.DataFrame) -> pd.DataFrame:
    frames = [
        _frame(TrainingRecord, folder.training()).assign(
            run=folder.name,
            trained_on=trained_on(folder),
            seconds=lambda rows, folder=folder: seconds_at(folder, rows["step"]),
        )
        for folder in folders
    ]
    frame = _with_run(pd.concat(frames, ignore_index=True), summaries)
    return frame.join(summaries["objective"], on="run")


def _trajectory(
    folders: list[RunFolder], training: pd.DataFrame, summaries: pd.DataFrame, measurements: pd.DataFrame
) -> pd.DataFrame:
    """Every measured checkpoint's measurements, and what the run had cost by each ruler when it was saved."""
    earlier = [
        _with_run(_frame(Measurement, _reported(records)), summaries).assign(**cost)
        for folder in folders
        for cost, records in checkpoints(folder, training[training["run"] == folder.name])
    ]
    last = measurements.join(summaries[list(RULERS)], on="run")
    return pd.concat([last, *earlier], ignore_index=True) if earlier else last


def _check_versions(measurements: pd.DataFrame) -> None:
    """Raises ValueError for versions or settings of one task that differ within a block; blocks are never compared."""
    for (_, protocol, task), group in measurements.groupby(["block", "protocol", "task"]):
        versions: dict[str, list[str]] = {}
        for run, version, origin in zip(group["run"], group["version"], group["provenance"], strict=True):
            task_version = origin.get("task_version")
            name = str(version) if task_version is None else f"{version} (task version {task_version})"
            versions.setdefault(name, []).append(run)
        if len(versions) > 1:
            named = {name: sorted(set(runs)) for name, runs in versions.items()}
            raise ValueError(
                f"task={task!r} of protocol={protocol!r} has versions {', '.join(sorted(versions))} in one comparison, and "
                f"they measure different things ({named}); evaluate all runs with one version and remove the other."
            )
        _check_settings(str(task), str(protocol), group)


def _check_settings(task: str, protocol: str, group: pd.DataFrame) -> None:
    """Raises ValueError, naming what differs, for records of one task that were not measured alike."""
    measured = [(run, _measured_with(origin)) for run, origin in zip(group["run"], group["provenance"], strict=True)]
    for name in sorted({name for _, settings in measured for name in settings}):
        runs: dict[str, set[str]] = {}
        for run, settings in measured:
            runs.setdefault(json.dumps(settings.get(name), sort_keys=True), set()).add(run)
        if len(runs) > 1:
            named = "; ".join(f"{name}={value} of {', '.join(sorted(those))}" for value, those in sorted(runs.items()))
            raise ValueError(
                f"task={task!r} of protocol={protocol!r} was measured with different settings in one comparison ({named}); "
                "measure all runs with the same suite, data and grid."
            )


def _measured_with(provenance: dict[str, Any]) -> dict[str, Any]:
    """How much was measured: the settings but for what belongs to the run."""
    settings = provenance.get("settings", {})
    return {name: value for name, value in settings.items() if name not in ("weights", "readout")}


def _unique(frame: pd.DataFrame, key: list[str]) -> pd.DataFrame:
    twice = frame[frame.duplicated(key, keep=False)]
    if len(twice):
        raise ValueError(
            f"record={dict(twice.iloc[0][key])!r} appears {int((frame[key] == twice.iloc[0][key]).all(axis=1).sum())} times; "
            "delete that evaluation folder and evaluate the run again."
        )
    return frame.reset_index(drop=True)


def _certificates(folders: list[RunFolder]) -> list[dict[str, Any]]:
    files = [folder.certificate_file for folder in folders]
    return [read_mapping(file, **CERTIFICATE) for file in files if file.exists()]


def _fingerprint(folders: list[RunFolder], study: Path | None, records: Path | None = None) -> str:
    digest = hashlib.sha256()
    for folder in folders:
        evaluations = sorted(
            file for name in ("*.jsonl", COLUMNS) for file in folder.path.glob(f"evaluations/[!.]*/**/{name}")
        )
        files = [folder.path / "COMPLETE", folder.config_file, folder.metrics_file, folder.timing_file]
        for file in [*files, folder.certificate_file, *evaluations]:
            if file.exists():
                digest.update(
                    f"{folder.name}/{file.relative_to(folder.path).as_posix()}\0".encode() + file.read_bytes()
                )
    for file in (file for kind in ("measurements", "samples") for file in harness_files(folders, records, kind)):
        digest.update(f"{file.name}\0".encode() + file.read_bytes())
    if study:
        digest.update(study.read_bytes())
    return digest.hexdigest()
