"""Measuring every kept checkpoint of a run, and models of transformers beside runs."""

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from ettin_core.data.corpus import Corpus
from ettin_core.evaluation.suite_config import SuiteConfig
from ettin_core.foundation.errors import UserError
from ettin_core.planning.run_plan import open_corpus, open_run
from ettin_core.records.folders import RunFolder
from ettin_core.records.schema import Measurement
from ettin_core.requests.evaluate import EvaluateRequest, evaluate_pretrained
from ettin_core.studies.evaluate_run import evaluate_run
from experiments.evaluate import main, table
from experiments.export import export_run
from tests.evaluation.small_sets import write_sets
from tests.runs import tiny_run, train_tiny

MEMBERS = ("encoder", "decoder")


@pytest.fixture(scope="module")
def runs(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> dict[str, RunFolder]:
    """A tiny run of each member."""
    root = tmp_path_factory.mktemp("runs")
    return {member: train_tiny(tiny_run(corpus, member), root, corpus) for member in MEMBERS}


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> SuiteConfig:
    """Text sets of a few rows."""
    return SuiteConfig(300, 4, 5, str(write_sets(tmp_path_factory.mktemp("sets"))), None)


def request_of(suite: SuiteConfig, **changes: object) -> EvaluateRequest:
    """A request for a model."""
    request = EvaluateRequest(None, None, "m", None, None, None, "evaluations", suite, "cpu", 1, "corpora")
    return replace(request, **changes)  # type: ignore[arg-type]


def test_every_kept_checkpoint_is_measured_once(
    runs: dict[str, RunFolder], suite: SuiteConfig, corpora_dir: Path
) -> None:
    folder = runs["encoder"]
    chosen = replace(suite, protocols=("pronouns", "crows_pairs.sentence"))
    rows = evaluate_run(folder.path, corpora_dir, chosen, "cpu", 1, "all")
    kept = {path.name for path in folder.checkpoints.glob("[!.]*")}
    assert len(kept) > 2 and {row.checkpoint for row in rows} == kept
    assert set(folder.evaluated_checkpoints()) == kept - {folder.summary()["final_checkpoint"]}
    assert len({(row.checkpoint, row.protocol, row.task, row.metric) for row in rows}) == len(rows)
    times = {path: path.stat().st_mtime_ns for path in folder.path.glob("evaluations/**/measurements.jsonl")}
    assert evaluate_run(folder.path, corpora_dir, chosen, "cpu", 1, "all") == rows
    assert {path: path.stat().st_mtime_ns for path in times} == times and len(times) == 2 * len(kept)
    assert table(rows).count("\ncheckpoint ") == len(kept)


def test_a_checkpoint_of_an_unfinished_run_is_measured(
    runs: dict[str, RunFolder],
    corpora_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = RunFolder(Path(shutil.copytree(runs["decoder"].path, tmp_path / runs["decoder"].path.name)))
    (folder.path / "COMPLETE").unlink()
    name = sorted(path.name for path in folder.checkpoints.glob("[!.]*"))[0]
    options = [f"run={folder.path}", f"checkpoint={name}", "suite=smoke", "suite.protocols=[pronouns]"]
    monkeypatch.setattr("sys.argv", ["evaluate", *options, f"corpora_dir={corpora_dir}", "device=cpu"])
    main()
    assert "pronouns" in capsys.readouterr().out and folder.evaluated_checkpoints() == [name]


def test_whoever_opens_a_damaged_corpus_is_stopped(
    runs: dict[str, RunFolder], suite: SuiteConfig, corpus: Corpus, tmp_path: Path
) -> None:
    """A shard that changed in its place, size and time of change kept, after it was verified and trained on."""
    copy = Path(shutil.copytree(corpus.folder, tmp_path / "corpora" / corpus.name))
    path = str(runs["encoder"].path)
    readers: dict[str, Callable[[], object]] = {
        "evaluate": lambda: evaluate_run(Path(path), tmp_path / "corpora", suite, "cpu", 1),
        "view_batch": lambda: open_corpus(open_run(path)[1], tmp_path / "corpora"),
        "train": lambda: train_tiny(tiny_run(corpus), tmp_path, Corpus(copy)),
    }
    open_corpus(open_run(path)[1], tmp_path / "corpora")
    file = next(copy.glob("*.validation-*.bin"))
    content, before = bytearray(file.read_bytes()), file.stat()
    content[100] ^= 3
    file.write_bytes(content)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    for read in readers.values():
        with pytest.raises(UserError, match=rf"shard='.*{file.name}' is damaged; delete the corpus folder"):
            read()


def by_name(rows: list[Measurement]) -> dict[tuple[str, str, str], float | None]:
    """Values by protocol, task and metric."""
    return {(row.protocol, row.task, row.metric): row.value for row in rows}


@pytest.mark.parametrize("member", MEMBERS)
def test_an_exported_model_has_the_numbers_of_its_run(
    member: str, runs: dict[str, RunFolder], suite: SuiteConfig, corpora_dir: Path, corpus: Corpus, tmp_path: Path
) -> None:
    folder = runs[member]
    of_run = by_name(evaluate_run(folder.path, corpora_dir, suite, "cpu", 1))
    export_run(folder.path, tmp_path / "hf", corpora_dir)
    request = request_of(suite, model=str(tmp_path / "hf"), corpus=corpus.name, out=str(tmp_path / "out"))
    measured = evaluate_pretrained(request, corpora_dir)
    assert measured.path.parent == tmp_path / "out" and measured.name.startswith("hf-")
    rows = measured.measurements()
    assert by_name(rows).keys() == of_run.keys()
    for name, value in by_name(rows).items():
        if value is not None:
            assert value == pytest.approx(of_run[name], abs=2e-3, rel=2e-3), name
    for row in rows:
        assert row.provenance["weights"].startswith(row.run.rpartition("-")[2]) and row.run == measured.name
        assert row.provenance["fingerprint"] == corpus.fingerprint


def test_without_a_corpus_only_text_sets_are_asked(
    runs: dict[str, RunFolder], suite: SuiteConfig, corpora_dir: Path, tmp_path: Path
) -> None:
    export_run(runs["decoder"].path, tmp_path / "hf", corpora_dir)
    request = request_of(suite, model=str(tmp_path / "hf"), out=str(tmp_path / "out"))
    rows = evaluate_pretrained(request, corpora_dir).measurements()
    assert {"stereoset", "pronouns", "winogender@published_decoder"} <= {row.protocol for row in rows}
    assert not {"heldout_clm", "facts.left_to_right"} & {row.protocol for row in rows}
    assert {row.provenance["fingerprint"] for row in rows} == {None}
    with pytest.raises(ValueError, match="has nothing to ask a model of clm; give suite.eval_data"):
        evaluate_pretrained(replace(request, suite=replace(suite, eval_data=None)), corpora_dir)
    with pytest.raises(ValueError, match="corpus='none' is not a prepared corpus"):
        evaluate_pretrained(replace(request, corpus="none"), corpora_dir)
    with pytest.raises(ValueError, match="revision='step5' belongs to ids of the hub, and .*hf is a folder"):
        evaluate_pretrained(replace(request, revision="step5"), corpora_dir)


def test_a_run_or_a_model_but_not_both(suite: SuiteConfig) -> None:
    for changes in ({"model": None}, {"run": "runs/a"}):
        with pytest.raises(ValueError, match="and model are both given or both missing"):
            request_of(suite, **changes)
    with pytest.raises(ValueError, match="checkpoint='all' belongs to run"):
        request_of(suite, checkpoint="all")
    with pytest.raises(ValueError, match="revision='main' belongs to model"):
        request_of(suite, model=None, run="runs/a", revision="main")
