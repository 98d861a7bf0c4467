"""python -m experiments.export run=runs/<run> out=<folder>: transformers folders with no custom code.

One checkpoint becomes one folder. With revisions=all, or revisions=[step0,step100], checkpoints become the revisions of one
model in a Hugging Face cache, as the checkpoints of Pythia and Ettin are on the hub; a run that still trains may be
exported again and again, which adds what is new. push=<user>/<name> uploads what was written.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ettin_core.checkpoints import native
from ettin_core.data.corpus import Corpus
from ettin_core.evaluation.exports import facts_of, tensors_of
from ettin_core.evaluation.suite import open_model
from ettin_core.foundation.errors import UserError, invalid
from ettin_core.foundation.folders import locked
from ettin_core.interop.card import how_it_is_read
from ettin_core.interop.embedding import check_pooling
from ettin_core.interop.hub import check_login, push
from ettin_core.interop.huggingface import export
from ettin_core.interop.revisions import MAIN, Repository
from ettin_core.planning.run_plan import open_corpus, open_run
from ettin_core.records.folders import RunFolder
from ettin_core.records.readout import name_of
from ettin_core.training.config import RunConfig
from experiments.cli.entry import entry

ALL = "all"
NAMESPACE = "local"
AUTO_CLASS_OF = {"bidirectional": "AutoModelForMaskedLM", "causal": "AutoModelForCausalLM"}


@dataclass(frozen=True)
class ExportRequest:
    """conf/export.yaml."""

    run: str
    out: str
    checkpoint: str | None
    revisions: Any
    repo_id: str | None
    push: str | None
    private: bool
    overwrite: bool
    pooling: str
    corpora_dir: str

    def __post_init__(self) -> None:
        check_pooling(self.pooling)
        if self.revisions is None and self.repo_id is not None:
            raise invalid("repo_id", self.repo_id, "names no plain folder", "leave it out, or add revisions=all")
        if self.revisions is not None and self.checkpoint is not None:
            remedy = "use one of them: checkpoint for a plain folder, revisions for a cache of many"
            raise invalid("checkpoint", self.checkpoint, "and revisions are two kinds of export", remedy)


@entry("export", ExportRequest)
def main(request: ExportRequest) -> None:
    """Export a run's checkpoint, or several as revisions."""
    out, corpora = Path(request.out), Path(request.corpora_dir)
    if request.push is not None:
        check_login(request.push)
    if request.revisions is None:
        path = export_run(Path(request.run), out, corpora, request.checkpoint, request.overwrite, request.pooling)
        print(f"transformers folder {path}")
        folder, run = open_run(request.run)
        _push(request, {MAIN: path}, folder.name)
        _warn(run)
        return
    folder, run = open_run(request.run)
    repository = Repository(out.resolve(), request.repo_id or request.push or f"{NAMESPACE}/{folder.name}")
    corpus = open_corpus(run, corpora)
    refused = export_revisions(folder, run, corpus, repository, request.revisions, request.overwrite, request.pooling)
    print("\n".join(describe(repository, run.readout[0])))
    commits = {name: repository.commit(name) for name in repository.revisions()}
    _push(request, {name: repository.snapshot(commit) for name, commit in commits.items() if commit}, folder.name)
    _warn(run)
    if refused:
        raise UserError(" ".join(refused))


def _push(request: ExportRequest, folders: dict[str, Path], what: str) -> None:
    if request.push is not None:
        print(f"pushed to {push(request.push, folders, request.private, what)}")


def _warn(run: RunConfig) -> None:
    told = how_it_is_read({"readout": name_of(run.read_as)}, run.readout[0])
    if len(told) > 1:
        print(" ".join(told))


def export_run(
    path: Path,
    out: Path,
    corpora: Path,
    checkpoint: str | None = None,
    overwrite: bool = False,
    pooling: str = "mean",
) -> Path:
    """Write the transformers folder of a run's checkpoint (None: the last)."""
    folder, run = open_run(str(path))
    return _export(folder, run, open_corpus(run, corpora), checkpoint, out, overwrite, pooling)


