"""What the composed configuration of a run looks like, and how it becomes a RunConfig on a prepared corpus."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from tqdm import tqdm

from ettin_core.checkpoints import native
from ettin_core.checkpoints.retention import CheckpointConfig
from ettin_core.data.config import DataConfig
from ettin_core.data.corpus import Corpus
from ettin_core.data.prepare import prepare
from ettin_core.data.sources import Document
from ettin_core.foundation.errors import invalid
from ettin_core.foundation.structures import build
from ettin_core.model.config import ModelConfig
from ettin_core.objectives.targets import ObjectiveConfig
from ettin_core.optim.build import OptimizerConfig
from ettin_core.records.folders import RunFolder
from ettin_core.training.phases import RecipeConfig
from ettin_core.training.run import Parent, PlacementConfig, RunConfig, Seeds

VOCABULARY_MULTIPLE = 64


@dataclass(frozen=True)
class SizeConfig:
    """A row of the table of sizes: shape and the hyper-parameters that go with it. `vocab_size` None: the tokenizer's."""

    name: str
    vocab_size: int | None
    num_layers: int
    hidden_size: int
    intermediate_size: int
    num_heads: int
    learning_rate: float
    weight_decay: float
    warmup_share: float
    attention_output_dropout: float

    def model(self, tokenizer_size: int) -> ModelConfig:
        """The model's shape for a tokenizer."""
        rounded = -(-tokenizer_size // VOCABULARY_MULTIPLE) * VOCABULARY_MULTIPLE
        return ModelConfig(
            self.vocab_size or rounded,
            self.hidden_size,
            self.num_layers,
            self.num_heads,
            self.intermediate_size,
            attention_output_dropout=self.attention_output_dropout,
        )


@dataclass(frozen=True)
class MemberConfig:
    """A direction and an objective."""

    name: str
    direction: str
    objective: ObjectiveConfig


@dataclass(frozen=True)
class TrainingParts:
    """What every member of a study shares."""

    size: SizeConfig
    recipe: RecipeConfig
    optimizer: OptimizerConfig
    seeds: Seeds
    precision: str
    checkpoint: CheckpointConfig

    def run(self, member: MemberConfig, corpus: Corpus) -> RunConfig:
        """The run of a member on a prepared corpus."""
        return self.planned(member, corpus.tokenizer.vocab_size, corpus.name, corpus.fingerprint)

    def planned(self, member: MemberConfig, tokenizer_size: int, corpus: str, fingerprint: str) -> RunConfig:
        """The run of a member on a corpus known by name only, for an audit before there is one."""
        return RunConfig(
            member=member.name,
            size=self.size.name,
            direction=member.direction,
            objective=member.objective,
            model=self.size.model(tokenizer_size),
            recipe=self.recipe,
            optimizer=self.optimizer,
            corpus=corpus,
            fingerprint=fingerprint,
            precision=self.precision,
            seeds=self.seeds,
            checkpoint=self.checkpoint,
        )


@dataclass(frozen=True)
class TrainRequest:
    """conf/train.yaml."""

    size: SizeConfig
    member: MemberConfig
    recipe: RecipeConfig
    data: DataConfig
    optimizer: OptimizerConfig
    placement: PlacementConfig
    seed: int
    seeds: Seeds
    precision: str
    checkpoint: CheckpointConfig
    dry_run: bool
    runs_dir: str
    corpora_dir: str

    @property
    def parts(self) -> TrainingParts:
        """The part that is not particular to the member."""
        return TrainingParts(self.size, self.recipe, self.optimizer, self.seeds, self.precision, self.checkpoint)


def prepared(data: DataConfig, corpora_dir: str) -> Corpus:
    """The prepared corpus of a data configuration; prepares it, with a bar, when it is not there."""
    return prepare(data, Path(corpora_dir), _bar)


def _bar(documents: Iterable[Document], name: str) -> Iterable[Document]:
    return tqdm(documents, desc=f"prepare {name}", unit="doc", unit_scale=True, mininterval=1.0)


def open_run(path: str) -> tuple[RunFolder, RunConfig]:
    """A run folder and its configuration. Raises ValueError for a folder that is not a run."""
    folder = RunFolder(Path(path))
    if not folder.config_file.is_file():
        raise invalid("run", path, "is not a run folder", "give a folder that experiments.train wrote (runs/<name>)")
    return folder, build(RunConfig, folder.config())


@dataclass(frozen=True)
class Conversion:
    """How a parent is converted: the member it becomes, for how long, and with which seed for order and masks.

    Its initialisation is the parent's, so the initialisation seed stays: it names the lineage.
    """

    member: MemberConfig
    recipe: RecipeConfig
    budget: float
    seed: int
    checkpoint: CheckpointConfig

    def plan(self, parent: RunConfig) -> RunConfig:
        """The conversion's run without its starting weights: enough to check it before the parent is trained.

        Raises ValueError for a parent that already is such a member, or a budget that is no share.
        """
        if self.budget <= 0:
            raise invalid("budget", self.budget, "is not positive", "use a share of the parent's tokens, e.g. 0.1")
        if (parent.direction, parent.objective.name) == (self.member.direction, self.member.objective.name):
            raise invalid("to", self.member.name, f"is what {parent.name} already is", "convert to the other direction")
        return replace(
            parent,
            member=self.member.name,
            direction=self.member.direction,
            objective=self.member.objective,
            recipe=replace(self.recipe, tokens=round(self.budget * parent.tokens)),
            seeds=replace(parent.seeds, order=self.seed, masks=self.seed),
            checkpoint=self.checkpoint,
        )

    def of(self, parent: RunConfig, folder: RunFolder) -> RunConfig:
        """The conversion's run from the last checkpoint of a complete parent (ValueError for an unfinished one)."""
        summary = folder.summary()
        start = Parent(summary["run"], summary["final_checkpoint"], summary["final_weights"])
        return replace(self.plan(parent), parent=start)


def parent_weights(run: RunConfig, runs_dir: Path) -> dict | None:
    """The starting weights of a conversion, checked against the hash its configuration names (None: no parent)."""
    if run.parent is None:
        return None
    weights = native.load(runs_dir / run.parent.run / "checkpoints" / run.parent.checkpoint, run.parent.run).model
    if native.hash_tensors(weights) != run.parent.weights:
        raise invalid("parent", run.parent.run, "has other weights than the conversion names", "convert it again")
    return weights
