"""python -m experiments.retrieve models=[runs/<encoder>,runs/<decoder>] eval_data=<folder>: embeddings of every member.

Each checkpoint and pooling gets the same grid of contrastive fine-tuning, is measured by MTEB, and is reported at the setting
that dev prefers, with the median and the worst of the grid. Killed, it continues; repeated, it prints the table again.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from tqdm import tqdm

from ettin_core.evaluation.exports import own_export
from ettin_core.evaluation.lines import FOLDER, need
from ettin_core.evaluation.retrieval.checkpoints import CheckpointToEmbed, open_checkpoint
from ettin_core.evaluation.retrieval.embedder import POOLINGS
from ettin_core.evaluation.retrieval.files import need_packages
from ettin_core.evaluation.retrieval.finetuning import ContrastiveConfig
from ettin_core.evaluation.retrieval.scoring import VERSION
from ettin_core.evaluation.retrieval.selection import Line, choose, dev_line, line, settings_of, table, write
from ettin_core.evaluation.retrieval.sets import held_out_queries
from ettin_core.evaluation.retrieval.trials import Report, RetrievalTrial, Training
from ettin_core.evaluation.retrieval.triplets import read_triplets
from ettin_core.foundation.distributed import ProcessGroup, choose_device
from ettin_core.foundation.errors import invalid
from ettin_core.foundation.fields import check_threads
from ettin_core.foundation.folders import locked
from ettin_core.foundation.storage import canonical_json, content_name, hash_text
from ettin_core.interop.huggingface_config import LAYOUT_OF
from ettin_core.planning.run_plan import open_corpus, open_run
from ettin_core.records.folders import RunFolder, find_run_or_none
from experiments.cli.entry import entry

TRIPLETS = "retrieval/train_triplets.jsonl.gz"


@dataclass(frozen=True)
class RetrieveRequest:
    """conf/retrieve.yaml."""

    models: tuple[str, ...]
    checkpoint: str | None
    poolings: tuple[str, ...]
    train: bool
    contrastive: ContrastiveConfig
    tasks: tuple[str, ...]
    select_by: str
    eval_data: str | None
    max_length: int | None
    batch: int
    device: str
    threads: int
    retrieval_dir: str
    corpora_dir: str

    def __post_init__(self) -> None:
        check_threads("threads", self.threads)
        for name in ("models", "poolings", "tasks"):
            values = getattr(self, name)
            if not values or len(set(values)) < len(values):
                raise invalid(name, list(values), "is no list of names", "give at least one, each once")
        for pooling in self.poolings:
            if pooling not in POOLINGS:
                raise invalid("poolings", pooling, "is unknown", f"use some of {', '.join(POOLINGS)}")
        if self.batch < 1:
            raise invalid("batch", self.batch, "is not positive", "use 1 or more")
        if self.max_length is not None and self.max_length < 4:
            raise invalid("max_length", self.max_length, "leaves no room for a text between its ends", "use 4 or more")
        if self.train and self.eval_data is None:
            raise invalid("eval_data", None, "is needed to train and to select", FOLDER)


@dataclass(frozen=True)
class Subject:
    """A checkpoint and the run folder that its records go to."""

    checkpoint: CheckpointToEmbed
    home: RunFolder
    earlier: str | None


@entry("retrieve", RetrieveRequest)
def main(request: RetrieveRequest) -> None:
    """Train and measure what is missing, and print the table."""
    print(table(retrieve(request)))


def retrieve(request: RetrieveRequest) -> list[Line]:
    """Every line of the table; records go to the runs' evaluations, or beside the trials for other models."""
    need_packages()
    from ettin_core.evaluation.retrieval.tasks import load, local_task, open_tasks

    torch.set_num_threads(request.threads)
    device = str(choose_device(request.device, ProcessGroup()))
    folder = None if request.eval_data is None else Path(request.eval_data)
    tasks = open_tasks(request.tasks, folder)
    dev = local_task(request.select_by, folder, "dev") if request.train and folder is not None else None
    subjects = [_subject(name, request) for name in request.models]
    for subject in subjects:
        _check_length(request.max_length, subject.checkpoint)
    triplets = _triplets(request, folder, set() if dev is None else held_out_queries(dev.local))
    grids = [
        (subject, _grid(request, subject, pooling, triplets)) for subject in subjects for pooling in request.poolings
    ]
    wanted = tasks if dev is None else [dev, *tasks]
    turns = zip(*(grid for _, grid in grids), strict=True)  # at any moment every member has had equally many trials
    trials = [trial for turn in turns for trial in turn]
    for task in wanted:
        if any(trial.missing([task], request.batch) for trial in trials):
            load(task)
    with Bars([trial for trial in trials if not trial.trained or trial.missing(wanted, request.batch)]) as bars:
        for trial in bars.trials:
            trial.run(triplets, wanted, request.batch, device, bars.begin(trial))
    lines = []
    for subject, grid in grids:
        chosen = choose(grid, dev)
        found = [line(grid, chosen, task, dev) for task in tasks]
        records = found if dev is None else [*found, dev_line(grid, chosen, dev)]
        with locked(subject.home.path / "evaluations"):
            place = subject.home.evaluation_folder(grid[0].protocol, VERSION, subject.earlier)
            write(place, records, settings_of(grid, request.batch, dev))
        lines += found
    return lines


