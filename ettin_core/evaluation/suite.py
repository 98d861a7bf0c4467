"""The registry of protocols, and measuring a run with all that apply. Each protocol is its own atomic, resumable job."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ettin_core.data.corpus import Corpus
from ettin_core.evaluation import choices, heldout, pronouns
from ettin_core.evaluation.model import EvaluatedModel, load_weights
from ettin_core.evaluation.protocol import Protocol, SuiteConfig
from ettin_core.evaluation.sets import set_hashes
from ettin_core.foundation.errors import invalid
from ettin_core.foundation.provenance import library_versions
from ettin_core.foundation.storage import folder_under_construction, locked, read_json, write_json
from ettin_core.foundation.structures import plain
from ettin_core.model.transformer import Transformer
from ettin_core.records.folders import RunFolder, append
from ettin_core.records.schema import Item, Measurement
from ettin_core.training.run import RunConfig

PROTOCOLS = (
    Protocol("heldout_clm", 1, ("causal",), heldout.measure_clm),
    Protocol("heldout_mlm", 1, ("masked",), heldout.measure_mlm),
    Protocol("minimal_pairs.left_to_right", 1, ("causal", "masked"), choices.minimal_pairs("left_to_right")),
    Protocol("minimal_pairs.pseudo_likelihood", 1, ("masked",), choices.minimal_pairs("pseudo_likelihood")),
    Protocol("facts.left_to_right", 1, ("causal", "masked"), choices.facts("left_to_right")),
    Protocol("facts.pseudo_likelihood", 1, ("masked",), choices.facts("pseudo_likelihood")),
    Protocol("pronouns", 1, ("causal", "masked"), pronouns.measure),
)


def applicable(objective: str) -> list[Protocol]:
    """The protocols that are defined for a model of the objective."""
    kind = "causal" if objective == "clm" else "masked"
    return [protocol for protocol in PROTOCOLS if kind in protocol.kinds]


def open_model(
    run: RunConfig, folder: RunFolder, corpus: Corpus, checkpoint: str | None, device: str, batch_tokens: int = 8192
) -> tuple[EvaluatedModel, str, str]:
    """A run's checkpoint (None: the last) ready to be measured, with its name and the hash of its weights.

    Raises ValueError for an unknown or damaged checkpoint, or a corpus other than the run's.
    """
    if corpus.fingerprint != run.fingerprint:
        raise invalid("corpus", corpus.name, "is not the one the run was trained on", f"use {run.corpus}")
    name = checkpoint or folder.summary()["final_checkpoint"]
    path = folder.checkpoints / name
    if not path.is_dir():
        known = ", ".join(sorted(item.name for item in folder.checkpoints.glob("[!.]*")))
        raise invalid("checkpoint", name, f"is not a checkpoint of {folder.name}", f"it has {known}")
    model = Transformer(run.model, attention="sdpa")  # rows of many widths: flex would be compiled for each
    weights = load_weights(model, path, run.name)
    own = [number for number, phase in enumerate(run.phases) if name.removeprefix(phase.prefix).isdigit()]
    trained = run.phases[: own[0] + 1] if own else run.phases  # the phases behind this checkpoint
    view = trained[-1].view(run.readout[0])
    context = max(phase.context for phase in trained)
    evaluated = EvaluatedModel(model, view, run.readout[1], corpus.tokenizer, context, device, batch_tokens)
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
) -> list[Measurement]:
    """Measure a run with every protocol that applies (or with `protocols`); those already measured with the same settings
    are left alone.
    """
    model, name, weights = open_model(run, folder, corpus, checkpoint, device, suite.batch_tokens)
    if folder.complete and name == folder.summary()["final_checkpoint"]:
        checkpoint = None  # the last one by its name is the last one
    settings = plain(suite) | {"weights": weights, "eval_data": set_hashes(suite.eval_data), "batch_tokens": None}
    with locked(folder.path / "evaluations"):
        for protocol in applicable(run.readout[1]) if protocols is None else protocols:
            target = folder.evaluation_folder(protocol.name, protocol.version, checkpoint)
            if not _measured(target, settings):
                _measure(run, protocol, model, corpus, suite, target, settings, name)
            progress(protocol.name)
    return folder.measurements(checkpoint)


def _measured(target: Path, settings: dict[str, Any]) -> bool:
    file = target / "settings.json"
    return file.exists() and read_json(file) == settings


def _measure(
    run: RunConfig,
    protocol: Protocol,
    model: EvaluatedModel,
    corpus: Corpus,
    suite: SuiteConfig,
    target: Path,
    settings: dict[str, Any],
    checkpoint: str,
) -> None:
    results, items = protocol.measure(model, corpus, suite)
    origin = {
        "weights": settings["weights"],
        "fingerprint": corpus.fingerprint,
        "libraries": library_versions(),
        "settings": settings,
    }
    measurements = [
        Measurement(
            run=run.name,
            member=run.member,
            size=run.size,
            seed=run.seeds.initialisation,
            protocol=protocol.name,
            version=protocol.version,
            task=result.task,
            metric=result.metric,
            value=None if result.value is None else float(result.value),
            n=result.n,
            standard_error=result.standard_error,
            checkpoint=checkpoint,
            higher_is_better=result.higher_is_better,
            reference=result.reference,
            provenance=origin,
        )
        for result in results
    ]
    rows = [Item(run.name, protocol.name, item.task, item.item, item.value, item.details) for item in items]
    with folder_under_construction(target) as building:
        append(building / "measurements.jsonl", measurements)
        append(building / "items.jsonl", rows)
        write_json(building / "settings.json", settings)