def export_revisions(
    folder: RunFolder,
    run: RunConfig,
    corpus: Corpus,
    repository: Repository,
    wanted: Any,
    overwrite: bool = False,
    pooling: str = "mean",
) -> list[str]:
    """Write checkpoints of a run, complete or not, as revisions; `main` is its last checkpoint, which is always written.

    `wanted` is "all", a name, or a list of names. A revision that holds its checkpoint's weights already is left alone,
    unless `overwrite`. Returns a sentence for each checkpoint that is damaged: it is left out, the others are written.
    Raises ValueError for an unknown revision, or a repository that holds another model.
    """
    names = _names(folder)
    refused = []
    with locked(repository.folder):
        repository.check_belongs_to(folder.name)
        for name in tqdm(_chosen(folder, names, wanted), desc=repository.repo_id, unit="revision", dynamic_ncols=True):
            try:
                commit = _add(folder, run, corpus, repository, name, overwrite, pooling)
                if name == names[-1]:
                    repository.name(MAIN, commit)
            except (UserError, FileNotFoundError) as error:
                if (folder.checkpoints / name).exists():
                    refused.append(str(error))
                else:  # only the newest of the checkpoints between phases' ends stay
                    tqdm.write(f"{name} was pruned by the training run meanwhile; it is left out")
    return refused


def describe(repository: Repository, direction: str) -> Iterator[str]:
    """Lines that tell the revisions in the order of training, and how to load one."""
    known = {name: repository.metadata(name) for name in repository.revisions() if name != MAIN}
    names = sorted(known, key=lambda name: known[name]["global_step"])
    if not names:  # every checkpoint was refused
        return
    width = max(map(len, [*names, "revision"]))
    yield f"{'revision':<{width}}{'tokens':>18}  commit"
    for name in names:
        yield f"{name:<{width}}{known[name]['tokens']:>18,}  {repository.commit(name)}"
    yield f"{MAIN} is {repository.metadata(MAIN).get('checkpoint', 'not written')}"
    auto = AUTO_CLASS_OF[direction]
    arguments = f'"{repository.repo_id}", revision="{names[-1]}", cache_dir="{repository.cache}", local_files_only=True'
    # Where peft is installed, transformers looks for adapters and asks the hub, unless this is said again.
    arguments += ', adapter_kwargs={"local_files_only": True}'
    yield "\nTo load one (AutoTokenizer takes the same arguments):\n"
    yield f"from transformers import {auto}, AutoTokenizer"
    yield f"model = {auto}.from_pretrained({arguments})"
    yield "\nFor programs that take a model and a revision but no cache folder, set:\n"
    yield f"HF_HUB_CACHE={repository.cache} HF_HUB_OFFLINE=1"


def _names(folder: RunFolder) -> list[str]:
    """The checkpoints of a run in the order of training; those that do not tell their step come first."""
    ordered = [path.name for path in native.ordered(folder.checkpoints)]
    silent = {path.name for path in folder.checkpoints.glob("[!.]*")} - set(ordered)
    return [*sorted(silent), *ordered]


def _chosen(folder: RunFolder, names: list[str], wanted: Any) -> list[str]:
    """The wanted among `names`, in their order, and the last."""
    asked = names if wanted == ALL else wanted if isinstance(wanted, list) else [wanted]
    unknown = [name for name in asked if name not in names]
    if unknown or not names:
        remedy = f"it has {', '.join(names)}" if names else "it has none yet: wait for its first checkpoint"
        raise invalid("revisions", unknown or wanted, f"is not among the checkpoints of {folder.name}", remedy)
    return [name for name in names if name in asked or name == names[-1]]


def _add(
    folder: RunFolder,
    run: RunConfig,
    corpus: Corpus,
    repository: Repository,
    name: str,
    overwrite: bool,
    pooling: str,
) -> str:
    """The commit of a revision, which is written unless it is there."""
    commit = repository.commit(name)
    if commit is not None and not overwrite and repository.metadata(name)["tensors"] == tensors_of(folder, name):
        return commit
    return repository.add(name, lambda out: _export(folder, run, corpus, name, out, pooling=pooling))


def _export(
    folder: RunFolder,
    run: RunConfig,
    corpus: Corpus,
    checkpoint: str | None,
    out: Path,
    overwrite: bool = False,
    pooling: str = "mean",
) -> Path:
    """Write the transformers folder of a checkpoint (None: the last), with its origin in ettin.json."""
    model, name, weights = open_model(run, folder, corpus, checkpoint, "cpu")
    metadata = facts_of(run, folder, corpus, name, weights)
    return export(model.model, model.view, corpus.tokenizer.folder, out, model.context, metadata, overwrite, pooling)


if __name__ == "__main__":
    main()
