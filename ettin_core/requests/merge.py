"""A merge as it is asked for: checkpoints of complete runs, and how their weights become those of one run."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ettin_core.data.corpus import Corpus
from ettin_core.foundation.errors import invalid
from ettin_core.planning.merging import merged_run, merged_weights, source
from ettin_core.planning.run_plan import open_corpus
from ettin_core.studies.stale import RETRAIN, check_choice
from ettin_core.studies.train_run import Weights
from ettin_core.training.config import PlacementConfig, RunConfig
from ettin_core.training.parents import DENSITY, check_merge

PLACEMENT = PlacementConfig(device="cpu", trackers=())  # there is no step to compute


@dataclass(frozen=True)
class MergeRequest:
    """conf/merge.yaml."""

    parents: tuple[str, ...]
    method: str
    weights: tuple[float, ...] | None
    base: str | None
    density: float | None
    stale: str
    runs_dir: str
    corpora_dir: str

    def __post_init__(self) -> None:
        check_choice(self.stale, RETRAIN)
        if self.method == "average" and self.weights is not None:
            raise invalid("weights", list(self.weights), "is given to an average", "leave it out, or use weighted")
        check_merge(self.method, len(self.parents), self.factors, self.base, self.share)

    @property
    def factors(self) -> tuple[float, ...]:
        """The weights, equal ones where none are given."""
        return (1 / max(1, len(self.parents)),) * len(self.parents) if self.weights is None else self.weights

    @property
    def share(self) -> float | None:
        """The density, of TIES the published one where none is given."""
        return DENSITY if self.density is None and self.method == "ties" else self.density

    def prepared(self) -> tuple[RunConfig, Corpus, Weights]:
        """The merged run, its corpus and its weights, which are computed when asked for."""
        sources = [source(text) for text in self.parents]
        base = None if self.base is None else source(self.base)
        run = merged_run(self.method, sources, self.factors, base, self.share)
        return run, open_corpus(run, Path(self.corpora_dir)), partial(merged_weights, run, sources, base)
