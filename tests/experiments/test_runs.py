"""The command that lists, shows and removes runs, and how a run is named wherever one is asked for."""

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hydra import initialize_config_dir

from ettin_core.data.corpus import Corpus
from ettin_core.foundation.errors import UserError
from ettin_core.foundation.manual import CONFIGURATIONS
from ettin_core.planning.conversion import parent_weights
from ettin_core.planning.run_plan import open_run
from ettin_core.records.folders import RunFolder, find_run, find_run_or_none, folder_of
from ettin_core.requests.compose import composed
from ettin_core.studies.train_run import trained as train_line
from ettin_core.training.parents import Parent
from experiments.runs import RunsRequest, doomed, remove, shown, strays, table
from tests.runs import PLACEMENT, tiny_run, train_tiny


@pytest.fixture(scope="module")
def trained(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> list[RunFolder]:
    """A complete run and, written later, one that was stopped."""
    root = tmp_path_factory.mktemp("trained")
    complete, stopped = tiny_run(corpus, "encoder"), tiny_run(corpus, "decoder")
    train_tiny(complete, root, corpus)
    train_tiny(stopped, root, corpus, stop_after=6)
    folders = [RunFolder(root / run.name) for run in (complete, stopped)]
    for age, folder in enumerate(reversed(folders)):
        for file in (folder.config_file, folder.metrics_file):
            os.utime(file, (1e9 - age, 1e9 - age))
    return folders


@pytest.fixture
def lab(trained: list[RunFolder], corpus: Corpus, tmp_path: Path) -> Iterator[RunsRequest]:
    """A copy of the runs, with their corpus and one that no run was trained on."""
    shutil.copytree(trained[0].path.parent, tmp_path / "runs")
    for name in (corpus.name, "orphan-0123456789"):
        (tmp_path / "corpora" / name).mkdir(parents=True)
        (tmp_path / "corpora" / name / "manifest.json").write_text("{}")
    with initialize_config_dir(str(CONFIGURATIONS), version_base="1.3"):
        yield request(tmp_path)


def request(root: Path, *remove: str, ask: bool = True) -> RunsRequest:
    """What was typed."""
    return RunsRequest(None, remove, ask, str(root / "runs"), str(root / "corpora"))


def test_a_run_is_named_by_what_begins_its_name(trained: list[RunFolder]) -> None:
    root, (encoder, decoder) = trained[0].path.parent, trained
    assert open_run(str(root / "tiny-e"))[0] == find_run("tiny-e", root) == find_run(str(encoder.path)) == encoder
    assert find_run("latest", root) == find_run(str(root / "latest")) == decoder
    with pytest.raises(UserError, match=f"begins the names of 2 runs; give more of one: .*{encoder.name}"):
        open_run(str(root / "tiny"))
    for name in ("", "tiny-x", "nowhere/latest"):
        with pytest.raises(UserError, match="is not a run folder"):
            find_run(name, root)


def test_a_renamed_run_is_found_by_the_name_that_it_states(
    trained: list[RunFolder], corpus: Corpus, tmp_path: Path
) -> None:
    shutil.copytree(trained[0].path, tmp_path / "favourite")
    run = tiny_run(corpus, "encoder")
    assert folder_of(run.name, tmp_path).path == tmp_path / "favourite"
    assert train_line(run, corpus, PLACEMENT, str(tmp_path)) == f"run {tmp_path / 'favourite'} was complete already"
    conversion = replace(tiny_run(corpus, "mntp"), parent=Parent(run.name, *_last(trained[0])))
    assert parent_weights(conversion, tmp_path) is not None
    (tmp_path / "favourite/COMPLETE").write_text("{}")
    assert folder_of(run.name, tmp_path).path == tmp_path / run.name


def _last(folder: RunFolder) -> tuple[str, str]:
    return folder.summary()["final_checkpoint"], folder.summary()["final_weights"]


def test_where_another_model_may_be_named_a_run_is_one_all_the_same(trained: list[RunFolder]) -> None:
    root, (encoder, _) = trained[0].path.parent, trained
    assert find_run_or_none(str(root / "tiny-e")) == find_run_or_none("tiny-e", root) == encoder
    assert find_run_or_none(str(encoder.checkpoints)) is None and find_run_or_none("someone/tiny-e", root) is None
    with pytest.raises(UserError, match="begins the names of 2 runs"):
        find_run_or_none("tiny", root)


def test_the_list_says_what_differs(lab: RunsRequest, trained: list[RunFolder]) -> None:
    folders = [RunFolder(Path(lab.runs_dir) / folder.name) for folder in trained]
    head, complete, stopped, last = table(folders)
    assert last == "2 runs" and "loss" in head
    assert f"  {folders[0].training()[-1].loss:.4f}  " in complete and "  complete  " in complete
    assert "  stopped at " in stopped
    assert "recipe.tokens = 7680" in shown(folders[0]) and not any("corpus" in line for line in shown(folders[0]))
    *rows, final = folders[1].metrics_file.read_text().splitlines()
    left_out = json.dumps(json.loads(final) | {"loss": None})
    folders[1].metrics_file.write_text("\n".join([*rows, left_out]) + "\n")
    assert "  -  " in table(folders)[2] and "stopped at" in table(folders)[2]
    folders[1].metrics_file.write_text("not a row\n")
    assert "damaged: " in table(folders)[2] and "  complete  " in table(folders)[1]


def test_removal_asks_and_takes_nothing_else(lab: RunsRequest, corpus: Corpus, tmp_path: Path) -> None:
    corpora = tmp_path / "corpora"
    with pytest.raises(UserError, match="nobody can be asked; add ask=false"):
        remove(request(tmp_path, "tiny-e"))
    with pytest.raises(UserError, match="is what tiny-decoder.* was trained from; remove that run as well"):
        doomed(request(tmp_path, corpus.name, "tiny-e"))
    remove(request(tmp_path, "orphans", ask=False))
    assert [path.name for path in corpora.iterdir()] == [corpus.name]
    remove(request(tmp_path, "tiny-e", ask=False))
    assert [run.name[:8] for run in map(RunFolder, (tmp_path / "runs").glob("[!.]*"))] == ["tiny-dec"]
    remove(request(tmp_path, "tiny", corpus.name, ask=False))
    assert not list(corpora.iterdir()) and not list((tmp_path / "runs").glob("[!.]*"))


def test_the_command_reads_its_file(lab: RunsRequest) -> None:
    assert composed("runs", RunsRequest, ["remove=[a,b]"]) == RunsRequest(None, ("a", "b"), True, "runs", "corpora")


def test_a_folder_that_lost_its_configuration_is_named(lab: RunsRequest, trained: list[RunFolder]) -> None:
    root = Path(lab.runs_dir)
    (root / "logs").mkdir()
    assert strays(root) == []
    (root / trained[0].path.name / "config.yaml").unlink()
    assert strays(root) == [f"not listed, because config.yaml is missing: {trained[0].path.name}"]
