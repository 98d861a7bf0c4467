"""A measurement as it is asked for: of a run, or of a model that was not trained here."""

from dataclasses import dataclass, replace
from pathlib import Path

from ettin_core.data.corpus import Corpus
from ettin_core.evaluation.pretrained import open_pretrained
from ettin_core.evaluation.protocol import MeasuredModel, Protocol
from ettin_core.evaluation.suite import applicable, check_items, measure_all, settings_of
from ettin_core.evaluation.suite_config import SuiteConfig
from ettin_core.foundation.errors import invalid
from ettin_core.foundation.fields import check_threads
from ettin_core.foundation.storage import NAME_HASH_LENGTH
from ettin_core.planning.run_plan import open_run, prepared_corpus
from ettin_core.records.folders import RunFolder
from ettin_core.records.readout import Readout
from ettin_core.records.schema import Measurement
from ettin_core.studies.evaluate_run import evaluate_run, protocol_bar
from ettin_core.studies.stale import KEEP, REMEASURE, check_choice


@dataclass(frozen=True)
class EvaluateRequest:
    """conf/evaluate.yaml."""

    run: str | None
    checkpoint: str | None
    model: str | None
    revision: str | None
    readout: str | None
    corpus: str | None
    out: str
    suite: SuiteConfig
    device: str
    threads: int
    corpora_dir: str
    stale: str = KEEP

    def __post_init__(self) -> None:
        check_threads("threads", self.threads)
        check_choice(self.stale, REMEASURE)
        if (self.run is None) == (self.model is None):
            remedy = "give run=runs/<run>, or model=<transformers folder or hub id>"
            raise invalid("run", self.run, "and model are both given or both missing", remedy)
        foreign = ("revision", "readout", "corpus")
        for name in foreign if self.model is None else ("checkpoint",):
            if getattr(self, name) is not None:
                source = "model" if name in foreign else "run"
                raise invalid(name, getattr(self, name), f"belongs to {source}=...", f"leave it null, or give {source}")


def measured(request: EvaluateRequest) -> tuple[RunFolder, list[Measurement]]:
    """Measure what is asked for; returns the folder of the records, and the measurements of the suite's protocols."""
    corpora = Path(request.corpora_dir)
    if request.run is None:
        folder = evaluate_pretrained(request, corpora)
        return folder, folder.measurements()
    folder, run = open_run(request.run)
    run.check_readable()
    how = (request.device, request.threads, request.checkpoint, request.stale == REMEASURE)
    return folder, evaluate_run(folder.path, corpora, request.suite, *how)


def evaluate_pretrained(request: EvaluateRequest, corpora: Path) -> RunFolder:
    """Measure a transformers folder or hub model; returns the folder of its records.

    Raises ValueError for a model that cannot be read, or a suite of which nothing applies to it.
    """
    assert request.model is not None
    suite = request.suite
    corpus = None if request.corpus is None else prepared_corpus(corpora / request.corpus)
    model = open_pretrained(request.model, request.readout, request.revision, request.device, suite.batch_tokens)
    chosen = _chosen(model.reading, suite, corpus)
    check_items(chosen, suite)
    path = Path(request.model)
    name = path.resolve().name if path.exists() else request.model.replace("/", "--")
    folder = RunFolder(Path(request.out) / f"{name}-{model.weights[:NAME_HASH_LENGTH]}")
    size = f"{sum(parameter.numel() for parameter in model.model.parameters()):,} parameters"
    subject = MeasuredModel(folder.name, model.reading.name, size, 0, request.revision or "main", model.weights)
    with protocol_bar(folder.name, len(chosen)) as bar:
        remeasure = request.stale == REMEASURE

        def progress(protocol: str) -> None:
            bar.step(protocol, None)

        measure_all(model, subject, folder, None, corpus, suite, chosen, progress, remeasure)
    return replace(folder, suite=settings_of(suite, model.reading))


def _chosen(readout: Readout, suite: SuiteConfig, corpus: Corpus | None) -> list[Protocol]:
    chosen = applicable(readout, suite, corpus is not None)
    if not chosen:
        remedy = "give suite.eval_data=<folder of evaluation sets> or corpus=<name of a prepared corpus>"
        raise invalid("suite.protocols", suite.protocols, f"has nothing to ask a model of {readout.name}", remedy)
    return chosen
