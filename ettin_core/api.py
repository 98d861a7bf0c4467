"""What `import ettin_core` gives: each function does what the command of its name does, and returns objects instead of text.

Keyword arguments are the command's keys. What is no name in Python is an override as it is typed: `"recipe.tokens=3e6"`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from ettin_core.data.corpus import Corpus
from ettin_core.data.preparation.progress_bar import prepared
from ettin_core.data.tokenizer import Tokenizer
from ettin_core.foundation.errors import invalid
from ettin_core.foundation.override_text import assignment
from ettin_core.pairs.audit import Certificate
from ettin_core.planning.run_plan import open_corpus, open_run
from ettin_core.records.folders import RunFolder, find_run_or_none, run_folders
from ettin_core.records.schema import Item, Measurement, TrainingRecord
from ettin_core.requests.audit import AuditRequest
from ettin_core.requests.compose import composed, configurations
from ettin_core.requests.convert import ConvertRequest
from ettin_core.requests.evaluate import EvaluateRequest, measured
from ettin_core.requests.merge import PLACEMENT, MergeRequest
from ettin_core.requests.prepare import PrepareRequest
from ettin_core.requests.train import TrainRequest
from ettin_core.studies.train_run import train_run
from ettin_core.training.config import RunConfig

if TYPE_CHECKING:
    from ettin_core.evaluation.evaluated_model import EvaluatedModel
    from ettin_core.model.transformer import Transformer

Setting = str | int | float | bool | Path | Sequence[str] | Sequence[float] | None
Request = TypeVar("Request")
RUNS, CORPORA = "runs", "corpora"


@dataclass(frozen=True, repr=False)
class Run:
    """A run: its configuration and folder, and from these its model, tokenizer, corpus and records."""

    folder: RunFolder
    config: RunConfig
    corpora_dir: Path = Path(CORPORA)

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    @property
    def name(self) -> str:
        """`<size>-<member>-s<seed>-<hash of the configuration>`."""
        return self.folder.name

    @property
    def path(self) -> Path:
        """The run's folder."""
        return self.folder.path

    @property
    def history(self) -> list[TrainingRecord]:
        """The logged training steps, in order; losses in nats per scored token."""
        return self.folder.training()

    @property
    def measurements(self) -> list[Measurement]:
        """Every measurement of the last checkpoint. Raises ValueError for records that are not whole."""
        return self.folder.measurements()

    @cached_property
    def corpus(self) -> Corpus:
        """The corpus that the run was trained on. Raises ValueError where `corpora_dir` does not hold it."""
        return open_corpus(self.config, self.corpora_dir)

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer of the corpus."""
        return self.corpus.tokenizer

    @cached_property
    def model(self) -> "Transformer":
        """The last checkpoint on the CPU, in evaluation mode."""
        return self.open(device="cpu").transformer[0]

    def open(self, checkpoint: str | None = None, device: str = "auto") -> "EvaluatedModel":
        """A checkpoint (None: the last) ready to score texts and to embed them.

        Raises ValueError for a checkpoint that is unknown or damaged.
        """
        from ettin_core.evaluation.suite import open_model

        return open_model(self.config, self.folder, self.corpus, checkpoint, device)[0]

    def items(self, protocol: str) -> list[Item]:
        """What each item of a protocol scored."""
        return self.folder.items(protocol)

    def export(self, checkpoint: str | None = None) -> Path:
        """The folder that transformers loads without custom code, within the run's; written where it is not there.

        Raises ValueError for a direction that no class of transformers has.
        """
        from ettin_core.evaluation.exports import own_export

        return own_export(self.config, self.folder, self.corpus, checkpoint)


@dataclass(frozen=True)
class MatchedPair:
    """Two complete runs and the verdict on them under a contract."""

    left: Run
    right: Run
    certificate: Certificate


@dataclass(frozen=True)
class Evaluation:
    """What was measured. `path` holds the records, by item; `analysis.compare` compares two such folders."""

    path: Path
    measurements: list[Measurement]


def prepare(*overrides: str, **settings: Setting) -> Corpus:
    """A prepared corpus, made where it is not there: `python -m experiments.prepare`.

    E.g. `prepare("data.documents=1500", data="world")`. With `verify=True` every shard is checked by its hash. Raises
    ValueError for text that cannot be read.
    """
    request = _request("prepare", PrepareRequest, overrides, settings)
    corpus = prepared(request.data, request.corpora_dir, request.workers)
    if request.verify:
        corpus.verify()
    return corpus


def train(*overrides: str, **settings: Setting) -> Run:
    """Train a run to its end, continue it, or open it where it is complete: `python -m experiments.train`.

    E.g. `train("recipe.tokens=3e6", size="nano", member="encoder", data="world")`. A corpus that is not there is prepared.
    Raises ValueError for what could not be trained, and RunStopped when a number is not finite.
    """
    request = _request("train", TrainRequest, overrides, settings).settled()
    run, corpus = request.prepared()
    folder = train_run(run, corpus, request.placement, request.runs_dir, stale=request.stale)
    return Run(folder, run, Path(request.corpora_dir))


def convert(parent: Run | str | Path, *overrides: str, **settings: Setting) -> Run:
    """Another direction and objective on a parent's weights: `python -m experiments.convert`.

    The parent is a complete run, or a transformers folder or hub id. E.g. `convert(encoder, member="dec-from-enc", budget=0.1)`.
    """
    request = _request("convert", ConvertRequest, overrides, _around(parent) | {"parent": _text(parent)} | settings)
    run, corpus, start = request.prepared()
    folder = train_run(run, corpus, request.placement, request.runs_dir, start, request.stale)
    return Run(folder, run, Path(request.corpora_dir))


def merge(parents: Sequence[Run | str | Path], *overrides: str, **settings: Setting) -> Run:
    """One model of several runs' weights: `python -m experiments.merge`.

    A parent is a complete run, or `"<run>@<checkpoint>"`. E.g. `merge([first, second], method="average")`.
    """
    given: dict[str, Setting] = {"parents": [_text(parent) for parent in parents]}
    request = _request("merge", MergeRequest, overrides, _around(parents[0] if parents else "") | given | settings)
    run, corpus, start = request.prepared()
    folder = train_run(run, corpus, PLACEMENT, request.runs_dir, start, request.stale)
    return Run(folder, run, Path(request.corpora_dir))


def evaluate(model: Run | str | Path, *overrides: str, **settings: Setting) -> Evaluation:
    """Measure a run, or a transformers folder or hub id, with a suite's protocols: `python -m experiments.evaluate`.

    E.g. `evaluate(encoder, suite="fast")`. What is measured already is read, not measured again.
    """
    given = _text(model)
    key = "model" if find_run_or_none(given) is None else "run"
    corpora: dict[str, Setting] = {"corpora_dir": model.corpora_dir} if isinstance(model, Run) else {}
    folder, rows = measured(_request("evaluate", EvaluateRequest, overrides, corpora | {key: given} | settings))
    return Evaluation(folder.path, rows)


def load_run(path: str | Path, corpora_dir: str | Path = CORPORA) -> Run:
    """A run by its folder, the beginning of its name, or "latest". Raises ValueError where there is none."""
    return Run(*open_run(str(path)), Path(corpora_dir))


def load_runs(runs_dir: str | Path = RUNS, corpora_dir: str | Path = CORPORA) -> list[Run]:
    """Every run of a folder, by name, complete or not. Raises ValueError for one whose configuration cannot be read."""
    return [load_run(folder.path, corpora_dir) for folder in run_folders(Path(runs_dir))]


def load_pair(
    left: Run | str | Path,
    right: Run | str | Path,
    contract: str = "encoder_decoder",
    corpora_dir: str | Path = CORPORA,
) -> MatchedPair:
    """Two complete runs with the certificate that says whether they are matched: `python -m experiments.audit`.

    `contract` is a file of conf/pair. For a conversion `left` is the parent.
    """
    left, right = (run if isinstance(run, Run) else load_run(run, corpora_dir) for run in (left, right))
    settings: dict[str, Setting] = {"left": left.path, "right": right.path, "pair": contract}
    return MatchedPair(left, right, _request("audit", AuditRequest, (), settings).certificate())


def _around(parent: Run | str | Path) -> dict[str, Setting]:
    """Where a conversion of an opened run goes, unless it is said: beside it."""
    return {"runs_dir": parent.path.parent, "corpora_dir": parent.corpora_dir} if isinstance(parent, Run) else {}


def _text(model: Run | str | Path) -> str:
    return str(model.path if isinstance(model, Run) else model)


def _request(command: str, kind: type[Request], overrides: Sequence[str], settings: dict[str, Setting]) -> Request:
    """The request of a command. Raises ValueError for a key or value that cannot be, and for a dry run, which prints."""
    with configurations():
        request = composed(command, kind, [*(assignment(*item) for item in settings.items()), *overrides])
    if getattr(request, "dry_run", False):
        raise invalid("dry_run", True, "only prints a plan", f"leave it out, or run python -m experiments.{command}")
    return request
