"""The campaign of bad inputs: what is planted is counted, and cases of every area end clearly."""

import csv
import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from experiments.bad_inputs import AREAS
from experiments.campaign.cases import ACCEPTED, EITHER, KINDS, REFUSED, Case, Input, Outcome, counts, judge, spread
from experiments.campaign.processes import Ended, Environment

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-m", "experiments.bad_inputs"]


def campaign(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run the command in a process: its cases are copies of it, and a test's own threads are not to be copied."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run([*COMMAND, *arguments], cwd=folder, env=environment, capture_output=True, text=True)


@pytest.fixture
def planted(tmp_path: Path) -> Path:
    """A folder with a command that ends in each way."""
    (tmp_path / "planted.py").write_text(
        "import sys\n"
        "from pathlib import Path\n"
        "def main():\n"
        "    if 'fault' in sys.argv: raise KeyError('x')\n"
        "    if 'half' in sys.argv: Path('.a.building').mkdir(); Path('.a.building/b').touch()\n"
        "    if 'lose' in sys.argv: Path('precious').unlink()\n"
        "    if 'accept' in sys.argv: return\n"
        "    print('error: no' if 'mute' in sys.argv else \"error: key=3 is not 4; use 4.\", file=sys.stderr)\n"
        "    sys.exit(2)\n"
    )
    return tmp_path


@pytest.mark.parametrize(
    ("way", "expect", "kind"),
    [
        ("refuse", REFUSED, "clear"),
        ("accept", REFUSED, "silent"),
        ("accept", ACCEPTED, "clear"),
        ("refuse", ACCEPTED, "unclear"),
        ("fault", EITHER, "traceback"),
        ("half", EITHER, "silent"),
        ("lose", EITHER, "silent"),
        ("mute", EITHER, "unclear"),
    ],
)
def test_each_way_to_end_is_counted(
    way: str, expect: str, kind: str, planted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(planted))
    folder = tmp_path / "case"
    folder.mkdir()
    trial = Input("planted", (way,), ("key",), expect, prepare=lambda place: (place / "precious").touch())
    outcome = trial(folder)
    assert outcome.kind == kind, outcome.printed
    [row] = counts({"area": [outcome, Outcome("not possible here", "")]})
    assert row["tried"] == 1 and row[kind] == 1 and row["not possible here"] == 1


def test_another_answer_is_silent_unless_it_says_why(
    planted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(planted))
    (tmp_path / "case").mkdir()
    trial = partial(Input, "planted", ("accept",), ("file",), EITHER, answer=lambda *_: "a")
    answers = {usual: trial(usual=partial(str, usual)) for usual in "ab"}
    assert {usual: trial(tmp_path / "case").kind for usual, trial in answers.items()} == {"a": "clear", "b": "silent"}


def test_what_a_signal_ends_or_nothing_ends_is_not_clear() -> None:
    assert judge(Ended(-11, "", ""), EITHER, ()).kind == "traceback"
    assert judge(Ended(None, "", ""), EITHER, ()).kind == "silent"
    assert judge(Ended(2, "", "Error executing job\nerror: a=1 is no; use 2"), EITHER, ("a",)).kind == "unclear"


def test_cases_are_spread_over_an_area() -> None:
    cases = [Case(str(number), lambda folder: Outcome("clear", "")) for number in range(100)]
    assert [case.name for case in spread(cases, 4)] == ["0", "25", "50", "75"]
    assert spread(cases, None) == cases == spread(cases, 1000)
    assert Environment() == Environment(variables={})


@pytest.mark.timeout(600)
def test_cases_of_every_area_end_clearly(tmp_path: Path) -> None:
    done = campaign(tmp_path, "most=1", "jobs=1", "out=found")
    assert done.returncode == 0, done.stdout
    rows = list(csv.DictReader((tmp_path / "found" / "bad_inputs.csv").open()))
    assert [row["area"] for row in rows] == list(AREAS)
    assert all(int(row["tried"]) == sum(int(row[kind]) for kind in KINDS[:-1]) for row in rows)
    assert set(json.loads((tmp_path / "found" / "bad_inputs.json").read_text())) == set(AREAS)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_every_bad_input_ends_clearly(tmp_path: Path) -> None:
    done = campaign(tmp_path, "out=found")
    assert done.returncode == 0, done.stdout
    tried = {row["area"]: int(row["tried"]) for row in csv.DictReader((tmp_path / "found" / "bad_inputs.csv").open())}
    assert (
        tried["configuration"] > 300 and tried["texts"] > 140 and tried["run_folders"] > 300 and tried["records"] > 200
    )
