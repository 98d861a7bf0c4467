"""python -m experiments.train size=nano member=encoder data=world: one run, alone or under torchrun."""

from pathlib import Path

from ettin_core.data.corpus import Corpus
from ettin_core.foundation.distributed import ProcessGroup, join, leave
from ettin_core.foundation.errors import BusyError
from ettin_core.foundation.storage import write_json
from ettin_core.model.leak_test import LeakError
from ettin_core.records.folders import RunFolder
from ettin_core.training.loop import train
from ettin_core.training.run import PlacementConfig, RunConfig
from ettin_core.training.step import NonFiniteError
from ettin_core.training.stops import StopRequested
from experiments.conversions import parent_weights
from experiments.door import RunStopped, entry
from experiments.dry_run import dry_run
from experiments.endings import USER_ERRORS
from experiments.requests import TrainRequest, prepared


@entry("train", TrainRequest)
def main(request: TrainRequest) -> None:
    """Train one member from scratch."""
    if request.dry_run:
        print(dry_run(request))
        return
    corpus = prepared(request.data, request.corpora_dir)
    run = request.parts.run(request.member, corpus)
    complete = RunFolder(Path(request.runs_dir) / run.name).complete
    folder = train_run(run, corpus, request.placement, request.runs_dir)
    print(f"run {folder.path}{' was complete already' if complete else ''}")


def train_run(
    run: RunConfig, corpus: Corpus, placement: PlacementConfig, runs_dir: str, parents_dir: Path | None = None
) -> RunFolder:
    """Train a run (or continue it, or leave a complete one alone) and return its folder.

    `parents_dir` holds the run's parent (None: the same folder of runs).
    """
    folder = RunFolder(Path(runs_dir) / run.name)
    if folder.complete:
        return folder
    group = join("gloo" if placement.device == "cpu" else None, placement.stall_seconds)
    folder.failure_file.unlink(missing_ok=True)
    try:
        train(run, folder, corpus, placement, group, parent_weights(run, parents_dir or Path(runs_dir)))
    except BusyError as error:
        raise RunStopped(f"{run.name} is being trained by another process; wait for it to end, or stop it") from error
    except (LeakError, NonFiniteError) as error:
        _note_failure(folder, error, group)
        raise RunStopped(str(error)) from error
    except (*USER_ERRORS, StopRequested):
        raise
    except Exception as error:
        _note_failure(folder, error, group)
        raise
    finally:
        leave()
    return folder


def _note_failure(folder: RunFolder, error: Exception, group: ProcessGroup) -> None:
    """Leave a sign that the run fails by itself, not by a mistake in the request or a kill."""
    if group.is_main and folder.config_file.exists():
        write_json(
            folder.failure_file, {"reason": f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"}
        )


if __name__ == "__main__":
    main()
