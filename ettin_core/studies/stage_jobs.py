"""The jobs of a study's stages: what each is given, what it left, and which of them can begin."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ettin_core.evaluation.suite_config import SuiteConfig
from ettin_core.foundation.storage import content_name, hash_file, read_mapping
from ettin_core.foundation.strict_config import plain
from ettin_core.planning.run_plan import open_run
from ettin_core.records.folders import folder_of
from ettin_core.studies.stages import Stage
from ettin_core.studies.worker_pool import Job
from ettin_core.training.config import PlacementConfig

if TYPE_CHECKING:
    from ettin_core.studies.study import Study

FOLDER = "stages"  # of a run folder: the models and the marks of what followed it
# run: the name of the run that was made; model: the folder of a model; measured: the hash of the settings of the records that
# were added to the cell's run, by <protocol>@<version>
Result = dict[str, Any]


@dataclass(frozen=True)
class StageWork:
    """What a job is given. `model` is what its command takes: a run folder, or the folder of a tuned model.

    The job's models are `out` and what begins with it, and `mark` is written last.
    """

    command: str
    member: str
    options: tuple[str, ...]
    sources: tuple[Path, ...]
    model: str
    base: Path | None
    retriever: str | None
    seed: int
    suite: SuiteConfig
    placement: PlacementConfig
    runs_dir: str
    corpora_dir: str

    @property
    def mark(self) -> Path:
        """What the job left: a file that is named by all that decides it."""
        return self.sources[0] / FOLDER / f"{self._name}.json"

    @property
    def out(self) -> Path:
        """The folder of the model that it writes."""
        return self.sources[0] / FOLDER / self._name

    @property
    def _name(self) -> str:
        identity = {
            "options": self.options,
            "files": [_content(option.partition("=")[2]) for option in self.options],
            "sources": [path.name for path in self.sources],
            "base": None if self.base is None else self.base.name,
            "retriever": None if self.retriever is None else Path(self.retriever).name,
            "seed": self.seed,
            "suite": plain(self.suite) if self.command == "quantise" else None,
        }
        return content_name(self.command, identity)


class StageCommands(Protocol):
    """The commands of stages, which compose their own configurations."""

    @property
    def run(self) -> Callable[[StageWork], Result]:
        """Does what is missing of a stage and returns what it made; found by name in another process."""

    def check(self, stage: Stage) -> None:
        """Raises ValueError for options that the command does not have, or a missing extra."""


def check_stages(stages: Mapping[str, Stage], commands: StageCommands) -> None:
    """Raises ValueError for a stage that cannot run, before anything is trained."""
    for stage in {(item.label, str(item.levels)): item for item in stages.values()}.values():
        commands.check(stage)


class StageJobs:
    """The jobs of a study's stages."""

    def __init__(self, study: "Study", stages: Mapping[str, Stage], commands: StageCommands | None) -> None:
        self._study, self.stages, self._commands = study, stages, commands
        for name in stages:
            if (result := self.result(name)) is not None:
                self.take(name, result)

    def work(self, name: str) -> StageWork | None:
        """What a job is given; None while a cell or model that it is made of is missing."""
        stage, study = self.stages[name], self._study
        cells = [*stage.sources, *([] if stage.base is None else [stage.base])]
        if any(cell not in study.ready or not study.folder(cell).complete for cell in cells):
            return None
        before = self.result(stage.sources[0]) if stage.sources[0] in self.stages else {}
        chosen = {} if stage.retriever is None else self.result(stage.retriever)
        if before is None or chosen is None:
            return None
        paths = [study.folder(cell).path for cell in cells]
        request = stage.request
        return StageWork(
            command=stage.config.command,
            member=stage.member,
            options=tuple(stage.options),
            sources=tuple(paths[: len(stage.sources)]),
            model=str(before.get("model") or paths[0]),
            base=None if stage.base is None else paths[-1],
            retriever=chosen.get("model"),
            seed=request.seed,
            suite=request.suite,
            placement=request.placement,
            runs_dir=request.runs_dir,
            corpora_dir=request.corpora_dir,
        )

    def result(self, name: str) -> Result | None:
        """What a job left; None where it is not done."""
        work = self.work(name)
        if work is None or not work.mark.is_file():
            return None
        result = read_mapping(work.mark, "delete it, and start the study again")
        runs_dir = Path(self.stages[name].request.runs_dir)
        gone = "run" in result and not folder_of(str(result["run"]), runs_dir).complete
        return None if gone else result

    def measured(self, run: str) -> dict[str, str]:
        """The settings of what stages measured of a run, so that a report reads these records and no others."""
        results = [
            self.result(name) or {}
            for name in self.stages
            if self._study.folder(self.stages[name].sources[0]).name == run
        ]
        return {protocol: settings for result in results for protocol, settings in result.get("measured", {}).items()}

    def take(self, name: str, result: Result) -> None:
        """Enter the run that a job made among those of the study."""
        if "run" in result:
            folder = folder_of(str(result["run"]), Path(self.stages[name].request.runs_dir))
            self._study.runs[name] = open_run(str(folder.path))[1]
            if name not in self._study.ready:
                self._study.ready.append(name)

    def ready(self, ended: set[str], queued: set[str]) -> list[Job]:
        """The jobs, of those that are not queued, all of whose cells are measured and whose earlier jobs are done."""
        names = [
            name for name, stage in self.stages.items() if name not in queued and ended.issuperset(stage.waits_for)
        ]
        assert self._commands is not None or not names
        return [
            Job(self.stages[name].config.command, name, self._commands.run, (self.work(name),))  # type: ignore[union-attr]
            for name in names
        ]

    def state(self, name: str) -> str:
        """The state of a job in words."""
        if self.result(name) is not None:
            return "complete"
        return "waits for its cells" if self.work(name) is None else "missing"


def _content(value: str) -> str | None:
    """The hash of a file that an option names."""
    path = Path(value.strip("'"))
    return hash_file(path) if len(value) < 4096 and path.is_file() else None
