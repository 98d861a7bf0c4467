"""The search, with real Optuna: killed and repeated, with a trial that diverges, and invalid spaces."""

import csv
import json
import shutil
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from analysis.load import load
from ettin_core.data.config import DataConfig
from ettin_core.data.corpus import Corpus
from ettin_core.data.preparation.prepare import prepare
from ettin_core.evaluation.protocol import Protocol
from ettin_core.evaluation.suite import applicable, evaluate
from ettin_core.evaluation.suite_config import SuiteConfig
from ettin_core.records.folders import RunFolder, run_folders
from ettin_core.studies.run_jobs import HeldoutLoss, choosing, score_stage
from ettin_core.studies.search_space import Axis
from ettin_core.studies.search_trials import ask, open_studies, tell
from experiments.search import main
from tests import processes
from tests.evaluation.test_estimators import tiny
from tests.runs import PLACEMENT, tiny_run

SUITE = SuiteConfig(500, 4, 1, None, 4096)
SMOKE = ["recipe=smoke", "recipe.tokens=5000", "suite=smoke", "data.documents=1500", "data.vocab_size=1024", "trials=2"]


def start(folder: Path, *arguments: str) -> processes.Process:
    """Start a search in a separate folder."""
    return processes.start(folder, "experiments.search", *SMOKE, *arguments)


def trials(folder: Path) -> list[dict[str, str]]:
    """The trials of the only search of a folder."""
    [table] = folder.glob("studies/search-*/trials.csv")
    return list(csv.DictReader(table.open()))


@pytest.mark.slow
def test_a_killed_search_ends_with_the_same_trials(tmp_path: Path) -> None:
    calm, killed = tmp_path / "calm", tmp_path / "killed"
    for folder in (calm, killed):
        folder.mkdir()
    space = "space=[{key:optimizer.learning_rate,low:1e-6,high:1e12,log:true}]"  # wide enough that a trial diverges
    undisturbed = start(calm, f"corpora_dir={tmp_path}", space)
    assert undisturbed.wait() == 0, undisturbed.stderr
    out = undisturbed.stdout
    expected = trials(calm)
    assert [(row["member"], row["trial"]) for row in expected] == [
        (member, number) for member in ("encoder", "decoder") for number in "01"
    ]
    assert {row["value"] for row in expected[:2]} == {row["value"] for row in expected[2:]}
    ended = [run.name for run in run_folders(calm / "runs") if run.complete]
    assert {row["run"] for row in expected if row["loss"]} == set(ended)
    assert out.count("diverged") == len(expected) - len(ended) > 0
    assert out.count("best: loss") == 2
    assert next(calm.glob("studies/search-*/search.png")).stat().st_size > 0

    victim = start(killed, f"corpora_dir={tmp_path}", space)
    while victim.poll() is None and not list(killed.glob("runs/nano-decoder-*/checkpoints/*")):
        time.sleep(0.02)
    victim.send_signal(signal.SIGKILL)
    victim.wait()
    before = {file: file.stat().st_mtime_ns for file in killed.glob("runs/*/COMPLETE")}
    again = start(killed, f"corpora_dir={tmp_path}", space)
    assert again.wait() == 0, again.stderr
    assert trials(killed) == expected
    assert all(file.stat().st_mtime_ns == stamp for file, stamp in before.items())
    for run in run_folders(killed / "runs"):
        steps = [row.step for row in run.training()]
        assert len(steps) == len(set(steps))
        assert not run.complete or len(run.summary()["sessions"]) == 1


def test_a_trial_does_not_depend_on_who_asks(tmp_path: Path) -> None:
    axes = (Axis("a", 1e-4, 1e-2, log=True), Axis("b", 8.0, 64.0, integer=True), Axis("c", choices=("x", "y", "z")))

    def values(file: Path, number: int) -> dict[str, Any]:
        trial = ask(open_studies(file, {"m": "m"})["m"], number, axes, seed=3, random_trials=1)
        assert trial is not None
        return trial.params

    def end_trial(file: Path, number: int) -> None:
        study = open_studies(file, {"m": "m"})["m"]
        trial = ask(study, number, axes, seed=3, random_trials=1)
        assert trial is not None
        tell(study, trial, "run", HeldoutLoss(float(number), 0.1) if number else HeldoutLoss(None))

    calm, killed = tmp_path / "calm.jsonl", tmp_path / "killed.jsonl"
    expected = []
    for number in range(4):
        expected.append(values(calm, number))
        end_trial(calm, number)
    for number in range(4):
        open_studies(killed, {"m": "m"})["m"].ask()  # killed before the trial had a value
        with killed.open("a") as file:
            file.write('{"torn')
        killed.with_name("killed.jsonl.lock").touch()
        assert values(killed, number) == expected[number]
        end_trial(killed, number)
    assert len({str(item) for item in expected}) == 4


