"""python -m experiments.evaluate run=runs/<run> suite=fast: every protocol that applies, each only once.

checkpoint=all measures every kept checkpoint of a run. model=<transformers folder or hub id> measures any model; its records
go to <out>/<name>-<hash of its weights>/, with the layout of a run's evaluations.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch

from ettin_core.evaluation.protocol import Protocol
from ettin_core.evaluation.registry import PROTOCOLS
from ettin_core.evaluation.suite import applicable, settings_of, stale
from ettin_core.planning.run_plan import open_run
from ettin_core.records.folders import RunFolder
from ettin_core.records.schema import Measurement
from ettin_core.requests.evaluate import EvaluateRequest, measured
from ettin_core.studies.evaluate_run import checkpoints_named
from ettin_core.studies.stale import record_lines
from experiments.cli.entry import entry


@entry("evaluate", EvaluateRequest)
def main(request: EvaluateRequest) -> None:
    """Measure a run or a model and print what was found."""
    torch.set_num_threads(request.threads)
    folder, rows = measured(request)
    print(table(rows))
    if request.run is None:
        print_stale(folder, None, PROTOCOLS)
        print(f"records  {folder.path / 'evaluations'}")
        return
    _, run = open_run(request.run)
    chosen = applicable(run.read_as, request.suite)
    for checkpoint in checkpoints_named(folder, request.checkpoint):
        last = folder.complete and checkpoint == folder.summary()["final_checkpoint"]
        of_suite = replace(folder, suite=settings_of(request.suite, run.read_as))
        print_stale(of_suite, None if last else checkpoint, chosen)


def print_stale(folder: RunFolder, checkpoint: str | None, protocols: Sequence[Protocol]) -> None:
    """Say which records were made by other code than today's."""
    for line in record_lines(stale(folder, checkpoint, protocols)):
        print(f"stale    {'' if checkpoint is None else f'checkpoint {checkpoint}: '}{line}")


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
