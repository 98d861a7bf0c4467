"""python -m experiments.evaluate run=runs/<run> suite=fast: every protocol that applies, each only once.

checkpoint=all measures every kept checkpoint of a run. model=<transformers folder or hub id> measures any model; its records
go to <out>/<name>-<hash of its weights>/, with the layout of a run's evaluations.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from ettin_core.data.corpus import Corpus
from ettin_core.evaluation.pretrained import open_pretrained
from ettin_core.evaluation.protocol import Protocol, SuiteConfig
from ettin_core.evaluation.suite import (
    PROTOCOLS,
    MeasuredModel,
    applicable,
    check_items,
    measure_all,
    settings_of,
    stale,
)
from ettin_core.foundation.errors import invalid
from ettin_core.foundation.fields import check_threads
from ettin_core.foundation.storage import NAME_HASH_LENGTH
from ettin_core.planning.run_plan import open_run, prepared_corpus
from ettin_core.records.folders import RunFolder
from ettin_core.records.readout import Readout
from ettin_core.records.schema import Measurement
from ettin_core.studies.evaluate_run import checkpoints_named, evaluate_run, protocol_bar
from ettin_core.studies.stale import KEEP, REMEASURE, check_choice, record_lines
from experiments.cli.entry import entry


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
                own = "model" if name in foreign else "run"
                raise invalid(name, getattr(self, name), f"belongs to {own}=...", f"leave it null, or give {own}")


@entry("evaluate", EvaluateRequest)
def main(request: EvaluateRequest) -> None:
    """Measure a run or a model and print what was found."""
    torch.set_num_threads(request.threads)
    corpora = Path(request.corpora_dir)
    if request.run is not None:
        folder, run = open_run(request.run)
        run.check_readable()
        places = (request.device, request.threads, request.checkpoint, request.stale == REMEASURE)
        print(table(evaluate_run(folder.path, corpora, request.suite, *places)))
        chosen = applicable(run.read_as, request.suite)
        for checkpoint in checkpoints_named(folder, request.checkpoint):
            last = folder.complete and checkpoint == folder.summary()["final_checkpoint"]
            own = replace(folder, suite=settings_of(request.suite, run.read_as))
            print_stale(own, None if last else checkpoint, chosen)
    else:
        folder = evaluate_pretrained(request, corpora)
        print(table(folder.measurements()))
        print_stale(folder, None, PROTOCOLS)
        print(f"records  {folder.path / 'evaluations'}")


def print_stale(folder: RunFolder, checkpoint: str | None, protocols: Sequence[Protocol]) -> None:
    """Say which records were made by other code than today's."""
    for line in record_lines(stale(folder, checkpoint, protocols)):
        print(f"stale    {'' if checkpoint is None else f'checkpoint {checkpoint}: '}{line}")


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


def table(measurements: list[Measurement]) -> str:
    """Measurements as aligned text; of several checkpoints, one after the other."""
    wide = max([34, *(len(f"{row.protocol}@{row.version}") + 2 for row in measurements)])
    tasks = max([34, *(len(row.task) + 2 for row in measurements)])
    lines = []
    last = None
    several = len({row.checkpoint for row in measurements}) > 1
    head = f"{'protocol':<{wide}}{'task':<{tasks}}{'metric':<26}{'value':>9}{'± se':>9}{'n':>8}{'reference':>11}"
    for row in measurements:
        if row.checkpoint != last and several:
            lines.append(f"checkpoint {row.checkpoint}")
        last = row.checkpoint
        value = "—" if row.value is None else f"{row.value:.4f}"
        error = "—" if row.standard_error is None else f"{row.standard_error:.4f}"
        reference = "—" if row.reference is None else f"{row.reference:.4f}"
        name = f"{row.protocol}@{row.version}"
        lines.append(f"{name:<{wide}}{row.task:<{tasks}}{row.metric:<26}{value:>9}{error:>9}{row.n:>8}{reference:>11}")
    return "\n".join([head, *lines])


if __name__ == "__main__":
    main()
