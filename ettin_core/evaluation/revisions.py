"""Checkpoints of a run as the revisions of one model in a Hugging Face cache."""

from typing import Any

from tqdm import tqdm

from ettin_core.checkpoints import native
from ettin_core.data.corpus import Corpus
from ettin_core.evaluation.exports import export_checkpoint, tensors_of
from ettin_core.foundation.errors import UserError, invalid
from ettin_core.foundation.folders import locked
from ettin_core.interop.revisions import MAIN, Repository
from ettin_core.records.folders import RunFolder
from ettin_core.training.config import RunConfig

ALL = "all"


def export_revisions(
    run: RunConfig,
    folder: RunFolder,
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
    damaged = []
    with locked(repository.folder):
        repository.check_belongs_to(folder.name)
        for name in tqdm(_chosen(folder, names, wanted), desc=repository.repo_id, unit="revision", dynamic_ncols=True):
            try:
                commit = _add(run, folder, corpus, repository, name, overwrite, pooling)
                if name == names[-1]:
                    repository.name(MAIN, commit)
            except (UserError, FileNotFoundError) as error:
                if (folder.checkpoints / name).exists():
                    damaged.append(str(error))
                else:  # only the newest of the checkpoints between phases' ends stay
                    tqdm.write(f"{name} was pruned by the training run meanwhile; it is left out")
    return damaged


def _names(folder: RunFolder) -> list[str]:
    """The checkpoints of a run in the order of training; those without a readable step come first."""
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
    run: RunConfig,
    folder: RunFolder,
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
    return repository.add(name, lambda out: export_checkpoint(run, folder, corpus, name, out, pooling=pooling))
