"""The sets that the package makes suit every reader, and the docs list the fields that readers require."""

import re
from pathlib import Path

import pytest

from ettin_core.evaluation.datasets import EvaluationSet, check_rows, pair_number
from ettin_core.evaluation.finetuning import rows
from ettin_core.evaluation.finetuning.tasks import all_tasks, task_of
from ettin_core.evaluation.generated import SETS
from ettin_core.evaluation.lines import need
from ettin_core.evaluation.registry import PROTOCOLS
from ettin_core.evaluation.suite_config import SuiteConfig
from ettin_core.evaluation.tasks.config import KINDS
from ettin_core.evaluation.tasks.find import find_task
from ettin_core.evaluation.user_tasks import asked, choice_from
from ettin_core.foundation.errors import UserError
from ettin_core.foundation.storage import hash_file, read_json
from experiments.make_eval_sets import EvalSetsRequest, examples, make

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("sets") / "my_sets", 40, 0)


def table(file: str, heading: str) -> list[list[str]]:
    """The cells of a table in the docs, below its head."""
    text = (DOCS / file).read_text().partition(heading)[2]
    lines = re.findall(r"^\|.*\|$", re.split(r"\n#", text)[0], re.M)
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[2:]]


def test_the_docs_list_the_fields_that_protocols_require() -> None:
    documented = {
        cells[0].strip("`"): cells[1] for cells in table("evaluation_sets.md", "## Sets that protocols read by name")
    }
    sets: dict[str, EvaluationSet] = {item.file: item for row in PROTOCOLS for item in row.datasets}
    wanted = {
        item.file.removesuffix(".jsonl.gz"): ", ".join(
            f"(`{name}`)" if name in item.optional else f"`{name}`" for name in item.fields
        )
        for item in sets.values()
    }
    assert documented == wanted


def test_the_docs_list_the_fields_of_every_kind() -> None:
    for cells in table("tasks.md", "## Kinds"):
        kind = KINDS[cells[0].strip("`")]
        assert cells[1].startswith(f"`{kind.folder}/")
        assert tuple(re.findall(r"`(\w+)`", cells[2])) == kind.fields
        assert (
            tuple(re.findall(r"finetune|retrieve|evaluate|harness", re.sub(r"\(.*\)", "", cells[4]))) == kind.commands
        )
    assert [cells[0].strip("`") for cells in table("tasks.md", "## Kinds")] == list(KINDS)


def test_every_reader_takes_them(folder: Path) -> None:
    suite = SuiteConfig(4000, 12, 1, str(folder), None)
    check_rows(folder, suite.sets)
    assert {item.file for item in suite.sets} == {item.file for row in PROTOCOLS for item in row.datasets}
    tasks = {task.name for task in all_tasks(str(folder))}
    assert tasks == {"world_topic", "world_entailment", "world_overlap", "world_names"}
    for task in all_tasks(str(folder)):
        data = rows.read(task, str(folder))
        assert (len(data.train), len(data.dev), len(data.test)) == (24, 8, 8)
        assert len({str(item.gold) for item in data.test}) > 1
    for name, options in (("world_facts", 4), ("world_agreement", 2)):
        task = find_task(name, folder, "evaluate")
        choices = [choice_from(task, row) for row in asked(task)]
        assert len(choices) == 40 and min(len(choice.options) for choice in choices) >= options
    assert {line.split()[2].removeprefix("experiments.") for line in examples("my_sets")} == {
        "evaluate", "finetune", "retrieve", "harness",
    }  # fmt: skip


def test_retrieval_reads_them(folder: Path) -> None:
    pytest.importorskip("mteb", reason="the extra `embedding` is not installed")
    from ettin_core.evaluation.retrieval.tasks import local_task, open_tasks
    from ettin_core.evaluation.retrieval.triplets import read_triplets

    assert len(open_tasks(("world_documents", "world_overlap", "world_topic"), folder)) == 3
    assert local_task("world_documents", folder, "dev")
    assert len(read_triplets(need(folder, "retrieval/train_triplets"), None, None)) > 20


def test_they_are_the_same_bytes_and_say_what_they_are(folder: Path, tmp_path: Path) -> None:
    again, another_seed = make(tmp_path / "again", 40, 0), make(tmp_path / "other", 40, 1)
    manifest = read_json(folder / "MANIFEST.json")
    assert manifest == read_json(again / "MANIFEST.json") != read_json(another_seed / "MANIFEST.json")
    assert manifest["files"].keys() == {item.file for item in SETS}
    for file, known in manifest["files"].items():
        assert hash_file(folder / file) == known["sha256"] and known["rows"] > 0
        named = [row for row in (folder / file).read_text().splitlines() if "world" in row]
        assert known["form_of"] is None or len(named) == known["rows"]


def test_what_is_missing_names_the_command(folder: Path, tmp_path: Path) -> None:
    cases = (
        lambda: need(tmp_path, "cls/sst2"),
        lambda: need(tmp_path / "none", "cls/sst2"),
        lambda: SuiteConfig(1, 1, 1, str(tmp_path), None),
        lambda: SuiteConfig(1, 1, 1, None, None, protocols=("winobias",)),
        lambda: rows.check_available(task_of("trec", None), None),
    )
    for case in cases:
        with pytest.raises(UserError, match=r"python -m experiments.make_eval_sets out=<folder>"):
            case()
    with pytest.raises(UserError, match=r"pairID='world0 of x' in probing/blimp.jsonl.gz is not a number"):
        pair_number({"pairID": "world0", "UID": "x"})
    with pytest.raises(UserError, match="items=3 are too few"):
        EvalSetsRequest("x", 3, 0)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/cls").write_text("something")
    with pytest.raises(UserError, match="make_eval_sets did not write it"):
        make(tmp_path / "mine", 40, 0)
