"""A retrieval experiment as it is asked for: every member on one grid, measured by MTEB, chosen by dev."""

import sys
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch

from ettin_core.evaluation.exports import own_export
from ettin_core.evaluation.lines import FOLDER, need
from ettin_core.evaluation.retrieval.checkpoints import CheckpointToEmbed, open_checkpoint
from ettin_core.evaluation.retrieval.config import ContrastiveConfig
from ettin_core.evaluation.retrieval.files import need_packages
from ettin_core.evaluation.retrieval.kinds.base import RetrievalKind, Triplets
from ettin_core.evaluation.retrieval.kinds.dense import POOLINGS, Dense
from ettin_core.evaluation.retrieval.kinds.multivector import MultiVector, MultiVectorOptions, multivector
from ettin_core.evaluation.retrieval.kinds.reranker import Reranker, RerankerOptions, reranker
from ettin_core.evaluation.retrieval.kinds.sparse import Sparse, SparseOptions
from ettin_core.evaluation.retrieval.progress import TrialBars
from ettin_core.evaluation.retrieval.retriever import open_retriever
from ettin_core.evaluation.retrieval.scoring import VERSION
from ettin_core.evaluation.retrieval.selection import GridScore, choose, dev_score, grid_score, settings_of, write
from ettin_core.evaluation.retrieval.sets import held_out_queries
from ettin_core.evaluation.retrieval.trials import RetrievalTrial, Training
from ettin_core.evaluation.retrieval.triplets import read_triplets
from ettin_core.foundation.distributed import ProcessGroup, choose_device
from ettin_core.foundation.errors import invalid, unknown
from ettin_core.foundation.fields import check_threads
from ettin_core.foundation.folders import locked
from ettin_core.foundation.storage import canonical_json, content_name, hash_text, read_mapping
from ettin_core.interop.huggingface import METADATA_FILE
from ettin_core.interop.huggingface_config import LAYOUT_OF
from ettin_core.planning.run_plan import open_corpus, open_run
from ettin_core.records.folders import RunFolder, find_run_or_none

KINDS = (Dense.name, MultiVector.name, Sparse.name, Reranker.name)
TRIPLETS = "retrieval/train_triplets.jsonl.gz"


@dataclass(frozen=True)
class RetrieveRequest:
    """conf/retrieve.yaml."""

    kind: str
    models: tuple[str, ...]
    checkpoint: str | None
    poolings: tuple[str, ...]
    train: bool
    contrastive: ContrastiveConfig
    retriever: str | None
    matryoshka: tuple[int, ...]
    multivector: MultiVectorOptions
    sparse: SparseOptions
    reranker: RerankerOptions
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
        if self.kind not in KINDS:
            raise unknown("kind", self.kind, "is not a kind of retrieval model", KINDS)
        for name in ("models", "poolings", "tasks"):
            values = getattr(self, name)
            if not values or len(set(values)) < len(values):
                raise invalid(name, list(values), "is not a list of names", "give at least one, each once")
        for pooling in self.poolings:
            if pooling not in POOLINGS:
                raise invalid("poolings", pooling, "is unknown", f"use some of {', '.join(POOLINGS)}")
        if self.matryoshka and self.kind != "dense":
            raise invalid("matryoshka", list(self.matryoshka), f"is not for kind={self.kind}", "leave it empty")
        if len(set(self.matryoshka)) < len(self.matryoshka):
            raise invalid("matryoshka", list(self.matryoshka), "names a width twice", "give each once")
        if self.retriever is not None and self.kind in (Dense.name, Sparse.name):
            raise invalid("retriever", self.retriever, f"is not for kind={self.kind}", "leave it out")
        if self.batch < 1:
            raise invalid("batch", self.batch, "is not positive", "use 1 or more")
        if self.max_length is not None and self.max_length < 4:
            raise invalid("max_length", self.max_length, "leaves no room for a text between its ends", "use 4 or more")
        if self.train and self.eval_data is None:
            raise invalid("eval_data", None, "is needed to train and to select", FOLDER)

    def check(self) -> None:
        """Raises ValueError for a set that is not there, or a missing extra."""
        need_packages()
        _tasks(self)
        if self.train and self.eval_data is not None and self.contrastive.triplets is None:
            need(Path(self.eval_data), TRIPLETS)


