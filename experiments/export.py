"""python -m experiments.export run=runs/<run> out=<folder>: transformers folders with no custom code.

One checkpoint becomes one folder. With revisions=all, or revisions=[step0,step100], checkpoints become the revisions of one
model in a Hugging Face cache, as the checkpoints of Pythia and Ettin are on the hub; a run that still trains may be
exported again and again, which adds what is new. push=<user>/<name> uploads what was written.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ettin_core.evaluation.exports import export_checkpoint
from ettin_core.evaluation.revisions import export_revisions
from ettin_core.foundation.errors import UserError, invalid
from ettin_core.interop.card import how_it_is_read
from ettin_core.interop.embedding import check_pooling
from ettin_core.interop.hub import check_login, push
from ettin_core.interop.revisions import MAIN, Repository
from ettin_core.planning.run_plan import open_corpus, open_run
from ettin_core.records.readout import name_of
from ettin_core.training.config import RunConfig
from experiments.cli.entry import entry

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
    damaged = export_revisions(run, folder, corpus, repository, request.revisions, request.overwrite, request.pooling)
    print("\n".join(describe(repository, run.readout[0])))
    commits = {name: repository.commit(name) for name in repository.revisions()}
    _push(request, {name: repository.snapshot(commit) for name, commit in commits.items() if commit}, folder.name)
    _warn(run)
    if damaged:
        raise UserError(" ".join(damaged))


def _push(request: ExportRequest, folders: dict[str, Path], what: str) -> None:
    if request.push is not None:
        print(f"pushed to {push(request.push, folders, request.private, what)}")


def _warn(run: RunConfig) -> None:
    sentences = how_it_is_read({"readout": name_of(run.read_as)}, run.readout[0])
    if len(sentences) > 1:
        print(" ".join(sentences))


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
    return export_checkpoint(run, folder, open_corpus(run, corpora), checkpoint, out, overwrite, pooling)


def describe(repository: Repository, direction: str) -> Iterator[str]:
    """Lines on the revisions in the order of training, and on how to load one."""
    known = {name: repository.metadata(name) for name in repository.revisions() if name != MAIN}
    names = sorted(known, key=lambda name: known[name]["global_step"])
    if not names:  # every checkpoint is damaged
        return
    width = max(map(len, [*names, "revision"]))
    yield f"{'revision':<{width}}{'tokens':>18}  commit"
    for name in names:
        yield f"{name:<{width}}{known[name]['tokens']:>18,}  {repository.commit(name)}"
    yield f"{MAIN} is {repository.metadata(MAIN).get('checkpoint', 'not written')}"
    auto = AUTO_CLASS_OF[direction]
    arguments = f'"{repository.repo_id}", revision="{names[-1]}", cache_dir="{repository.cache}", local_files_only=True'
    # Where peft is installed, transformers looks for adapters and asks the hub, unless this is repeated.
    arguments += ', adapter_kwargs={"local_files_only": True}'
    yield "\nTo load one (AutoTokenizer takes the same arguments):\n"
    yield f"from transformers import {auto}, AutoTokenizer"
    yield f"model = {auto}.from_pretrained({arguments})"
    yield "\nFor programs that take a model and a revision but no cache folder, set:\n"
    yield f"HF_HUB_CACHE={repository.cache} HF_HUB_OFFLINE=1"


if __name__ == "__main__":
    main()
