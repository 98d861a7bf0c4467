"""Trials as Optuna keeps them, in a journal: the values of a trial depend on the seed, its number and earlier trials."""

from pathlib import Path
from typing import TYPE_CHECKING

from ettin_core.foundation.errors import invalid, with_extra
from ettin_core.foundation.randomness import derive
from ettin_core.foundation.storage import append_json_lines
from ettin_core.studies.run_jobs import HeldoutLoss
from ettin_core.studies.search_space import Axis

if TYPE_CHECKING:
    from optuna import Study, Trial


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
