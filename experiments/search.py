"""python -m experiments.search size=nano data=world: each member's best learning rate, with equally many trials for each.

Optuna proposes, Hydra composes, and a trial is a content-named run, scored by the validation loss of its own objective: a
split that no report tells of. Losses are compared within a member only. What a trial proposes depends on the seed, its
number and the trials before it:
a search that was killed ends with the same trials, and repeated it trains nothing.
"""

from collections.abc import Iterable, Iterator
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
from ettin_core.foundation.errors import RunStopped, UserError, invalid
from ettin_core.foundation.folders import locked
from ettin_core.foundation.spreadsheet import csv_text
from ettin_core.foundation.storage import content_name, write_text
from ettin_core.planning.forecast import UNKNOWN
from ettin_core.requests.compose import composed
from ettin_core.requests.train import TrainRequest
from ettin_core.studies.run_jobs import HeldoutLoss, choosing, score_stage
from ettin_core.studies.search_space import Axis, Values, check_axes
from ettin_core.studies.search_trials import ask, need_optuna, open_studies, tell
from ettin_core.studies.stale import check_choice
from ettin_core.studies.worker_pool import Job, Pool
from ettin_core.training.config import RunConfig
from experiments.cli.entry import entry
from experiments.cli.report import analyse

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.trial import FrozenTrial

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
COLUMNS = ("member", "protocol", "trial", "key", "value", "log", "loss", "standard_error", "run")


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
            raise invalid("members", self.members, "is no list of members", "use members=[encoder,decoder]")
        keys = [axis.key for axis in self.space]
        if not keys or len(set(keys)) < len(keys):
            raise invalid("space", keys, "is no list of keys", "give at least one, each once")
        for name in ("trials", "random_trials", "jobs"):
            if getattr(self, name) < 1:
                raise invalid(name, getattr(self, name), "is not positive", "use 1 or more")


@dataclass(frozen=True)
class Proposal:
    """A trial of a member: the values Optuna proposed, and the run they make."""

    member: str
    trial: "Trial"
    run: RunConfig

    @property
    def name(self) -> str:
        """What the trial is called while it runs."""
        return f"{self.member} trial {self.trial.number}"


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
        """The request composed again for a member with values. Raises ValueError for names that are not there."""
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
    search = Search(request, list(HydraConfig.get().overrides.task))
    corpus = prepared(request.data, request.corpora_dir)
    held_out(corpus, request.suite, CHOSEN)  # raises where nothing could be chosen by
    with locked(search.path):
        studies = run_trials(search, corpus)
        rows = []
        for member, study in studies.items():
            trials = study.trials[: request.trials]
            protocol = choosing(search.run(member, trials[0].params, corpus))
            print("\n".join(report(search.axes, member, f"{protocol.name}@{protocol.version}", trials)), end="\n\n")
            rows += [row for trial in trials for row in _rows(search.axes, member, protocol.name, trial)]
        _write(search.path, rows)


def run_trials(search: Search, corpus: Corpus) -> "dict[str, Study]":
    """Run what is missing of every member's trials, round by round; returns the members' studies."""
    request = search.request
    studies = open_studies(search.path / "journal.jsonl", {name: search.study_name(name) for name in request.members})
    each = max(
        1, request.jobs // len(request.members)
    )  # trials of a member in a round: they know the rounds before only
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
            for proposal, score in _scores(proposals, corpus, request, pool):
                tell(studies[proposal.member], proposal.trial, proposal.run.name, score)
    return studies


def _scores(
    proposals: list[Proposal], corpus: Corpus, request: SearchRequest, pool: Pool
) -> Iterator[tuple[Proposal, HeldoutLoss]]:
    """Train and score the runs of a round, in this process or in workers. Raises RunStopped for one that cannot be."""
    named = {proposal.name: proposal for proposal in proposals}
    places = (corpus.folder, request.placement, request.runs_dir, request.suite)
    if request.jobs == 1:
        yield from ((proposal, score_stage(proposal.run, *places)) for proposal in proposals)
        return
    for proposal in proposals:
        pool.add(Job("search", proposal.name, score_stage, (proposal.run, *places)))
    failures = []
    for outcome in pool.outcomes():
        if outcome.error is not None:
            failures.append(f"{outcome.job.name}: {outcome.error}")
        else:
            yield named[outcome.job.cell], outcome.result
    if failures:
        raise RunStopped(f"{'; '.join(failures)}; mend this and start the same command again")


def report(axes: tuple[Axis, ...], member: str, protocol: str, trials: "list[FrozenTrial]") -> Iterator[str]:
    """The lines about a member: every trial, the best one, whether it lies at an edge, and how to use it."""
    widths = [max(len(axis.key), 12) for axis in axes]
    heads = "".join(f"{axis.key:>{width + 2}}" for axis, width in zip(axes, widths, strict=True))
    yield f"{member}: validation loss of its own objective ({protocol}), {len(trials)} trials"
    yield f"{'trial':>5}{heads}{'loss':>10}{'± se':>8}  run"
    for trial in trials:
        values = "".join(
            f"{_short(trial.params[axis.key]):>{width + 2}}" for axis, width in zip(axes, widths, strict=True)
        )
        error = trial.user_attrs["standard_error"]
        loss = "diverged" if trial.value is None else f"{trial.value:.4f}"
        yield f"{trial.number:>5}{values}{loss:>10}{'' if error is None else f'{error:.4f}':>8}  {trial.user_attrs['run']}"
    ended = [trial for trial in trials if trial.value is not None]
    if not ended:
        yield "no trial ended with a number: lower the range"
        return
    best = min(ended, key=lambda trial: trial.value or 0.0)
    yield f"best: loss {best.value:.4f} with {' '.join(axis.override(best.params[axis.key]) for axis in axes)}"
    for axis in axes:
        side = _edge(axis, best.params[axis.key], [trial.params[axis.key] for trial in trials])
        if side:
            yield f"no trial has a {side} {axis.key} than the best: widen space.{axis.key} to that side, or add trials"


def _edge(axis: Axis, best: Any, tried: Iterable[Any]) -> str | None:
    """On which side of the best value nothing was tried; what diverged was."""
    if axis.choices:
        return None
    values = list(tried)
    return "lower" if best == min(values) else "higher" if best == max(values) else None


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _rows(axes: tuple[Axis, ...], member: str, protocol: str, trial: "FrozenTrial") -> Iterator[tuple[Any, ...]]:
    error, run = trial.user_attrs["standard_error"], trial.user_attrs["run"]
    for axis in axes:
        yield member, protocol, trial.number, axis.key, trial.params[axis.key], axis.log, trial.value, error, run


def _write(path: Path, rows: list[tuple[Any, ...]]) -> None:
    """The trials as a table, and their figure by the analysis room, which reads it."""
    write_text(path / "trials.csv", csv_text(COLUMNS, rows))
    print(f"trials   {path / 'trials.csv'}", flush=True)
    analyse(
        "search_figure", f"the search in {path} is complete, its figure is not", record=path / "trials.csv", out=path
    )


if __name__ == "__main__":
    main()
