"""python -m experiments.convert parent=runs/<run> to=decoder budget=0.1: the other direction on the parent's weights."""

from dataclasses import dataclass
from pathlib import Path

from ettin_core.checkpoints.retention import CheckpointConfig
from ettin_core.data.corpus import Corpus
from ettin_core.foundation.errors import invalid
from ettin_core.training.phases import RecipeConfig
from ettin_core.training.run import PlacementConfig
from experiments.door import entry
from experiments.dry_run import describe
from experiments.forecast import Machine, forecast
from experiments.requests import Conversion, MemberConfig, open_run
from experiments.train import train_run


@dataclass(frozen=True)
class ConvertRequest:
    """conf/convert.yaml; `encoder` and `decoder` are the members that the two targets become."""

    parent: str
    to: str
    budget: float
    recipe: RecipeConfig
    encoder: MemberConfig
    decoder: MemberConfig
    placement: PlacementConfig
    seed: int
    checkpoint: CheckpointConfig
    dry_run: bool
    machine: Machine
    runs_dir: str
    corpora_dir: str


@entry("convert", ConvertRequest)
def main(request: ConvertRequest) -> None:
    """Convert a complete run."""
    if request.to not in ("encoder", "decoder"):
        raise invalid("to", request.to, "is not a target", "use to=encoder or to=decoder")
    folder, parent = open_run(request.parent)
    member = request.encoder if request.to == "encoder" else request.decoder
    run = Conversion(member, request.recipe, request.budget, request.seed, request.checkpoint).of(parent, folder)
    corpus = Corpus(Path(request.corpora_dir) / run.corpus)
    if request.dry_run:
        print(describe(forecast(run, request.placement, corpus, request.machine)))
    else:
        print(f"run {train_run(run, corpus, request.placement, request.runs_dir, folder.path.parent).path}")


if __name__ == "__main__":
    main()
