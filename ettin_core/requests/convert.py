"""A conversion as it is asked for: of a run, or of a model that was not trained here and becomes a run of no step."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from ettin_core.checkpoints.retention import CheckpointConfig
from ettin_core.data.corpus import Corpus
from ettin_core.foundation.errors import invalid
from ettin_core.model.config import AdapterConfig
from ettin_core.optim.config import OptimizerConfig
from ettin_core.planning.adoption import Adopted, adopt
from ettin_core.planning.conversion import Conversion, parent_weights
from ettin_core.planning.forecast import Machine
from ettin_core.planning.precision import AUTO, choose
from ettin_core.planning.run_plan import MemberConfig, open_corpus, open_run, prepared_corpus
from ettin_core.records.folders import RunFolder, find_run_or_none, folder_of
from ettin_core.studies.stale import RETRAIN, check_choice
from ettin_core.studies.train_run import Weights, trained
from ettin_core.training.config import PlacementConfig, RunConfig
from ettin_core.training.phases import RecipeConfig


@dataclass(frozen=True)
class ConvertRequest:
    """conf/convert.yaml."""

    parent: str
    member: MemberConfig
    budget: float
    tokens: int | None
    start: str
    adapter: AdapterConfig | None
    recipe: RecipeConfig
    placement: PlacementConfig
    seed: int
    revision: str | None
    corpus: str | None
    precision: str | None
    checkpoint: CheckpointConfig
    stale: str
    dry_run: bool
    machine: Machine
    runs_dir: str
    corpora_dir: str
    optimizer: OptimizerConfig | None = None

    def __post_init__(self) -> None:
        check_choice(self.stale, RETRAIN)

    @property
    def conversion(self) -> Conversion:
        """What is done to the parent."""
        what = (self.member, self.recipe, self.budget, self.seed, self.checkpoint)
        return Conversion(*what, self.start, self.adapter, self.tokens)

    def adopted(self) -> tuple[Adopted, Corpus]:
        """The parent that is no run. Raises ValueError for what is missing."""
        if self.corpus is None:
            remedy = (
                "give a run's folder, the beginning of its name, or latest; with a transformers folder or hub id give "
            )
            remedy += "corpus=<name>, too, prepared with data.tokenizer=<its folder>"
            raise invalid("parent", self.parent, "is not a run folder", remedy)
        if self.optimizer is None:
            remedy = "give e.g. optimizer=stable_adamw optimizer.learning_rate=5e-4 optimizer.weight_decay=1e-5"
            raise invalid("optimizer", None, f"is missing: {self.parent} is no run, which would state it", remedy)
        corpus = prepared_corpus(Path(self.corpora_dir) / self.corpus)
        precision = "fp32" if self.precision in (None, AUTO) else self.precision
        adopted = adopt(self.parent, self.revision, corpus, self.optimizer, precision)
        if self.precision == AUTO:
            precision = choose(adopted.run, self.placement, self.runs_dir, keep=not self.dry_run)
            adopted = replace(adopted, run=replace(adopted.run, precision=precision))
        return adopted, corpus

    def check_run(self) -> None:
        """Raises ValueError for what a run states itself."""
        for name in ("revision", "corpus", "optimizer", "precision"):
            if getattr(self, name) is not None:
                problem = f"belongs to a parent that is no run, and {self.parent} is one"
                raise invalid(name, str(getattr(self, name)), problem, "leave it null")

    def planned(self) -> tuple[RunConfig, Corpus]:
        """The conversion's run and its corpus. Writes nothing, so a parent that is no run is not among the runs afterwards."""
        folder = find_run_or_none(self.parent)
        if folder is not None:
            self.check_run()
            return self._of_run(folder)
        adopted, corpus = self.adopted()
        return self.conversion.plan(adopted.run), corpus

    def prepared(self, report: Callable[[str], None] = lambda line: None) -> tuple[RunConfig, Corpus, Weights]:
        """The conversion's run, its corpus and its starting weights.

        A parent that is no run becomes one of no step first, and `report` gets a line about it.
        """
        folder, runs_dir = find_run_or_none(self.parent), Path(self.runs_dir)
        if folder is not None:
            self.check_run()
            runs_dir = folder.path.parent
        else:
            adopted, corpus = self.adopted()
            report(trained(adopted.run, corpus, self.placement, self.runs_dir, start=lambda: adopted.weights))
            folder = folder_of(adopted.run.name, runs_dir)
        run, corpus = self._of_run(folder)
        return run, corpus, partial(parent_weights, run, runs_dir)

    def _of_run(self, folder: RunFolder) -> tuple[RunConfig, Corpus]:
        folder, parent = open_run(str(folder.path))
        run = self.conversion.of(parent, folder)
        return run, open_corpus(run, Path(self.corpora_dir))
