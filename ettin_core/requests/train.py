"""A training run as it is asked for, and how it becomes a run on a prepared corpus."""

from dataclasses import dataclass, replace
from typing import Self

from ettin_core.checkpoints.retention import CheckpointConfig
from ettin_core.data.config import DataConfig
from ettin_core.data.corpus import Corpus
from ettin_core.data.preparation.plan import expected_ids
from ettin_core.data.preparation.progress_bar import prepared
from ettin_core.optim.config import OptimizerConfig
from ettin_core.planning.forecast import UNKNOWN, Machine
from ettin_core.planning.precision import AUTO, choose
from ettin_core.planning.run_plan import MemberConfig, TrainingParts
from ettin_core.planning.sizes import SizeConfig
from ettin_core.studies.stale import RETRAIN, check_choice
from ettin_core.training.config import PlacementConfig, RunConfig, Seeds
from ettin_core.training.phases import RecipeConfig


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
    stale: str
    dry_run: bool
    machine: Machine
    runs_dir: str
    corpora_dir: str

    def __post_init__(self) -> None:
        check_choice(self.stale, RETRAIN)

    @property
    def parts(self) -> TrainingParts:
        """The part that is not particular to the member."""
        return TrainingParts(self.size, self.recipe, self.optimizer, self.seeds, self.precision, self.checkpoint)

    def settled(self) -> Self:
        """With the precision that `auto` means in its folder of runs; a dry run writes no choice down."""
        if self.precision != AUTO:
            return self
        run = replace(self, precision="fp32").planned()
        return replace(self, precision=choose(run, self.placement, self.runs_dir, keep=not self.dry_run))

    def planned(self) -> RunConfig:
        """The run on a corpus that is not there yet. Raises ValueError for what could not be trained on any."""
        return self.parts.planned(self.member, expected_ids(self.data), UNKNOWN, UNKNOWN)

    def prepared(self) -> tuple[RunConfig, Corpus]:
        """The run and its corpus, which is prepared if it is not there. What could not be trained raises ValueError first."""
        self.planned()
        corpus = prepared(self.data, self.corpora_dir)
        return self.parts.run(self.member, corpus), corpus
