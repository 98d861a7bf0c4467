"""Merged models as runs with parents: made, killed, measured, exported, listed, reported, and what cannot be merged."""

import os
import re
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from transformers import AutoModelForMaskedLM, AutoTokenizer

from analysis import estimates, render, tables
from analysis.load import load
from ettin_core.checkpoints import native
from ettin_core.data.corpus import Corpus
from ettin_core.foundation.errors import UserError
from ettin_core.foundation.storage import read_json
from ettin_core.planning import merging
from ettin_core.planning.run_plan import open_run
from ettin_core.records.folders import RunFolder
from ettin_core.requests.merge import PLACEMENT, MergeRequest
from ettin_core.studies.train_run import trained
from experiments.runs import RunsRequest, doomed
from tests import processes
from tests.runs import tiny_run, train_tiny


@pytest.fixture(scope="module")
def parents(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> list[RunFolder]:
    """Two encoders of two seeds, and a decoder of the first's."""
    root = tmp_path_factory.mktemp("parents")
    first = tiny_run(corpus)
    second = replace(first, seeds=replace(first.seeds, initialisation=22))
    return [train_tiny(run, root, corpus) for run in (first, second, tiny_run(corpus, "decoder"))]


def request(parents: list[RunFolder], corpus: Corpus, runs: Path, *texts: str, **values: object) -> MergeRequest:
    """What was typed; a parent is given by its number and what follows."""
    named = tuple(f"{parents[int(text[0])].path}{text[1:]}" for text in texts)
    given = {"method": "average", "weights": None, "base": None, "density": None, "stale": "keep"} | values
    return MergeRequest(named, **given, runs_dir=str(runs), corpora_dir=str(corpus.folder.parent))  # type: ignore[arg-type]


def merge(asked: MergeRequest) -> RunFolder:
    """The folder of a merge, made."""
    run, corpus, start = asked.prepared()
    trained(run, corpus, PLACEMENT, asked.runs_dir, asked.stale, start)
    return RunFolder(Path(asked.runs_dir) / run.name)


def test_a_merge_is_a_run_with_its_parents(parents: list[RunFolder], corpus: Corpus, tmp_path: Path) -> None:
    values = {"method": "ties", "weights": (0.3, 0.7), "base": f"{parents[0].path}@step0"}
    folder = merge(request(parents, corpus, tmp_path, "0", "1@step12", **values))
    _, run = open_run(str(folder.path))
    assert folder.name == run.name and folder.name.startswith("tiny-merge-ties-s21-") and folder.complete
    assert run.merge is not None and run.merge.density == 0.2
    held = [(item.run, item.checkpoint) for item in run.parents]
    assert held == [(parents[0].name, "decay5"), (parents[1].name, "step12"), (parents[0].name, "step0")]
    for item, source in zip(run.parents, (parents[0], parents[1], parents[0]), strict=True):
        weights = native.load(source.checkpoints / item.checkpoint, source.name).model
        assert native.hash_tensors(weights) == item.weights
    origin = read_json(folder.path / "provenance.json")
    assert origin["merge"] == run.plain["merge"] and "checkpoints.merging" in origin["environment"]["code"]
    assert folder.summary()["parent"] == f"{parents[0].name} + {parents[1].name}"
    again = request(parents, corpus, tmp_path, "0", "1@step12", **values | {"weights": (0.4, 0.6)})
    assert again.prepared()[0].name != folder.name
    needed = RunsRequest(None, (str(parents[1].path),), False, str(tmp_path), str(corpus.folder.parent))
    with pytest.raises(UserError, match="remove that run as well"):
        doomed(needed)


def test_a_share_of_one_is_the_parent(parents: list[RunFolder], corpus: Corpus, tmp_path: Path) -> None:
    folder = merge(request(parents, corpus, tmp_path, "2", "0", method="weighted", weights=(0.0, 1.0)))
    assert folder.summary()["final_weights"] == parents[0].summary()["final_weights"]
    assert (folder.summary()["direction"], folder.summary()["objective"]) == ("causal", "clm")


def test_it_is_measured_exported_and_reported(parents: list[RunFolder], corpus: Corpus, tmp_path: Path) -> None:
    folders = [merge(request(parents, corpus, tmp_path / "runs", *texts)) for texts in (("0", "1"), ("1", "0"))]
    assert folders[0].summary()["final_weights"] == folders[1].summary()["final_weights"]
    assert folders[0].name != folders[1].name
    shutil.rmtree(folders[1].path)  # the report averages no twins
    where = f"corpora_dir={corpus.folder.parent}"
    (tmp_path / "runs" / parents[0].name).symlink_to(parents[0].path)
    for source in (folders[0], parents[0]):
        done = processes.run(
            tmp_path,
            "experiments.evaluate",
            f"run=runs/{source.name}",
            "suite=smoke",
            "suite.protocols=[heldout_mlm]",
            where,
        )
        assert done.returncode == 0, done.stderr
    listed = processes.run(tmp_path, "experiments.runs")
    assert re.search(rf"{folders[0].name} +complete", listed.stdout), listed.stderr
    evidence = load(tmp_path / "runs")
    cells = estimates.cells(evidence).set_index(["metric", "member"])
    assert cells.loc[("accuracy", "merge-average"), "value"] > 0
    compared = estimates.differences(evidence)
    assert set(zip(compared["left"], compared["right"], strict=True)) == {("merge-average", "encoder")}
    assert f"{parents[0].name} + {parents[1].name}" in render.markdown(tables.rulers_table(evidence))
    done = processes.run(tmp_path, "experiments.export", f"run=runs/{folders[0].name}", "out=hf", where)
    assert done.returncode == 0, done.stderr
    ids = AutoTokenizer.from_pretrained(tmp_path / "hf")("The keys [MASK].", return_tensors="pt")
    assert AutoModelForMaskedLM.from_pretrained(tmp_path / "hf")(**ids).logits.isfinite().all()
    card = yaml.safe_load((tmp_path / "hf" / "README.md").read_text().split("---")[1])
    assert card["base_model"] == [parents[0].name, parents[1].name] and card["base_model_relation"] == "merge"
    assert read_json(tmp_path / "hf" / "ettin.json")["merge"]["method"] == "average"


def test_a_kill_leaves_nothing_that_is_half_written(parents: list[RunFolder], corpus: Corpus, tmp_path: Path) -> None:
    asked = request(parents, corpus, tmp_path, "0", "1")
    run, _, start = asked.prepared()
    folder = RunFolder(tmp_path / run.name)

    def killed() -> None:
        native.write_json = lambda *_: os.kill(os.getpid(), signal.SIGKILL)  # when the weights are on the disk
        merge(asked)

    assert processes.Process(tmp_path, killed).wait() == -signal.SIGKILL
    assert folder.config_file.exists() and not folder.complete and not list(folder.checkpoints.glob("[!.]*"))
    assert merge(asked).summary()["final_weights"] == native.hash_tensors(start() or {})
    assert [path.name for path in folder.checkpoints.glob("*")] == ["merge0"]


BAD = {
    "an unknown method": (("0", "1"), {"method": "tie"}, "did you mean 'ties'"),
    "one parent": (("0",), {}, "parents=1 is not a number of parents for average; give 2 or more"),
    "three of two": (("0", "1", "2"), {"method": "slerp"}, "give 2"),
    "weights of an average": (("0", "1"), {"weights": (0.5, 0.5)}, "use weighted"),
    "too few weights": (("0", "1"), {"method": "weighted", "weights": (1.0,)}, "holds 1 weights for 2 parents"),
    "another sum": (("0", "1"), {"method": "weighted", "weights": (0.5, 0.6)}, "its sum is 1.1"),
    "no base": (("0", "1"), {"method": "ties"}, "base=None is missing: ties merges changes from a base"),
    "a base in vain": (("0", "1"), {"base": "runs/a"}, "base='runs/a' has no meaning for average"),
    "a density in vain": (("0", "1"), {"density": 0.5}, "does not fit average"),
    "a density of two": (("0", "1"), {"method": "ties", "base": "runs/a", "density": 2.0}, "is not a share"),
    "no such checkpoint": (("0@step13", "1"), {}, "checkpoint='step13' is not a checkpoint of .*step12"),
    "no such run": (("0x", "1"), {}, "is not a run folder"),
    "the same twice": (("0", "0@decay5"), {}, "is given twice"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_merged_is_said_in_one_line(
    case: str, parents: list[RunFolder], corpus: Corpus, tmp_path: Path
) -> None:
    texts, values, words = BAD[case]
    with pytest.raises(UserError, match=words) as caught:
        request(parents, corpus, tmp_path / "runs", *texts, **values).prepared()
    assert "\n" not in str(caught.value) and not (tmp_path / "runs").exists()


def test_models_that_do_not_fit_are_not_merged(parents: list[RunFolder], corpus: Corpus, tmp_path: Path) -> None:
    def other(name: str, summary: dict[str, str], **config: object) -> RunFolder:
        folder = RunFolder(tmp_path / name)
        shutil.copytree(parents[0].path, folder.path)
        folder.config_file.write_text(yaml.safe_dump(folder.config() | config))
        folder.finish(folder.summary() | {"run": name} | summary)
        return folder

    wide = other("wide", {}, model=parents[0].config()["model"] | {"intermediate_size": 64})
    words = other("words", {"tokenizer": "f" * 64})
    text = other("text", {}, corpus="other-01", fingerprint="f" * 64)
    stopped = other("stopped", {})
    (stopped.path / "COMPLETE").unlink()
    messages = ["intermediate_size=64, and .* has 48", "another tokenizer than", "was trained on other-01, and"]
    for folder, message in zip((wide, words, text, stopped), (*messages, "is not complete"), strict=True):
        for sides in ({"texts": ("0", "1")}, {"texts": ("0",), "method": "ties", "base": str(folder.path)}):
            with pytest.raises(UserError, match=message) as caught:
                request([parents[0], folder], corpus, tmp_path / "runs", *sides.pop("texts"), **sides).prepared()
            assert "\n" not in str(caught.value)


def test_the_sign_of_a_checkpoint_may_be_in_a_folders_name(
    parents: list[RunFolder], corpus: Corpus, tmp_path: Path
) -> None:
    """Only what follows the last folder is a checkpoint, and only a checkpoint of a phase is one."""
    moved = Path(shutil.copytree(parents[0].path, tmp_path / "x@home" / parents[0].path.name))
    assert merging.source(str(moved)).parent.checkpoint == "decay5"
    assert merging.source(f"{moved}@step12").parent.checkpoint == "step12"
    shutil.copytree(moved / "checkpoints" / "step12", moved / "checkpoints" / "backup")
    with pytest.raises(UserError, match="checkpoint='backup' is not a checkpoint"):
        merging.source(f"{moved}@backup")