def _subject(name: str, request: RetrieveRequest) -> Subject:
    """A name as a checkpoint: a run is exported once; folders and hub ids are taken as they are."""
    root = Path(request.retrieval_dir)
    if find_run_or_none(name) is None:
        checkpoint = open_checkpoint(name)
        home = root / "records" / content_name(checkpoint.label, checkpoint.content)
        return Subject(checkpoint, RunFolder(home), None)
    folder, run = open_run(name)
    if run.readout[0] not in LAYOUT_OF:
        remedy = f"convert it to a member that is {' or '.join(LAYOUT_OF)}"
        raise invalid("models", name, f"is {run.readout[0]}, which no transformers class is", remedy)
    final = folder.summary()["final_checkpoint"] if folder.complete else None
    chosen = request.checkpoint or folder.summary()["final_checkpoint"]
    out = own_export(run, folder, open_corpus(run, Path(request.corpora_dir)), chosen)
    return Subject(open_checkpoint(str(out)), folder, None if chosen == final else chosen)


def _check_length(wanted: int | None, checkpoint: CheckpointToEmbed) -> None:
    if wanted is not None and checkpoint.longest is not None and wanted > checkpoint.longest:
        problem = f"is beyond the {checkpoint.longest} tokens of {checkpoint.run}"
        raise invalid("max_length", wanted, problem, f"use {checkpoint.longest} or less")


def _triplets(request: RetrieveRequest, folder: Path | None, without: set[str]) -> list[dict[str, str]]:
    """The rows that every trial trains on: none whose query the setting is chosen by."""
    if not request.train or folder is None:
        return []
    config = request.contrastive
    file = need(folder, TRIPLETS) if config.triplets is None else Path(config.triplets)
    if without:
        said = (
            f"{request.select_by} has no dev split: the setting is chosen by {len(without):,} held-out training queries"
        )
        print(f"{said}, which are not trained on", file=sys.stderr)
    return read_triplets(file, config.sources, config.max_triplets, without=without)


def _grid(
    request: RetrieveRequest, subject: Subject, pooling: str, triplets: list[dict[str, str]]
) -> list[RetrievalTrial]:
    """The trials of a checkpoint and a pooling: all points of the grid, or the checkpoint as it is."""
    config, data = request.contrastive, hash_text(canonical_json(triplets))
    points = [Training(config, setting, seed, data) for setting in config.settings() for seed in config.seeds]
    root, training = Path(request.retrieval_dir), points if request.train else [None]
    return [RetrievalTrial(root, subject.checkpoint, pooling, request.max_length, point) for point in training]


class Bars:
    """A bar over trials and, below it, one over the steps of the current training; both with the time left."""

    def __init__(self, trials: list[RetrievalTrial]) -> None:
        self.trials = trials
        self._steps: tqdm | None = None

    def __enter__(self) -> "Bars":
        self._bar = tqdm(total=len(self.trials), unit="trial", dynamic_ncols=True, disable=not self.trials)
        self._begun = 0
        return self

    def __exit__(self, *error: object) -> None:
        self._close()
        self._bar.update((self._begun if error[0] is None else self._begun - 1) - self._bar.n)
        self._bar.close()

    def begin(self, trial: RetrievalTrial) -> Report:
        """Count the trials before this one as done; returns what it reports to."""
        self._close()
        self._bar.update(self._begun - self._bar.n)
        self._bar.set_description(trial.name)
        self._begun += 1
        return self._report

    def _report(self, doing: str, step: int, steps: int) -> None:
        if doing != "training":
            self._close()
            self._bar.set_postfix_str(doing)
            return
        if self._steps is None:
            self._steps = tqdm(total=steps, desc=doing, unit="step", leave=False, position=1, dynamic_ncols=True)
        self._steps.update(step - self._steps.n)

    def _close(self) -> None:
        if self._steps is not None:
            self._steps.close()
        self._steps = None


if __name__ == "__main__":
    main()
