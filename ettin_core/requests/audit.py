"""An audit as it is asked for: of two members that would be run, or of two complete runs."""

from dataclasses import dataclass

from ettin_core.checkpoints.retention import CheckpointConfig
from ettin_core.data.config import DataConfig
from ettin_core.data.preparation.plan import expected_ids
from ettin_core.foundation.errors import invalid
from ettin_core.optim.config import OptimizerConfig
from ettin_core.pairs.audit import Certificate, audit, certify
from ettin_core.pairs.contract import Contract
from ettin_core.planning.forecast import UNKNOWN
from ettin_core.planning.run_plan import MemberConfig, TrainingParts, open_run
from ettin_core.planning.sizes import SizeConfig
from ettin_core.training.config import Seeds
from ettin_core.training.phases import RecipeConfig


@dataclass(frozen=True)
class AuditRequest:
    """conf/audit.yaml."""

    pair: Contract
    size: SizeConfig
    recipe: RecipeConfig
    data: DataConfig
    optimizer: OptimizerConfig
    left_member: MemberConfig
    right_member: MemberConfig
    left: str | None
    right: str | None
    seed: int
    seeds: Seeds
    precision: str
    checkpoint: CheckpointConfig

    def __post_init__(self) -> None:
        if (self.left is None) != (self.right is None):
            raise invalid("left", self.left, "and right go together", "give both run folders, or neither")

    def certificate(self) -> Certificate:
        """The verdict on two complete runs, or on what would be run where none are named."""
        return (
            self._of_configuration()
            if self.left is None or self.right is None
            else self._of_runs(self.left, self.right)
        )

    def _of_runs(self, left_path: str, right_path: str) -> Certificate:
        left_folder, left = open_run(left_path)
        right_folder, right = open_run(right_path)
        return certify(self.pair, left, right, left_folder, right_folder)

    def _of_configuration(self) -> Certificate:
        """Compare what would be run. The corpus need not be prepared: both members would share it."""
        parts = TrainingParts(self.size, self.recipe, self.optimizer, self.seeds, self.precision, self.checkpoint)
        ids = expected_ids(self.data)
        left, right = (parts.planned(member, ids, UNKNOWN, UNKNOWN) for member in (self.left_member, self.right_member))
        return audit(self.pair, left, right)
