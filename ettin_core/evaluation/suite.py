"""Measuring a model with every protocol that applies. Each protocol is its own atomic, resumable job."""

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from ettin_core.data.corpus import Corpus
from ettin_core.evaluation import user_tasks
from ettin_core.evaluation.datasets import EvaluationSet, check_rows, set_hashes
from ettin_core.evaluation.made_with import FILE, changes, made_with
from ettin_core.evaluation.protocol import ItemResult, MeasuredModel, Protocol
from ettin_core.evaluation.registry import PROTOCOLS
from ettin_core.evaluation.suite_config import SuiteConfig
from ettin_core.foundation.errors import UserError, invalid, unknown
from ettin_core.foundation.folders import folder_under_construction, locked
from ettin_core.foundation.progress_bars import may_draw_below
from ettin_core.foundation.provenance import library_versions
from ettin_core.foundation.storage import write_json
from ettin_core.foundation.strict_config import plain
from ettin_core.records.evaluations import SETTINGS, holds, measured, place_of, seal, settings_hash
from ettin_core.records.folders import RunFolder, append
from ettin_core.records.readout import Readout
from ettin_core.records.schema import Item, Measurement, is_finite
from ettin_core.training.config import RunConfig

if TYPE_CHECKING:
    from ettin_core.evaluation.evaluated_model import EvaluatedModel


def applicable(readout: Readout | None, suite: SuiteConfig | None = None, corpus: bool = True) -> list[Protocol]:
    """The protocols that are defined for a model that is read so (None: none), and of those the suite's.

    Left out is what reads only evaluation sets where the suite has none, and what needs a corpus where there is none.
    """
    if readout is None:
        return []
    protocols = PROTOCOLS
    if suite is not None:
        sets = suite.eval_data is not None
        asked = [item for item in PROTOCOLS if item.name in suite.asked]
        answerable = [item for item in asked if item.has_items(sets, corpus)]
        protocols = (*answerable, *(user_tasks.protocols_of(suite.tasks, suite.folder) if suite.tasks else ()))
    return [item for item in protocols if readout.kind in item.kinds]


def open_model(
    run: RunConfig,
    folder: RunFolder,
    corpus: Corpus,
    checkpoint: str | None,
    device: str,
    batch_tokens: int | None = None,
) -> tuple["EvaluatedModel", str, str]:
    """A run's checkpoint (None: the last) ready to be measured, with its name and the hash of its weights.

    Raises ValueError for an unknown or damaged checkpoint, or a corpus other than the run's.
    """
    from ettin_core.evaluation.evaluated_model import (  # with torch, which settings do without
        EvaluatedModel,
        load_weights,
    )
    from ettin_core.model.transformer import Transformer

    if corpus.fingerprint != run.fingerprint:
        raise invalid("corpus", corpus.name, "is not the one the run was trained on", f"use {run.corpus}")
    name = checkpoint or folder.summary()["final_checkpoint"]
    path = folder.checkpoints / name
    if not path.is_dir():
        known = sorted(item.name for item in folder.checkpoints.glob("[!.]*"))
        raise unknown("checkpoint", name, f"is not a checkpoint of {folder.name}", known)
    model = Transformer(run.model)
    weights = load_weights(model, path, folder.name)  # the name it was trained under: fields that came later change it
    numbers = [number for number, phase in enumerate(run.phases) if name.removeprefix(phase.prefix).isdigit()]
    trained = run.phases[: numbers[0] + 1] if numbers else run.phases  # the phases behind this checkpoint
    view = trained[-1].attention(run.readout[0])
    context = max(phase.context for phase in trained)
    evaluated = EvaluatedModel(
        model, view, run.read_as, corpus.tokenizer, context, device, batch_tokens, name=folder.name
    )
    return evaluated, name, weights


def evaluate(
    run: RunConfig,
    folder: RunFolder,
    corpus: Corpus,
    suite: SuiteConfig,
    checkpoint: str | None = None,
    device: str = "auto",
    progress: Callable[[str], None] = lambda protocol: None,
    protocols: Sequence[Protocol] | None = None,
    remeasure: bool = False,
) -> list[Measurement]:
    """Measure a run with every protocol of the suite that applies, or with `protocols`. Returns the suite's measurements.

    Those already measured with the same settings are left alone. With `remeasure` that holds only for those of today's code
    and libraries.
    """
    chosen = applicable(run.read_as, suite) if protocols is None else protocols
    check_items(chosen, suite)
    model, name, weights = open_model(run, folder, corpus, checkpoint, device, suite.batch_tokens)
    if folder.complete and name == folder.summary()["final_checkpoint"]:
        checkpoint = None  # the last one by its name is the last one
    subject = MeasuredModel(folder.name, run.member, run.size, run.seeds.initialisation, name, weights)
    measure_all(model, subject, folder, checkpoint, corpus, suite, chosen, progress, remeasure)
    return replace(folder, suite=settings_of(suite, run.read_as)).measurements(checkpoint)


def all_measured(run: RunConfig, folder: RunFolder, suite: SuiteConfig, remeasure: bool = False) -> bool:
    """Whether `evaluate` would leave all records of a complete run's last checkpoint alone; no model is opened."""
    weights = folder.summary()["final_weights"]
    try:
        for protocol in applicable(readout := run.read_as, suite):
            assert readout is not None, "nothing is applicable then"
            settings = _settings(protocol, weights, suite, readout)
            place = place_of(folder.evaluation_folder(protocol.name, protocol.version), settings)
            if not holds(place, settings) or (remeasure and changes(place, protocol) != []):
                return False
    except UserError:  # `evaluate` says which records or sets are damaged
        return False
    return True


