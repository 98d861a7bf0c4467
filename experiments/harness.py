"""python -m experiments.harness run --model ettin ...: lm-evaluation-harness's own command line, with our model and tasks.

Every option is lm-eval's (`--help`). Left out, `--model` is ettin, `--batch_size` 64 and `--include_path` our offline tasks,
which read the folder given by `--metadata eval_data=<folder>`, and that folder's own tasks (docs/tasks.md). With
`--output_path`, our measurements are written beside its results.

    python -m experiments.harness run --model_args pretrained=my_encoder --tasks offline_piqa,offline_blimp \\
        --metadata eval_data=my_sets --output_path my_results
"""

import argparse
import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from ettin_core.evaluation import harness
from ettin_core.foundation.exits import ending_in_one_line


def main() -> None:
    """Register, hand over, record. A user's mistake is one line on stderr and exit status 2."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    with ending_in_one_line(), _explained():
        harness.register()
        from lm_eval._cli.harness import HarnessCLI

        command = HarnessCLI()
        arguments = command.parse_args()
        if arguments.command == "run":
            _fill_in(arguments)
        before = _results(arguments)
        command.execute(arguments)
        if new := sorted(_results(arguments) - before):
            from ettin_core.evaluation.harness.records import record

            print("\n".join(f"measurements {record(file)}" for file in new))


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    """Raise a mistake of the user's as such, where the harness raises it as something else."""
    try:
        yield
    except Exception as error:
        message = harness.explained(error)
        if message is error:
            raise
        raise message from error


def _fill_in(arguments: argparse.Namespace) -> None:
    """Our defaults, where neither the command line nor a --config says otherwise."""
    if getattr(arguments, "config", None) is not None:
        return
    metadata = getattr(arguments, "metadata", None)
    sets = metadata.get("eval_data") if isinstance(metadata, dict) else None
    paths = harness.include_paths(None if sets is None else str(sets))
    for name, value in {"model": harness.NAME, "batch_size": 64, "include_path": paths}.items():
        if getattr(arguments, name, None) is None:
            setattr(arguments, name, value)


def _results(arguments: argparse.Namespace) -> set[Path]:
    folder = getattr(arguments, "output_path", None)
    return set(Path(folder).rglob("results_*.json")) if folder else set()


if __name__ == "__main__":
    main()
