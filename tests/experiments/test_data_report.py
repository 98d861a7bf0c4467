"""The data report's record against the rows that the loader really gives, and the command from text to page."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hydra import compose, initialize_config_dir

from ettin_core.data.corpus import Corpus
from ettin_core.data.packing import PACKINGS, packed_rows
from ettin_core.foundation.manual import CONFIGURATIONS
from ettin_core.foundation.strict_config import build
from ettin_core.requests.compose import to_plain
from ettin_core.training.phases import plan
from experiments.data_report import DataReportRequest, cuts, record
from tests import processes
from tests.runs import tiny_run, train_tiny


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sources of text, one of them with documents that its rules leave out."""
    folder = tmp_path_factory.mktemp("text")
    for name in ("long", "short"):
        rows = []
        for number in range(300):
            words = "alpha beta gamma delta " * (1 + number % (40 if name == "long" else 3))
            rows.append({"id": f"{name}{number}", "text": f"{number} {words}", "q": number % 100})
        for split, part in (("train", rows[:240]), ("validation", rows[240:])):
            lines = "".join(json.dumps(row) + "\n" for row in part)
            (folder / f"{name}.{split}-00.jsonl").write_text(lines)
    return folder


def composed(*options: str) -> DataReportRequest:
    """conf/data_report.yaml with overrides."""
    with initialize_config_dir(str(CONFIGURATIONS), version_base="1.3"):
        return build(DataReportRequest, to_plain(compose(config_name="data_report", overrides=list(options))))


def request(folder: Path, *overrides: str) -> DataReportRequest:
    """The report of that text by a tiny recipe."""
    options = ["data=text", f"data.path={folder}", "data.vocab_size=300", "recipe=smoke", "recipe.max_epochs=100"]
    options += ["+data.sources.long={files: 'long.*', licence: CC0, at_least: {q: 10}}"]
    options += ["+data.sources.short={files: 'short.*'}", "data.mixtures.decay={long: 1, short: 3}"]
    return composed(*options, f"corpora_dir={folder / 'corpora'}", *overrides)


@pytest.fixture(scope="module")
def report(folder: Path) -> dict[str, Any]:
    """The record, with another packing in each phase."""
    packings = [
        f"recipe.phases.{phase}.packing={packing}" for phase, packing in (("extension", "best_fit"), ("decay", "off"))
    ]
    return record(request(folder, *packings))


def test_sources_are_reported_as_they_are(report: dict[str, Any]) -> None:
    source = report["sources"]["long"]
    assert source["licence"] == "CC0" and source["kind"] == "text"
    assert source["splits"]["train"]["documents"] == 240 - 30 and source["skipped"] == {"q_below_10": 30}
    assert source["samples"]["q_below_10"][0]["id"] == "long0" and len(source["samples"]["q_below_10"]) == 3
    for splits in (source["splits"] for source in report["sources"].values()):
        for counts in splits.values():
            assert sum(counts["lengths"]) == counts["documents"]
            if counts["tokens"]:
                assert counts["bytes_per_token"] == counts["bytes"] / counts["tokens"]
    assert report["sources"]["short"]["splits"]["test"]["bytes_per_token"] is None


def test_phases_are_reported_as_the_loader_draws_them(folder: Path, report: dict[str, Any]) -> None:
    wanted = request(folder)
    corpus = Corpus(folder / "corpora" / report["corpus"]["name"])
    for phase, reported in zip(plan(wanted.recipe, 1.0), report["phases"], strict=True):
        phase = replace(phase, packing=reported["packing"])
        loader = phase.loader(corpus, 21)
        batches = [loader.batch(step) for step in range(phase.steps)]
        sources, real = np.concatenate([b.sources for b in batches]), np.concatenate([b.real.sum(1) for b in batches])
        assert reported["rows"] == len(sources) and reported["places"] == len(sources) * phase.context
        if phase.packing != "off":  # its rows differ much, and a mean over few of them says little
            assert reported["utilisation"] == pytest.approx(real.sum() / reported["places"], abs=0.02)
        for number, name in enumerate(loader.sources):
            drawn = reported["sources"][name]
            assert drawn["rows"] == (sources == number).sum()
            assert drawn["passes"] == drawn["rows"] / loader.rows[number].count
            assert drawn["tokens"] == pytest.approx(drawn["rows"] * drawn["utilisation"] * phase.context, abs=1)
            assert drawn["utilisation"] == loader.utilisation[name]
        for share in ("share_asked", "share_drawn"):
            assert sum(drawn[share] for drawn in reported["sources"].values()) == pytest.approx(1)
    assert report["phases"][2]["sources"]["short"]["share_asked"] == 0.75
    assert report["phases"][2]["sources"]["short"]["share_drawn"] == pytest.approx(0.75, abs=0.05)


