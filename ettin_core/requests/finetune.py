"""Fine-tuning as it is asked for: the same grid of trials for every checkpoint, task and attention mode."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from ettin_core.evaluation.finetuning import rows
from ettin_core.evaluation.finetuning.attention_modes import modes_of
from ettin_core.evaluation.finetuning.grid import FinetuningConfig
from ettin_core.evaluation.finetuning.grid_run import GridRun
from ettin_core.evaluation.finetuning.metrics import need_libraries
from ettin_core.evaluation.finetuning.model import BaseModel, of_huggingface, of_run
from ettin_core.evaluation.finetuning.tasks import STARTED, STARTS, FinetuningTask, all_tasks, task_of
from ettin_core.evaluation.lines import FOLDER
from ettin_core.foundation.errors import invalid
from ettin_core.foundation.fields import check_threads
from ettin_core.foundation.progress_bars import own_line
from ettin_core.planning.run_plan import open_corpus, open_run
from ettin_core.records.schema import Measurement


@dataclass(frozen=True)
class FinetuneRequest:
    """conf/finetune.yaml. `run`, `model`, `task` and `way` are a name or a list of names."""

    run: Any
    model: Any
    checkpoint: str | None
    task: Any
    way: Any
    start: str | None
    eval_data: str | None
    finetuning: FinetuningConfig
    device: str
    threads: int
    runs_dir: str
    corpora_dir: str

    def __post_init__(self) -> None:
        check_threads("threads", self.threads)
        if not _names("run", self.run) and not _names("model", self.model):
            raise invalid("run", None, "is missing", "give run=runs/<run>, or model=<transformers folder or hub id>")
        if self.start is not None and self.start not in STARTS:
            raise invalid("start", self.start, "is not a task to start from", f"use null or {', '.join(STARTS)}")
        for name in (*_names("task", self.task), *_names("way", self.way)):
            if not isinstance(name, str):
                raise invalid("task", name, "is not a name", "give a name, or a list of names")

    @property
    def tasks(self) -> list[FinetuningTask]:
        """The tasks by name; "all" are those that the source has and, from another task, those that begin there."""
        wanted = _names("task", self.task)
        if wanted == ["all"]:
            have = [task for task in all_tasks(self.eval_data) if self.start is None or task.name in STARTED]
            if not have:
                raise invalid("task", "all", f"finds none in eval_data={self.eval_data}", f"name one, or {FOLDER}")
            return have
        return [task_of(name, self.eval_data) for name in wanted]

    def check(self) -> None:
        """Raises ValueError for a task whose rows are not there, or a missing extra."""
        need_libraries()
        for task in {task.name: task for task in (*self.tasks, *_start(self))}.values():
            rows.check_available(task, self.eval_data)


def finetune(request: FinetuneRequest) -> list[Measurement]:
    """Run the trials that are missing, of every grid; the best, median and worst of each."""
    request.check()
    torch.set_num_threads(request.threads)
    grid_runs = [grid_run for base in _base_models(request) for grid_run in _grid_runs(base, request)]
    trials = len(request.finetuning.trials)
    starts = {grid_run.start.folder for grid_run in grid_runs if grid_run.start is not None}
    measurements = []
    with tqdm(total=(len(grid_runs) + len(starts)) * trials, desc="finetune", unit="trial", position=own_line()) as bar:
        for grid_run in grid_runs:

            def progress(trial: str, recorded: bool, grid_run: GridRun = grid_run) -> None:
                bar.set_postfix_str(f"{grid_run.base.member} {grid_run.protocol.removeprefix('finetune.')} {trial}")
                if recorded:  # already done: it does not count for the remaining time
                    bar.total = max(bar.n, bar.total - 1)
                    bar.refresh()
                else:
                    bar.update()

            measurements += grid_run.run(progress)
    return measurements


def _base_models(request: FinetuneRequest) -> list[BaseModel]:
    """The runs and models to be fine-tuned."""
    models = []
    runs = [open_run(str(path)) for path in _names("run", request.run)]
    _names("run", [folder.name for folder, _ in runs])
    for folder, run in runs:
        corpus = open_corpus(run, Path(request.corpora_dir))
        models.append(of_run(run, folder, corpus, request.checkpoint, request.device))
    for source in _names("model", request.model):
        models.append(of_huggingface(str(source), Path(request.runs_dir), request.device))
    return models


def _grid_runs(base: BaseModel, request: FinetuneRequest) -> list[GridRun]:
    """The grids of a base model: for each task, one for every attention mode."""
    config, direction = request.finetuning, base.view.direction
    begins = [rows.read(task, request.eval_data, config.train_rows) for task in _start(request)]
    grid_runs = []
    for task in request.tasks:
        data = rows.read(task, request.eval_data, config.train_rows)
        for mode in modes_of(_names("way", request.way), direction, task):
            start = GridRun(base, begins[0], mode, config) if begins else None
            grid_runs.append(GridRun(base, data, mode, config, start))
    return grid_runs


def _start(request: FinetuneRequest) -> list[FinetuningTask]:
    return [] if request.start is None else [task_of(request.start, request.eval_data)]


def _names(field: str, value: Any) -> list[Any]:
    """A name or several."""
    values = [] if value is None else list(value) if isinstance(value, (list, tuple)) else [value]
    if len(set(map(str, values))) < len(values):
        raise invalid(field, value, "names something twice", "name it once")
    return values