@dataclass(frozen=True)
class RetrievalMember:
    """A checkpoint and the run folder that its records go to; `earlier` names a checkpoint before the last."""

    checkpoint: CheckpointToEmbed
    home: RunFolder
    earlier: str | None


@dataclass(frozen=True)
class MemberGrid:
    """The trials of a member and a kind."""

    member: RetrievalMember
    trials: list[RetrievalTrial]


def retrieve(request: RetrieveRequest) -> list[GridScore]:
    """Train and measure what is missing. Every row of the table; records go to the runs' evaluations, or beside the trials
    for other models."""
    request.check()
    torch.set_num_threads(request.threads)
    device = str(choose_device(request.device, ProcessGroup()))
    folder = None if request.eval_data is None else Path(request.eval_data)
    kinds = _kinds(request)
    tasks, dev = _tasks(request)
    members = [_member(name, request) for name in request.models]
    _check(request, kinds, members, tasks if dev is None else [dev, *tasks])
    held_out = set() if dev is None else held_out_queries(dev.local)
    triplets = _triplets(request, folder, held_out, tasks if dev is None else [dev, *tasks])
    grids = [MemberGrid(member, _trials(request, member, kind, triplets)) for member in members for kind in kinds]
    _run(request, grids, triplets, tasks if dev is None else [dev, *tasks], device)
    return [score for grid in grids for score in _scores(request, grid, tasks, dev)]


def _tasks(request: RetrieveRequest) -> tuple[list[Any], Any]:
    """The tasks that are measured, and the dev split that chooses the setting (None: nothing is trained)."""
    from ettin_core.evaluation.retrieval.tasks import local_task, open_tasks

    folder = None if request.eval_data is None else Path(request.eval_data)
    dev = local_task(request.select_by, folder, "dev") if request.train and folder is not None else None
    return open_tasks(request.tasks, folder), dev


def _kinds(request: RetrieveRequest) -> list[RetrievalKind]:
    retriever = None if request.retriever is None else open_retriever(request.retriever)
    if request.kind == MultiVector.name:
        return [multivector(request.multivector, retriever, request.train)]
    if request.kind == Sparse.name:
        return [Sparse(request.sparse)]
    if request.kind == Reranker.name:
        return [reranker(request.reranker, retriever, request.train)]
    return [Dense(pooling, request.matryoshka) for pooling in request.poolings]


def _check(
    request: RetrieveRequest, kinds: list[RetrievalKind], members: list[RetrievalMember], tasks: list[Any]
) -> None:
    """Raises ValueError for what no trial could do, before any work."""
    for checkpoint in (member.checkpoint for member in members):
        if request.max_length and checkpoint.longest is not None and request.max_length > checkpoint.longest:
            problem = f"is beyond the {checkpoint.longest} tokens of {checkpoint.run}"
            raise invalid("max_length", request.max_length, problem, f"use {checkpoint.longest} or less")
        for kind in kinds:
            kind.check(checkpoint)
    for task in tasks:
        for kind in kinds:
            kind.check_task(task)


def _run(request: RetrieveRequest, grids: list[MemberGrid], triplets: Triplets, tasks: list[Any], device: str) -> None:
    """Train and measure what is missing of every grid."""
    from ettin_core.evaluation.retrieval.tasks import load

    turns = zip(*(grid.trials for grid in grids), strict=True)  # at any moment every member has had equally many trials
    trials = [trial for turn in turns for trial in turn]
    for task in tasks:
        if any(trial.missing([task], request.batch) for trial in trials):
            load(task)
    columns = {kind: cache(partial(kind.columns, triplets, device)) for kind in {trial.kind for trial in trials}}
    with TrialBars([trial for trial in trials if not trial.trained or trial.missing(tasks, request.batch)]) as bars:
        for trial in bars.trials:
            trial.run(columns[trial.kind], tasks, request.batch, device, bars.begin(trial))


