"""python -m experiments.extend run=runs/<run> tokens=6.4e6: a longer run, which continues a finished one."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ettin_core.foundation.errors import invalid
from ettin_core.planning.conversion import parent_weights
from ettin_core.planning.forecast import Machine, forecast
from ettin_core.planning.plan_checks import check_plan
from ettin_core.planning.run_plan import open_corpus, open_run
from ettin_core.studies.stale import RETRAIN, check_choice
from ettin_core.studies.train_run import trained
from ettin_core.training.config import PlacementConfig, RunConfig
from ettin_core.training.extension import begin, longer, shared_checkpoint, with_phase
from experiments.cli.entry import entry
from experiments.views.dry_run import describe, timed


@dataclass(frozen=True)
class ExtendRequest:
    """conf/extend.yaml."""

    run: str
    tokens: int
    further: dict[str, Any] | None
    placement: PlacementConfig
    stale: str
    dry_run: bool
    machine: Machine
    runs_dir: str
    corpora_dir: str

    def __post_init__(self) -> None:
        check_choice(self.stale, RETRAIN)
        if self.further is not None and not isinstance(self.further.get("name"), str):
            remedy = "give e.g. 'further={name: cool, shape: one_minus_sqrt, final_factor: 0.0}'"
            raise invalid("further.name", self.further.get("name"), "is not a valid name of a phase", remedy)

    def of(self, run: RunConfig) -> RunConfig:
        """The longer run. Raises ValueError for one that is not longer."""
        if not run.tokens:
            raise invalid(
                "run", run.name, "has no step to continue from", "train it, or convert it with tokens=<number>"
            )
        if self.tokens <= run.tokens:
            problem = f"is not more than the {run.tokens:,} of {run.name}"
            raise invalid("tokens", self.tokens, problem, "give the tokens of the longer run in total")
        if self.further is None:
            return check_plan(longer(run, self.tokens))
        changes = {key: value for key, value in self.further.items() if key != "name"}
        return check_plan(with_phase(run, self.tokens, self.further["name"], changes))


@entry("extend", ExtendRequest)
def main(request: ExtendRequest) -> None:
    """Extend a run."""
    parent, old = open_run(request.run)
    run = request.of(old)
    corpus = open_corpus(old, Path(request.corpora_dir))
    checkpoint = shared_checkpoint(parent, old, run)
    if request.dry_run:
        print(f"continues   from {checkpoint.name} of {parent.name}")
        print(describe(timed(forecast(run, request.placement, corpus, request.machine), request.placement)))
        return
    start = partial(parent_weights, run, parent.path.parent)
    beginning = partial(begin, run=run, parent=parent, checkpoint=checkpoint)
    print(trained(run, corpus, request.placement, request.runs_dir, request.stale, start, beginning))


if __name__ == "__main__":
    main()
