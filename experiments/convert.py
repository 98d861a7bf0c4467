"""python -m experiments.convert parent=runs/<run> member=dec-from-enc budget=0.1: another member on the parent's weights."""

from dataclasses import dataclass
from pathlib import Path

from ettin_core.checkpoints.retention import CheckpointConfig
from ettin_core.model.adapter import AdapterConfig
from ettin_core.training.phases import RecipeConfig
from ettin_core.training.run import PlacementConfig
from experiments.conversions import Conversion
from experiments.door import entry
from experiments.dry_run import describe
from experiments.forecast import Machine, forecast
from experiments.requests import MemberConfig, open_corpus, open_run
from experiments.stale import RETRAIN, check_choice
from experiments.train import trained


@dataclass(frozen=True)
class ConvertRequest:
    """conf/convert.yaml."""

    parent: str
    member: MemberConfig
    budget: float
    start: str
    adapter: AdapterConfig | None
    recipe: RecipeConfig
    placement: PlacementConfig
    seed: int
    checkpoint: CheckpointConfig
    stale: str
    dry_run: bool
    machine: Machine
    runs_dir: str
    corpora_dir: str

    @property
    def conversion(self) -> Conversion:
        """What is done to the parent."""
        return Conversion(self.member, self.recipe, self.budget, self.seed, self.checkpoint, self.start, self.adapter)


@entry("convert", ConvertRequest)
def main(request: ConvertRequest) -> None:
    """Convert a complete run."""
    check_choice(request.stale, RETRAIN)
    folder, parent = open_run(request.parent)
    run = request.conversion.of(parent, folder)
    corpus = open_corpus(run, Path(request.corpora_dir))
    if request.dry_run:
        print(describe(forecast(run, request.placement, corpus, request.machine)))
    else:
        print(trained(run, corpus, request.placement, request.runs_dir, request.stale, folder.path.parent))


if __name__ == "__main__":
    main()