def check_items(protocols: Sequence[Protocol], suite: SuiteConfig) -> None:
    """Raises ValueError for evaluation sets with rows that could not be measured, before anything is."""
    if suite.eval_data is not None:
        check_rows(suite.folder, list(dict.fromkeys(item for protocol in protocols for item in protocol.datasets)))


def measure_all(
    model: "EvaluatedModel",
    subject: MeasuredModel,
    folder: RunFolder,
    checkpoint: str | None,
    corpus: Corpus | None,
    suite: SuiteConfig,
    protocols: Sequence[Protocol],
    progress: Callable[[str], None],
    remeasure: bool = False,
) -> None:
    """Write the records of each protocol into the folder's evaluations (of the last checkpoint: None)."""
    model.shows_rows = may_draw_below()
    with locked(folder.path / "evaluations"):
        for protocol in protocols:
            settings = _settings(protocol, subject.weights, suite, model.reading)
            target = place_of(folder.evaluation_folder(protocol.name, protocol.version, checkpoint), settings)
            if not measured(target, settings) or (remeasure and changes(target, protocol) != []):
                _measure(subject, protocol, model, corpus, suite, target, settings)
            progress(protocol.name)


def stale(folder: RunFolder, checkpoint: str | None, protocols: Sequence[Protocol]) -> dict[str, list[str] | None]:
    """Of the records that there are of a checkpoint (None: the last) those of other code or libraries, and which changed.

    It is None for records that do not state what they were made with.
    """
    held = folder.evaluations(checkpoint)
    places = {item: held[key] for item in protocols if (key := f"{item.name}@{item.version}") in held}
    differences = {item.name: changes(place, item) for item, place in places.items() if (place / SETTINGS).exists()}
    return {name: names for name, names in differences.items() if names != []}


def _settings(protocol: Protocol, weights: str, suite: SuiteConfig, readout: Readout) -> dict[str, Any]:
    """What decides a protocol's numbers: the weights, how much is asked, and the content of the sets it reads.

    And how an unusual model is read, so that what was measured under a guess is measured again.
    """
    sets = _sets(protocol, suite)
    hashes = set_hashes(suite.folder, sets) if sets else None
    settings = plain(suite) | {"weights": weights, "eval_data": hashes, "batch_tokens": None}
    del settings["protocols"], settings["tasks"]
    return settings | ({"readout": readout.name} if readout.kind == "ahead" else {})


def _unequal_lengths(items: Sequence[ItemResult]) -> dict[str, int]:
    """Of the items whose versions are compared by their words, how many have versions of different numbers of tokens."""
    lengths = [item.details["tokens"] for item in items if isinstance(item.details.get("tokens"), list)]
    return {"items": sum(len(set(counts)) > 1 for counts in lengths), "of": len(lengths)}


def settings_of(suite: SuiteConfig, readout: Readout | None) -> dict[str, str]:
    """How a suite measures a model that is read so: the hash of the settings by <protocol>@<version>."""
    return {
        f"{protocol.name}@{protocol.version}": settings_hash(_settings(protocol, "", suite, readout))
        for protocol in applicable(readout, suite)
        if readout is not None
    }


def _sets(protocol: Protocol, suite: SuiteConfig) -> tuple[EvaluationSet, ...]:
    return protocol.datasets if suite.eval_data is not None else ()


def _measure(
    subject: MeasuredModel,
    protocol: Protocol,
    model: "EvaluatedModel",
    corpus: Corpus | None,
    suite: SuiteConfig,
    target: Path,
    settings: dict[str, Any],
) -> None:
    results, items = protocol.measure(model, corpus, suite)
    unequal = _unequal_lengths(items)
    if unequal["items"]:
        tqdm.write(
            f"{subject.run}, {protocol.name}: the versions of {unequal['items']:,} of {unequal['of']:,} items differ in number "
            "of tokens, and sums of log-probabilities favour the fewer; the metrics *_per_token do not know the length.",
            file=sys.stderr,
        )
    origin: dict[str, Any] = {
        "weights": subject.weights,
        "fingerprint": corpus.fingerprint if corpus is not None else None,
        "libraries": library_versions(),
        "settings": settings,
        "readout": model.reading.name,
        "unequal_lengths": unequal,
        "uneven_rows": {item.file: item.uneven_rows(suite.folder) for item in _sets(protocol, suite)},
    }
    whole = [item for item in items if math.isfinite(item.value)]
    if len(whole) < len(items):
        origin["items_not_finite"] = len(items) - len(whole)
    measurements = [subject.measurement(protocol.name, protocol.version, result, origin) for result in results]
    rows = [Item(subject.run, protocol.name, item.task, item.item, item.value, _finite(item.details)) for item in whole]
    with folder_under_construction(target) as building:
        append(building / "measurements.jsonl", measurements)
        append(building / "items.jsonl", rows)
        write_json(building / SETTINGS, settings)
        seal(building)
        write_json(building / FILE, made_with(protocol))


def _finite(details: dict[str, Any]) -> dict[str, Any]:
    """An item's details, with holes for what is not a finite number."""
    return {name: value if is_finite(value) else None for name, value in details.items()}
