"""Trials as Optuna keeps them, in a journal: the values of a trial depend on the seed, its number and earlier trials."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ettin_core.evaluation.suite_config import SuiteConfig
from ettin_core.foundation.errors import RunStopped, invalid, with_extra
from ettin_core.foundation.randomness import derive
from ettin_core.foundation.storage import append_json_lines
from ettin_core.studies.run_jobs import HeldoutLoss, score_stage
from ettin_core.studies.search_space import Axis
from ettin_core.studies.worker_pool import Job, Pool
from ettin_core.training.config import PlacementConfig, RunConfig

if TYPE_CHECKING:
    from optuna import Study, Trial


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


def need_optuna() -> None:
    """Raises ValueError if Optuna, which is optional, is not installed."""
    try:
        import optuna  # noqa: F401
    except ImportError as error:
        raise invalid("search", "optuna", "is not installed", with_extra("sweeps")) from error


def open_studies(journal: Path, names: dict[str, str]) -> "dict[str, Study]":
    """The Optuna study of each member, by its name in the journal, new or continued; the caller holds the folder's lock.

    Removes first what a killed process may have left: a torn last line, and Optuna's lock.
    """
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    append_json_lines(journal, [])
    journal.with_name(f"{journal.name}.lock").unlink(missing_ok=True)
    storage = JournalStorage(JournalFileBackend(str(journal)))
    return {
        member: optuna.create_study(study_name=name, storage=storage, load_if_exists=True)
        for member, name in names.items()
    }


def ask(study: "Study", number: int, axes: tuple[Axis, ...], seed: int, random_trials: int) -> "Trial | None":
    """A trial by its number, new or begun before (None: it has ended), with a value on every axis.

    Every value has a sampler and a seed, so that it does not depend on the process that asks.
    """
    from optuna import Trial
    from optuna.samplers import TPESampler

    trials = study.trials
    if number < len(trials) and trials[number].state.is_finished():
        return None
    trial = Trial(study, trials[number]._trial_id) if number < len(trials) else study.ask()
    for axis in axes:
        key = derive(seed, "search", number, axis.key) % 2**32
        study.sampler = TPESampler(n_startup_trials=random_trials, seed=key)
        _suggest(axis, trial)
    return trial


def _suggest(axis: Axis, trial: "Trial") -> None:
    """Suggest a value on an axis; a trial that has one already keeps it."""
    if axis.choices:
        trial.suggest_categorical(axis.key, axis.choices)
    elif axis.integer:
        trial.suggest_int(axis.key, *axis.ends, log=axis.log)
    else:
        trial.suggest_float(axis.key, *axis.ends, log=axis.log)


def tell(study: "Study", trial: "Trial", run: str, score: HeldoutLoss) -> None:
    """Record the result of a trial; one that diverged counts as pruned, so the sampler avoids its values."""
    from optuna.trial import TrialState

    trial.set_user_attr("run", run)
    trial.set_user_attr("standard_error", score.standard_error)
    if score.loss is None:
        study.tell(trial, state=TrialState.PRUNED)
    else:
        study.tell(trial, score.loss)


def train_proposals(
    proposals: list[Proposal], settings: tuple[Path, PlacementConfig, str, SuiteConfig], pool: Pool | None
) -> Iterator[tuple[Proposal, HeldoutLoss]]:
    """Train and score proposals as they end, in a pool's workers or (None) in this process.

    `settings` are the other arguments of `score_stage`. Raises RunStopped, after the others, if one cannot be trained.
    """
    if pool is None:
        yield from ((proposal, score_stage(proposal.run, *settings)) for proposal in proposals)
        return
    named = {proposal.name: proposal for proposal in proposals}
    for name, proposal in named.items():
        pool.add(Job("search", name, score_stage, (proposal.run, *settings)))
    failures = []
    for outcome in pool.outcomes():
        if outcome.error is not None:
            failures.append(f"{outcome.job.name}: {outcome.error}")
        else:
            yield named[outcome.job.cell], outcome.result
    if failures:
        raise RunStopped(f"{'; '.join(failures)}; mend this and start the same command again")
