"""python -m experiments.search size=nano data=world: each member's best learning rate, with equally many trials for each.

Optuna proposes, Hydra composes, and a trial is a content-named run. Its score is the validation loss of its own objective,
on a split that no report shows. Losses are compared within a member only. What a trial proposes depends on the seed, its
number and the trials before it. So a search that was killed ends with the same trials, and repeated it trains nothing.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig

from ettin_core.data.config import DataConfig
from ettin_core.data.corpus import Corpus
from ettin_core.data.preparation.plan import expected_ids
from ettin_core.data.preparation.progress_bar import prepared
from ettin_core.evaluation.heldout import CHOSEN, held_out
from ettin_core.evaluation.suite_config import SuiteConfig
from ettin_core.foundation.errors import UserError, invalid
from ettin_core.foundation.folders import locked
from ettin_core.foundation.spreadsheet import csv_text
from ettin_core.foundation.storage import content_name, write_text
from ettin_core.planning.forecast import UNKNOWN
from ettin_core.planning.precision import AUTO, with_precision
from ettin_core.requests.compose import composed
from ettin_core.requests.train import TrainRequest
from ettin_core.studies.run_jobs import choosing
from ettin_core.studies.search_space import Axis, Values, check_axes
from ettin_core.studies.search_trials import Proposal, ask, need_optuna, open_studies, tell, train_proposals
from ettin_core.studies.stale import check_choice
from ettin_core.studies.worker_pool import Pool
from ettin_core.training.config import RunConfig
from experiments.cli.entry import entry
from experiments.cli.report import analyse
from experiments.views.search_table import COLUMNS, lines, table_rows

if TYPE_CHECKING:
    from optuna import Study

IDENTITY = (
    "size",
    "recipe",
    "data",
    "optimizer",
    "seeds",
    "precision",
    "suite",
    "space",
    "random_trials",
    "search_seed",
)


@dataclass(frozen=True)
class SearchRequest(TrainRequest):
    """conf/search.yaml: a training, composed once for every trial."""

    suite: SuiteConfig
    members: tuple[str, ...]
    trials: int
    space: tuple[Axis, ...]
    random_trials: int
    search_seed: int
    jobs: int
    studies_dir: str

    def __post_init__(self) -> None:
        check_choice(self.stale)  # a trial that ended is not trained again
        if not self.members or len(set(self.members)) < len(self.members):
            raise invalid("members", self.members, "is empty or names a member twice", "use members=[encoder,decoder]")
        keys = [axis.key for axis in self.space]
        if not keys or len(set(keys)) < len(keys):
            raise invalid("space", keys, "is empty or names a key twice", "give at least one, each once")
        for name in ("trials", "random_trials", "jobs"):
            if getattr(self, name) < 1:
                raise invalid(name, getattr(self, name), "is not positive", "use 1 or more")


class Search:
    """The plan of a search: its space, checked for every member, and what a member is with values of it."""

    def __init__(self, request: SearchRequest, overrides: list[str]) -> None:
        self.request, self.axes, self._overrides = request, request.space, overrides
        fixed = {override.partition("=")[0] for override in overrides}
        for key in ("member", *(axis.key for axis in self.axes)):
            if key in fixed:
                raise invalid(key, "", "is set for each trial", "leave it out; members and space say which")
        for member in request.members:
            check_axes(self.axes, member, self._plan)

    def at(self, member: str, values: Values) -> SearchRequest:
        """The request composed again for a member with values. Raises ValueError for unknown names."""
        chosen = [axis.override(values[axis.key]) for axis in self.axes if axis.key in values]
        try:
            return composed("search", SearchRequest, [*self._overrides, f"member={member}", *chosen])
        except UserError as error:
            raise UserError(f"{' '.join([f'member={member}', *chosen])}: {error}") from error

    def run(self, member: str, values: Values, corpus: Corpus) -> RunConfig:
        """The run of a trial."""
        asked = self.at(member, values)
        return asked.parts.run(asked.member, corpus)

    def _plan(self, member: str, values: Values) -> tuple[RunConfig, DataConfig]:
        asked = self.at(member, values)
        return asked.parts.planned(asked.member, expected_ids(asked.data), UNKNOWN, UNKNOWN), asked.data

    @property
    def path(self) -> Path:
        """The search's own folder: Optuna's journal, the table and the figure."""
        identity = {name: getattr(self.request, name) for name in IDENTITY}
        return Path(self.request.studies_dir) / content_name("search", identity)

    def study_name(self, member: str) -> str:
        """What Optuna calls the trials of a member."""
        return content_name(member, self.at(member, {}).member)


@entry("search", SearchRequest)
def main(request: SearchRequest) -> None:
    """Run the trials and print a table for each member."""
    need_optuna()
    overrides = list(HydraConfig.get().overrides.task)
    if request.precision == AUTO:
        request = request.settled()
        overrides = with_precision(overrides, request.precision)
    search = Search(request, overrides)
    corpus = prepared(request.data, request.corpora_dir)
    held_out(corpus, request.suite, CHOSEN)  # raises ValueError where there is no validation text to choose by
    with locked(search.path):
        studies = run_trials(search, corpus)
        rows = []
        for member, study in studies.items():
            trials = study.trials[: request.trials]
            protocol = choosing(search.run(member, trials[0].params, corpus))
            print("\n".join(lines(search.axes, member, f"{protocol.name}@{protocol.version}", trials)), end="\n\n")
            rows += [row for trial in trials for row in table_rows(search.axes, member, protocol.name, trial)]
        _write(search.path, rows)


def run_trials(search: Search, corpus: Corpus) -> "dict[str, Study]":
    """Run what is missing of every member's trials, round by round; returns the members' studies."""
    request = search.request
    studies = open_studies(search.path / "journal.jsonl", {name: search.study_name(name) for name in request.members})
    each = max(
        1, request.jobs // len(request.members)
    )  # a member's trials in a round, which know the earlier rounds only
    settings = (corpus.folder, request.placement, request.runs_dir, request.suite)
    with Pool(request.jobs) as pool:
        for first in range(0, request.trials, each):
            numbers = range(first, min(first + each, request.trials))
            asked = [
                (member, ask(study, number, search.axes, request.search_seed, request.random_trials))
                for member, study in studies.items()
                for number in numbers
            ]
            proposals = [
                Proposal(member, trial, search.run(member, trial.params, corpus)) for member, trial in asked if trial
            ]
            for proposal, score in train_proposals(proposals, settings, pool if request.jobs > 1 else None):
                tell(studies[proposal.member], proposal.trial, proposal.run.name, score)
    return studies


def _write(path: Path, rows: list[tuple[Any, ...]]) -> None:
    """The trials as a table, and their figure by a command of analysis/, which reads it."""
    write_text(path / "trials.csv", csv_text(COLUMNS, rows))
    print(f"trials   {path / 'trials.csv'}", flush=True)
    analyse(
        "search_figure", f"the search in {path} is complete, its figure is not", record=path / "trials.csv", out=path
    )


if __name__ == "__main__":
    main()
