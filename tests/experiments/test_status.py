"""What the grid says of a run: from its files, its lock and its last sign of life."""

import json
import time
from pathlib import Path

import pytest
from hydra import initialize_config_dir

from ettin_core.data.corpus import Corpus
from ettin_core.foundation.folders import locked
from ettin_core.foundation.manual import CONFIGURATIONS
from ettin_core.foundation.storage import write_json
from ettin_core.records.folders import RunFolder
from ettin_core.requests.compose import composed, composer
from ettin_core.studies.grid import StudyRequest
from ettin_core.studies.study import Study
from experiments.status import UNPREPARED, state, table
from tests.runs import tiny_run, train_tiny


@pytest.fixture
def stopped(corpus: Corpus, tmp_path: Path) -> RunFolder:
    """A run after 6 of its 17 steps."""
    run = tiny_run(corpus)
    train_tiny(run, tmp_path, corpus, stop_after=6)
    sign(RunFolder(tmp_path / run.name), step=6, clock=6 * 8 * 48)
    return RunFolder(tmp_path / run.name)


def sign(folder: RunFolder, **changes: object) -> None:
    """Change the last sign of life."""
    write_json(folder.heartbeat_file, json.loads(folder.heartbeat_file.read_text()) | changes)


def test_missing_stopped_running_complete(stopped: RunFolder, corpus: Corpus) -> None:
    assert state(RunFolder(stopped.path / "nothing")) == "missing"
    assert state(stopped).startswith("stopped at 30%, last sign 0:00:0")
    with locked(stopped.path):
        assert state(stopped).startswith("running: 30%, ") and state(stopped).endswith(" left")
        sign(stopped, time=time.time() - 3600, process=7)
        assert state(stopped) == "running: at 30%, but no step for 1:00:00 (process 7)"
    train_tiny(tiny_run(corpus), stopped.path.parent, corpus)
    assert state(stopped).startswith("complete: ")


def test_a_run_on_another_machine_is_known_by_its_signs(stopped: RunFolder) -> None:
    sign(stopped, host="another")
    assert state(stopped).startswith("running: 30%")
    sign(stopped, time=time.time() - 90)
    assert state(stopped) == "stopped at 30%, last sign 0:01:30 ago"


def looked_at(corpora: Path, runs: Path) -> Study:
    """The smoke study as the command looks at it."""
    overrides = ["study=smoke", "data.documents=1500", "data.tokenizer_sample_mb=32"]
    overrides += [f"corpora_dir={corpora}", f"runs_dir={runs}"]
    with initialize_config_dir(str(CONFIGURATIONS), version_base="1.3"):
        return Study(
            composed("study", StudyRequest, overrides), overrides, composer("study", StudyRequest), prepares=False
        )


def test_looking_prepares_no_corpus(tmp_path: Path) -> None:
    study = looked_at(tmp_path / "corpora", tmp_path / "runs")
    lines = table(study)
    assert sum(UNPREPARED in line for line in lines) == len(study.ready) == 2
    assert lines[-1] == "2 missing, 2 waits for its parent"
    assert list(tmp_path.iterdir()) == []
