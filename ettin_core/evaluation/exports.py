"""A run's own exports, and what an exported checkpoint says of itself: ettin.json, from the run's records.

It names no path, host or user.
"""

import re
from pathlib import Path
from typing import Any

from ettin_core.data.corpus import Corpus
from ettin_core.evaluation.suite import open_model
from ettin_core.foundation.folders import locked
from ettin_core.foundation.storage import canonical_json, hash_text, read_mapping
from ettin_core.foundation.strict_config import plain
from ettin_core.interop.huggingface import METADATA_FILE, export
from ettin_core.records.folders import RunFolder
from ettin_core.records.readout import name_of
from ettin_core.training.config import RunConfig

LICENCE_OF_WORLD = "MIT"  # its text is written by this package
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def own_export(run: RunConfig, folder: RunFolder, corpus: Corpus, checkpoint: str | None = None) -> Path:
    """The transformers folder in a run's folder of a checkpoint (None: the last), written unless it holds it already.

    Raises ValueError for an unknown or damaged checkpoint, or a run that no class of transformers holds.
    """
    name: str = folder.summary()["final_checkpoint"] if checkpoint is None else checkpoint
    is_last = folder.complete and name == folder.summary()["final_checkpoint"]
    out = folder.export_folder(None if is_last else name)
    if _holds(out, folder, name):
        return out
    with locked(out.parent / ".locks" / out.name, wait=True):  # several stages of a study may follow one run
        if not _holds(out, folder, name):
            # They may have been exported into this folder, when each of them was the last.
            earlier = tuple(path.name for path in folder.checkpoints.glob("[!.]*"))
            export_checkpoint(run, folder, corpus, name, out, overwrite=True, alongside=earlier)
    return out


def has_own_export(folder: RunFolder) -> bool:
    """Whether a complete run's folder holds the transformers folder of its last checkpoint."""
    return _holds(folder.export_folder(None), folder, folder.summary()["final_checkpoint"])


def export_checkpoint(
    run: RunConfig,
    folder: RunFolder,
    corpus: Corpus,
    checkpoint: str | None,
    out: Path,
    overwrite: bool = False,
    pooling: str = "mean",
    alongside: tuple[str, ...] = (),
) -> Path:
    """Write the transformers folder of a checkpoint (None: the last), with its origin in ettin.json, to `out`.

    `overwrite`, `pooling` and `alongside` are those of `interop.huggingface.export`. Raises ValueError for an unknown or
    damaged checkpoint.
    """
    evaluated, name, weights = open_model(run, folder, corpus, checkpoint, "cpu")
    model, attention = evaluated.transformer
    facts, tokenizer = facts_of(run, folder, corpus, name, weights), corpus.tokenizer.folder
    return export(model, attention, tokenizer, out, evaluated.context, facts, overwrite, pooling, alongside)


def _holds(out: Path, folder: RunFolder, checkpoint: str) -> bool:
    """Whether a folder is the export of a checkpoint as it is now."""
    present = (out / METADATA_FILE).is_file() and (folder.checkpoints / checkpoint / "index.json").is_file()
    return present and read_mapping(out / METADATA_FILE).get("tensors") == tensors_of(folder, checkpoint)


def tensors_of(folder: RunFolder, checkpoint: str) -> str:
    """A hash of a checkpoint's files, without reading them; its state is left out, which counts seconds."""
    files = read_mapping(folder.checkpoints / checkpoint / "index.json")["files"]
    return hash_text(canonical_json({name: value for name, value in files.items() if name != "state.json"}))


def facts_of(run: RunConfig, folder: RunFolder, corpus: Corpus, checkpoint: str, weights: str) -> dict[str, Any]:
    """The facts of a run's checkpoint, whose weights hash to `weights`."""
    state = read_mapping(folder.checkpoints / checkpoint / "state.json")
    file = folder.path / "provenance.json"
    origin = read_mapping(file) if file.is_file() else {}
    parent = run.parent
    last = folder.summary()["final_checkpoint"] if folder.complete else None
    return {
        "run": folder.name,
        "member": run.member,
        "size": run.size,
        "seed": run.seeds.initialisation,
        "checkpoint": checkpoint,
        "phase": _phase(run, checkpoint),
        "weights": weights,
        "tensors": tensors_of(folder, checkpoint),
        "objective": run.readout[1],
        "readout": name_of(run.read_as),
        "corpus": corpus.name,
        "fingerprint": run.fingerprint,
        "parent": None if parent is None else {"run": _name(parent.run), "checkpoint": parent.checkpoint},
        "merge": plain(run.merge),
        "code": origin.get("code"),
        "commit": origin.get("commit"),
        "libraries": origin.get("libraries"),
        "data": data_of(corpus),
        "datasets": _hub_ids(corpus),
        "measured": _measured(folder, None if checkpoint == last else checkpoint),
        **{count: state[count] for count in ("global_step", "tokens", "loss_tokens")},
    }


def data_of(corpus: Corpus) -> list[dict[str, Any]]:
    """The sources of a corpus with their training tokens and the licence that the manifest states (None: none)."""
    reading = corpus.manifest.get("reading", {})
    entries = []
    for source in corpus.sources:
        settings = reading.get(source, {})
        licence = settings.get("licence") or (LICENCE_OF_WORLD if settings.get("kind") == "world" else None)
        entries.append({"source": source, "tokens": corpus.tokens(source, "train"), "licence": licence})
    return entries


def _name(run: str) -> str:
    """A run's name, also of its folder."""
    return Path(run).name if Path(run).is_absolute() else run


def _phase(run: RunConfig, checkpoint: str) -> str | None:
    """The phase that a checkpoint ends or is within; a step before the first is in the first."""
    return next((phase.name for phase in run.phases if checkpoint.removeprefix(phase.prefix).isdigit()), None)


def _hub_ids(corpus: Corpus) -> list[str]:
    """Data sets of the hub that a corpus was made of: ids alone, since a path may be private."""
    config = corpus.manifest.get("config", {})
    sources = [config, *(config.get("sources") or {}).values()]
    paths = {item.get("path") for item in sources if item.get("kind", config.get("kind")) == "huggingface"}
    return sorted(path for path in paths if path and HUB_ID.fullmatch(path))


def _measured(folder: RunFolder, checkpoint: str | None) -> list[dict[str, Any]]:
    """What the run's records hold of the checkpoint: whole tasks, not their parts."""
    rows = [row for row in folder.measurements(checkpoint) if row.value is not None and "/" not in row.task]
    return [
        {"protocol": f"{row.protocol}@{row.version}", "task": row.task, "metric": row.metric, "value": row.value}
        for row in rows
    ]
