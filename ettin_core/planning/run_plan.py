"""From configurations to a run: a member, what all members share, and runs and corpora that exist already."""

from dataclasses import dataclass
from pathlib import Path

from ettin_core.checkpoints.retention import CheckpointConfig
from ettin_core.data.corpus import Corpus
from ettin_core.foundation.errors import UserError, invalid
from ettin_core.foundation.fields import check_name
from ettin_core.foundation.strict_config import build
from ettin_core.objectives.config import ObjectiveConfig, check_run
from ettin_core.optim.config import OptimizerConfig
from ettin_core.planning.plan_checks import check_plan
from ettin_core.planning.sizes import SizeConfig
from ettin_core.records.folders import RunFolder, find_run
from ettin_core.training.config import RunConfig, Seeds
from ettin_core.training.phases import RecipeConfig


@dataclass(frozen=True)
class MemberConfig:
    """A direction and an objective."""

    name: str
    direction: str
    objective: ObjectiveConfig

    def __post_init__(self) -> None:
        check_name("member.name", self.name)
        check_run(self.direction, self.objective)


@dataclass(frozen=True)
class TrainingParts:
    """What every member of a study shares."""

    size: SizeConfig
    recipe: RecipeConfig
    optimizer: OptimizerConfig
    seeds: Seeds
    precision: str
    checkpoint: CheckpointConfig

    def run(self, member: MemberConfig, corpus: Corpus) -> RunConfig:
        """The run of a member on a prepared corpus."""
        return self.planned(member, corpus.tokenizer.vocab_size, corpus.name, corpus.fingerprint)

    def planned(self, member: MemberConfig, tokenizer_size: int, corpus: str, fingerprint: str) -> RunConfig:
        """The run of a member on a corpus known by name only, for an audit before it is prepared.

        Raises ValueError if the plan cannot be trained.
        """
        if self.recipe.tokens == 0:
            raise invalid("recipe.tokens", 0, "trains nothing", "give a number of tokens, e.g. 3e6")
        run = RunConfig(
            member=member.name,
            size=self.size.name,
            direction=member.direction,
            objective=member.objective,
            model=self.size.model(tokenizer_size),
            recipe=self.size.recipe(self.recipe, member.name),
            optimizer=self.optimizer,
            corpus=corpus,
            fingerprint=fingerprint,
            precision=self.precision,
            seeds=self.seeds,
            checkpoint=self.checkpoint,
        )
        return check_plan(run)


def open_run(path: str) -> tuple[RunFolder, RunConfig]:
    """A run folder, by path, beginning of its name or `latest`, and its configuration. Raises ValueError if it is missing."""
    folder = find_run(path)
    try:
        return folder, build(RunConfig, folder.config())
    except UserError as error:
        if str(folder.config_file) in str(error):
            raise
        raise UserError(f"file={str(folder.config_file)!r}: {error}") from error


def prepared_corpus(folder: Path) -> Corpus:
    """A corpus named by the user. Raises ValueError if it is missing."""
    if not (folder / "manifest.json").is_file():
        raise invalid(
            "corpus", folder.name, f"is not a prepared corpus in {folder.parent}", "prepare it, or name another"
        )
    return Corpus(folder)


def open_corpus(run: RunConfig, corpora: Path) -> Corpus:
    """The corpus of a run. Raises ValueError if it is missing or its tokens differ."""
    if not (corpora / run.corpus / "manifest.json").is_file():
        raise invalid(
            "corpora_dir",
            str(corpora),
            f"does not hold the run's corpus {run.corpus}",
            "give the folder that does, or prepare it again",
        )
    corpus = Corpus(corpora / run.corpus)
    if corpus.fingerprint != run.fingerprint:
        raise invalid(
            "corpus", str(corpus.folder), "holds other tokens than the run was trained on", "prepare it again"
        )
    return corpus
