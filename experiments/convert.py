"""python -m experiments.convert parent=runs/<run> member=dec-from-enc budget=0.1: another member on the parent's weights."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ettin_core.checkpoints.retention import CheckpointConfig
from ettin_core.data.corpus import Corpus
from ettin_core.foundation.errors import invalid
from ettin_core.model.config import AdapterConfig
from ettin_core.optim.config import OptimizerConfig
from ettin_core.planning.adoption import Adopted, adopt
from ettin_core.planning.conversion import Conversion, parent_weights
from ettin_core.planning.forecast import Machine, forecast
from ettin_core.planning.run_plan import MemberConfig, open_corpus, open_run, prepared_corpus
from ettin_core.records.folders import find_run_or_none, folder_of
from ettin_core.studies.stale import RETRAIN, check_choice
from ettin_core.studies.train_run import trained
from ettin_core.training.config import PlacementConfig
from ettin_core.training.phases import RecipeConfig
from experiments.cli.entry import entry
from experiments.views.dry_run import describe, timed


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
        precision = self.precision or "fp32"
        return adopt(self.parent, self.revision, corpus, self.optimizer, precision), corpus

    def check_run(self) -> None:
        """Refuse (ValueError) what a run states itself."""
        for name in ("revision", "corpus", "optimizer", "precision"):
            if getattr(self, name) is not None:
                problem = f"belongs to a parent that is no run, and {self.parent} is one"
                raise invalid(name, str(getattr(self, name)), problem, "leave it null")


@entry("convert", ConvertRequest)
def main(request: ConvertRequest) -> None:
    """Convert a complete run, or a model that was not trained here."""
    check_choice(request.stale, RETRAIN)
    runs_dir = Path(request.runs_dir)
    folder = find_run_or_none(request.parent)
    if folder is not None:
        request.check_run()
        folder, parent = open_run(str(folder.path))
        runs_dir = folder.path.parent
    else:
        adopted, corpus = request.adopted()
        parent, folder = adopted.run, folder_of(adopted.run.name, runs_dir)
        if request.dry_run:
            plan = request.conversion.plan(parent)
            print(describe(timed(forecast(plan, request.placement, corpus, request.machine), request.placement)))
            return
        print(trained(parent, corpus, request.placement, request.runs_dir, start=lambda: adopted.weights))
    run = request.conversion.of(parent, folder)
    corpus = open_corpus(run, Path(request.corpora_dir))
    if request.dry_run:
        print(describe(timed(forecast(run, request.placement, corpus, request.machine), request.placement)))
        return
    start = partial(parent_weights, run, runs_dir)
    print(trained(run, corpus, request.placement, request.runs_dir, request.stale, start))


if __name__ == "__main__":
    main()
