"""What the grid says of a run: from its files, its lock and its last sign of life."""

import json
import time
from pathlib import Path

import pytest

from ettin_core.data.corpus import Corpus
from ettin_core.foundation.folders import locked
from ettin_core.foundation.storage import write_json
from ettin_core.records.folders import RunFolder
from experiments.status import state
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