RATE = "key:optimizer.learning_rate"
BAD_SEARCHES = {
    "an unknown key": (["space=[{key:optimizer.rate,low:1,high:2}]"], "optimizer.rate=1"),
    "ends the wrong way round": ([f"space=[{{{RATE},low:1e-2,high:1e-4}}]"], "is an empty range"),
    "a logarithm of zero": ([f"space=[{{{RATE},low:0,high:1,log:true}}]"], "has no logarithm"),
    "no range": ([f"space=[{{{RATE},low:1e-3}}]"], "is not a range"),
    "one choice": ([f"space=[{{{RATE},choices:[0.1]}}]"], "leaves nothing to choose"),
    "an unknown word": ([f"space=[{{{RATE},lo:1e-3}}]"], "did you mean 'space.0.low'"),
    "no key": (["space=[]"], "space=[] is empty or names a key twice"),
    "a key that moves nothing": (["space=[{key:placement.threads,low:1,high:2,integer:true}]"], "the same run twice"),
    "other text": (["space=[{key:data.documents,choices:[100,200]}]"], "changes what the validation loss is a loss of"),
    "a value that cannot be": ([f"space=[{{{RATE},choices:[0.1,fast]}}]"], "has type str"),
    "no trial": (["trials=0"], "trials=0 is not positive"),
    "an unknown member": (["members=[encoder,nope]"], "member='nope' is not there"),
    "a member beside the members": (["member=decoder"], "is set for each trial"),
}


@pytest.mark.parametrize("case", BAD_SEARCHES)
def test_a_bad_search_is_one_line_before_any_trial(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, message = BAD_SEARCHES[case]
    assert message in refused(arguments, tmp_path, monkeypatch, capsys)


def test_optuna_is_optional(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert 'pip install -c constraints.txt -e ".[sweeps]"' in refused([], tmp_path, monkeypatch, capsys)


def refused(
    arguments: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> str:
    """The only line that a search prints when it does not begin."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    monkeypatch.setattr(sys, "argv", ["search", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    [line] = capsys.readouterr().err.splitlines()
    assert not list(folder.iterdir())
    return line


def test_choices_and_reports_read_different_text(tmp_path: Path) -> None:
    """Only the validation text moves what trials are chosen by, and only the test text what a report shows."""

    def prepared_with(name: str, **texts: str) -> Corpus:
        for split in ("train", "validation", "test"):
            text = texts.get(split, "The keys near the cabinet are dry.")
            rows = [json.dumps({"text": f"{text} {text} No {number} of {split}."}) for number in range(12)]
            (tmp_path / name).mkdir(exist_ok=True)
            (tmp_path / name / f"notes.{split}.jsonl").write_text("\n".join(rows))
        tokenizer = str(tmp_path / "tokenizer") if texts else None
        config = DataConfig(kind="text", name="notes", path=str(tmp_path / name), vocab_size=300, tokenizer=tokenizer)
        return prepare(config, tmp_path / "corpora", workers=1)

    base = prepared_with("base")
    shutil.copytree(base.folder / "tokenizer", tmp_path / "tokenizer")
    others = [prepared_with("choice", validation="Zebras jump!"), prepared_with("report", test="Zebras jump!")]
    for member, objective in (("encoder", "mlm"), ("decoder", "clm")):
        [reported] = [
            item for item in applicable(tiny_run(base, member).read_as, SUITE) if item.name == f"heldout_{objective}"
        ]

        def losses(protocol: Protocol, objective: str = objective) -> list[float | None]:
            measured = [protocol.measure(tiny(corpus, objective), corpus, SUITE)[0] for corpus in (base, *others)]
            return [results[0].value for results in measured]

        before, other_choice, same_choice = losses(choosing(tiny_run(base, member)))
        assert before == same_choice != other_choice
        before, same_report, other_report = losses(reported)
        assert before == same_report != other_report


def test_the_score_of_a_trial_is_in_no_report(tmp_path: Path, corpus: Corpus) -> None:
    run = tiny_run(corpus, "decoder")
    run = replace(run, recipe=replace(run.recipe, tokens=1152))
    score = score_stage(run, corpus.folder, PLACEMENT, str(tmp_path / "runs"), SUITE)
    folder = RunFolder(tmp_path / "runs" / run.name)
    assert {row.protocol for row in folder.measurements()} == {"validation_clm"}
    assert load(tmp_path / "runs").measurements.empty
    evaluate(run, folder, corpus, SUITE, device="cpu", protocols=[choosing(run), *applicable(run.read_as, SUITE)[:1]])
    reported = load(tmp_path / "runs").measurements.set_index(["protocol", "metric"])["value"]
    assert set(reported.index.get_level_values(0)) == {"heldout_clm"}
    assert reported["heldout_clm", "loss"] != score.loss