def _scores(request: RetrieveRequest, grid: MemberGrid, tasks: list[Any], dev: Any) -> list[GridScore]:
    """The grid's score of every task, which is also recorded."""
    member, trials = grid.member, grid.trials
    chosen = choose(trials, dev)
    settings = settings_of(trials, request.batch, dev)
    scores = [grid_score(trials, chosen, task, dev, settings) for task in tasks]
    records = scores if dev is None else [*scores, dev_score(trials, chosen, dev, settings)]
    with locked(member.home.path / "evaluations", wait=True):
        place = member.home.evaluation_folder(trials[0].protocol, VERSION, member.earlier)
        write(place, records, settings)
    return scores


def _member(name: str, request: RetrieveRequest) -> RetrievalMember:
    """A name as a checkpoint: a run is exported once; folders and hub ids are taken as they are."""
    root = Path(request.retrieval_dir)
    if find_run_or_none(name) is None:
        if request.checkpoint is not None:
            raise invalid("checkpoint", request.checkpoint, f"belongs to a run, and {name} is none", "leave it out")
        checkpoint = _named_by_changes(open_checkpoint(name))
        home = root / "records" / content_name(checkpoint.label, checkpoint.content)
        return RetrievalMember(checkpoint, RunFolder(home), None)
    folder, run = open_run(name)
    if run.readout[0] not in LAYOUT_OF:
        remedy = f"convert it to a member that is {' or '.join(LAYOUT_OF)}"
        raise invalid("models", name, f"is {run.readout[0]}, for which transformers has no class", remedy)
    final = folder.summary()["final_checkpoint"] if folder.complete else None
    chosen = request.checkpoint or folder.summary()["final_checkpoint"]
    out = own_export(run, folder, open_corpus(run, Path(request.corpora_dir)), chosen)
    return RetrievalMember(open_checkpoint(str(out)), folder, None if chosen == final else chosen)


def _named_by_changes(checkpoint: CheckpointToEmbed) -> CheckpointToEmbed:
    """A tuned or quantised folder by a name of its own: its ettin.json states the run and the weights of its base."""
    file = checkpoint.folder / METADATA_FILE
    facts = read_mapping(file) if file.is_file() else {}
    changes = list(facts.get("tuned", []))
    if how := facts.get("quantisation"):
        changes.append("-".join(str(value) for value in how.values() if value is not None))
    if not changes:
        return checkpoint
    run, member = ("+".join([name, *changes]) for name in (checkpoint.run, checkpoint.member))
    return replace(checkpoint, run=run, member=member, weights=checkpoint.content)


def _measured_queries(tasks: list[Any]) -> set[str]:
    """The texts of the queries of local sets."""
    from ettin_core.evaluation.retrieval.tasks import is_local

    return {text for task in tasks if is_local(task) for text in task.queries()}


def _triplets(request: RetrieveRequest, folder: Path | None, held_out: set[str], tasks: list[Any]) -> Triplets:
    """The rows that every trial trains on: none whose query is measured, or the setting is chosen by."""
    if not request.train or folder is None:
        return []
    config = request.contrastive
    file = need(folder, TRIPLETS) if config.triplets is None else Path(config.triplets)
    if held_out:
        chosen_by = f"{request.select_by} has no dev split: the setting is chosen by {len(held_out):,} held-out queries"
        print(f"{chosen_by} of training, which are not trained on", file=sys.stderr)
    return read_triplets(file, config.sources, config.max_triplets, without=_measured_queries(tasks))


def _trials(
    request: RetrieveRequest, member: RetrievalMember, kind: RetrievalKind, triplets: Triplets
) -> list[RetrievalTrial]:
    """The trials of a checkpoint and a kind: all points of the grid, or the checkpoint as it is."""
    config, data = request.contrastive, hash_text(canonical_json(triplets))
    points = [Training(config, setting, seed, data) for setting in config.settings() for seed in config.seeds]
    root, training = Path(request.retrieval_dir), points if request.train else [None]
    return [RetrievalTrial(root, member.checkpoint, kind, request.max_length, point) for point in training]