def test_small_sources_and_weights_draw_their_share(folder: Path) -> None:
    """Ten rows beside a million would have to be passed over as often; a weight below a row in a block has its share."""
    weights = "{long: 0.99996, short: 0.00004}"
    phases = [f"data.mixtures.{phase}={weights}" for phase in ("pretrain", "extension", "decay")]
    report = record(request(folder, "recipe.tokens=3e8", "recipe.max_epochs=1e9", *phases))
    for phase in report["phases"]:
        short = phase["sources"]["short"]
        assert short["rows"] >= 5 and short["passes"] == pytest.approx(
            short["passes_asked"], abs=2 * short["passes"] / short["rows"]
        )
        assert short["share_drawn"] == pytest.approx(4e-5, rel=2 / short["rows"])


@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize("context", [16, 50])
def test_pieces_are_those_that_the_packing_makes(corpus: Corpus, packing: str, context: int) -> None:
    rows = packed_rows(corpus, "world", "train", packing, context)
    bos = corpus.tokenizer.special.bos
    pieces = 0
    for row in range(rows.count):
        for piece in rows.read(row):
            pieces += int((piece == bos).sum()) + int(piece[0] != bos)
    lengths = [len(ids) for ids in corpus.documents("train")]
    assert cuts(corpus.stream("world", "train"), context, packing) == (sum(n > context for n in lengths), pieces)


def test_a_phase_that_cannot_be_drawn_is_reported_not_hidden(folder: Path) -> None:
    report = record(request(folder, "recipe.phases.decay.context=1000000", "recipe.tokens=3e7"))
    assert [phase["refused"] is None for phase in report["phases"]] == [True, True, False]
    assert "longer than the whole source" in report["phases"][2]["refused"] and report["phases"][2]["sources"] == {}


def test_a_runs_own_recipe_order_and_corpus_are_reported(corpus: Corpus, tmp_path: Path, folder: Path) -> None:
    run = tiny_run(corpus)
    train_tiny(run, tmp_path, corpus, stop_after=3)
    report = record(request(folder, f"run={tmp_path / run.name}", f"corpora_dir={corpus.folder.parent}"))
    assert report["run"] == run.name and report["corpus"]["fingerprint"] == corpus.fingerprint
    assert [(phase["name"], phase["steps"]) for phase in report["phases"]] == [(p.name, p.steps) for p in run.phases]


def test_the_command_leaves_the_record_and_a_page(folder: Path, tmp_path: Path) -> None:
    options = ["data=text", f"data.path={folder}", "data.vocab_size=300", f"corpora_dir={folder / 'corpora'}"]
    done = processes.run(tmp_path, "experiments.data_report", *options, "out=report")
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert "problem: the phases together pass" in done.stdout and str(tmp_path / "report" / "index.html") in done.stdout
    assert "would stop with an error" in (tmp_path / "report" / "index.html").read_text()
    report = json.loads((tmp_path / "report" / "data_report.json").read_text())
    assert (report["kind"], report["schema"]) == ("data_report", 1)
    assert report == record(composed(*options))


def test_bad_input_is_one_clear_line(tmp_path: Path) -> None:
    for options, message in (
        (["data=text", "data.path=nowhere"], "data.path='nowhere' does not exist"),
        (["run=nowhere"], "run='nowhere' is not a run folder"),
    ):
        done = processes.run(tmp_path, "experiments.data_report", *options)
        assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr
        assert not (tmp_path / "data_report").exists()
