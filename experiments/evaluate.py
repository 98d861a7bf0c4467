"""python -m experiments.evaluate run=runs/<run> suite=fast: every protocol that applies, each only once."""

import os
from dataclasses import dataclass
from pathlib import Path

import torch
from tqdm import tqdm

from ettin_core.data.corpus import Corpus
from ettin_core.evaluation.protocol import SuiteConfig
from ettin_core.evaluation.suite import applicable, evaluate
from ettin_core.records.schema import Measurement
from experiments.door import entry
from experiments.requests import open_run


@dataclass(frozen=True)
class EvaluateRequest:
    """conf/evaluate.yaml."""

    run: str
    checkpoint: str | None
    suite: SuiteConfig
    device: str
    threads: int
    corpora_dir: str


@entry("evaluate", EvaluateRequest)
def main(request: EvaluateRequest) -> None:
    """Measure a run and print what was found."""
    measurements = evaluate_run(
        Path(request.run), Path(request.corpora_dir), request.suite, request.device, request.threads, request.checkpoint
    )
    print(table(measurements))


def evaluate_run(
    path: Path, corpora: Path, suite: SuiteConfig, device: str, threads: int, checkpoint: str | None = None
) -> list[Measurement]:
    """Measure a run with a bar over protocols."""
    folder, run = open_run(str(path))
    torch.set_num_threads(threads)
    line = int(os.environ.get("ETTIN_BAR_LINE", 0))  # a study gives each worker its own line
    with tqdm(
        total=len(applicable(run.readout[1])), desc=f"evaluate {run.name}", unit="protocol", position=line
    ) as bar:

        def progress(protocol: str) -> None:
            bar.set_postfix_str(protocol)
            bar.update()

        return evaluate(run, folder, Corpus(corpora / run.corpus), suite, checkpoint, device, progress)


def table(measurements: list[Measurement]) -> str:
    """Measurements as aligned text."""
    lines = [f"{'protocol':<34}{'task':<34}{'metric':<24}{'value':>9}{'± se':>9}{'n':>8}{'reference':>11}"]
    for row in measurements:
        value = "—" if row.value is None else f"{row.value:.4f}"
        error = "—" if row.standard_error is None else f"{row.standard_error:.4f}"
        reference = "—" if row.reference is None else f"{row.reference:.4f}"
        name = f"{row.protocol}@{row.version}"
        lines.append(f"{name:<34}{row.task:<34}{row.metric:<24}{value:>9}{error:>9}{row.n:>8}{reference:>11}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
