"""python -m experiments.export run=runs/<run> out=<folder>: a transformers folder with no custom code."""

from dataclasses import dataclass
from pathlib import Path

from ettin_core.data.corpus import Corpus
from ettin_core.evaluation.suite import open_model
from ettin_core.interop.huggingface import export
from experiments.door import entry
from experiments.requests import open_run


@dataclass(frozen=True)
class ExportRequest:
    """conf/export.yaml."""

    run: str
    out: str
    checkpoint: str | None
    overwrite: bool
    corpora_dir: str


@entry("export", ExportRequest)
def main(request: ExportRequest) -> None:
    """Export a run's checkpoint."""
    path = export_run(
        Path(request.run), Path(request.out), Path(request.corpora_dir), request.checkpoint, request.overwrite
    )
    print(f"transformers folder {path}")


def export_run(path: Path, out: Path, corpora: Path, checkpoint: str | None = None, overwrite: bool = False) -> Path:
    """Write the transformers folder of a run's checkpoint (None: the last)."""
    folder, run = open_run(str(path))
    corpus = Corpus(corpora / run.corpus)
    model, name, weights = open_model(run, folder, corpus, checkpoint, "cpu")
    metadata = {"run": run.name, "checkpoint": name, "weights": weights, "objective": run.objective.name}
    return export(model.model, model.view, corpus.tokenizer.folder, out, model.context, metadata, overwrite=overwrite)


if __name__ == "__main__":
    main()
