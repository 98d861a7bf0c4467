"""Tasks as files: what a file may say, which sets need none, and what is an error."""

import json
from pathlib import Path
from typing import Any

import pytest

from ettin_core.data.corpus import Corpus
from ettin_core.evaluation import harness, user_tasks
from ettin_core.evaluation.finetuning.rows import read
from ettin_core.evaluation.finetuning.tasks import all_tasks, task_of
from ettin_core.evaluation.retrieval.rows import read_rows
from ettin_core.evaluation.retrieval.sets import held_out_queries, local_sets, read_retrieval
from ettin_core.evaluation.retrieval.triplets import read_triplets
from ettin_core.evaluation.suite import applicable, check_items
from ettin_core.evaluation.suite_config import SuiteConfig
from ettin_core.evaluation.tasks.find import find_task, tasks_for
from ettin_core.evaluation.tasks.rows import choice_of, labels_of, task_rows
from ettin_core.foundation.errors import UserError
from ettin_core.records.readout import KNOWN
from tests.evaluation.test_estimators import tiny


def write(file: Path, rows: list[dict[str, Any]]) -> None:
    """Plain JSON lines."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


def say(folder: Path, name: str, text: str) -> None:
    """A task file."""
    (folder / "tasks").mkdir(parents=True, exist_ok=True)
    (folder / f"tasks/{name}.yaml").write_text(text)


def polarity(folder: Path, **names: str) -> Path:
    """Sixty labelled texts for training and ten for the test, without ids, under other names than ours."""
    text, label = names.get("text", "sentence"), names.get("label", "mood")
    splits = ["train"] * 60 + ["test"] * 10
    write(
        folder / "cls/polarity.jsonl",
        [{text: f"it is {n}", label: ("neg", "pos")[n % 2], "split": split, "topic": n // 3}
         for n, split in enumerate(splits)],
    )  # fmt: skip
    return folder


def five(folder: Path) -> Path:
    """Questions of five choices as CommonsenseQA has them."""
    rows = [
        {
            "question": {"stem": f"What is {n}?", "choices": [{"label": x, "text": f"word {x} {n}"} for x in "ABCDE"]},
            "answerKey": "ABCDE"[n % 5],
            "topic": n // 2,
        }
        for n in range(6)
    ]
    write(folder / "mc/five.jsonl", rows)
    say(folder, "five", "kind: multiple_choice\nfields: {question: question.stem, choices: question.choices, "
        "answer: answerKey}\ncluster: topic\n")  # fmt: skip
    return folder


def test_a_polarity_task_needs_files_alone(tmp_path: Path) -> None:
    say(polarity(tmp_path), "polarity", "kind: classification\nfields: {text: sentence, label: mood}\ncluster: topic\n")
    task = task_of("polarity", str(tmp_path))
    assert (task.labels, task.metric, task.outputs) == (("neg", "pos"), "accuracy", 2)
    data = read(task, str(tmp_path))
    assert (len(data.train) + len(data.dev), len(data.test)) == (60, 10) and len(data.dev) > 1
    assert (data.test[1].texts, data.test[1].gold, data.test[1].cluster) == (("it is 61",), 1, "20")
    assert data.origin["dev"] == "1 of 10 training rows"
    assert [item.name for item in all_tasks(str(tmp_path))] == ["polarity"]
    local = local_sets(tmp_path)["polarity"]
    assert read_rows(local, "test")[1] == {"text": "it is 61", "label": 1}


def test_without_a_task_file_a_set_in_its_place_is_a_task(tmp_path: Path) -> None:
    polarity(tmp_path, text="text", label="label")
    assert read(task_of("polarity", str(tmp_path)), str(tmp_path)).test[1].gold == 1
    write(tmp_path / "token/parts.jsonl", [{"tokens": ["a"], "tags": ["X"], "split": "train"}])
    write(tmp_path / "probing/agree.jsonl", [{"good": "they are", "bad": "they is"}])
    write(tmp_path / "sts/alike.jsonl", [{"text1": "a", "text2": "b", "score": 1.5, "split": "test"}])
    kinds = {name: task.spec.kind for command in ("finetune", "evaluate") for name, task in
             tasks_for(command, tmp_path).items()}  # fmt: skip
    assert kinds == {"polarity": "classification", "parts": "tags", "agree": "minimal_pairs", "alike": "sts"}


def test_a_file_for_each_split_and_splits_of_other_names(tmp_path: Path) -> None:
    for split, count in (("train", 30), ("valid", 4), ("eval", 5)):
        write(tmp_path / f"mine/{split}.jsonl", [{"text": f"{split} {n}", "label": n % 2} for n in range(count)])
    say(
        tmp_path,
        "mood",
        "kind: classification\nfile: mine\nlabels: [no, yes]\nsplits: {test: eval}\nmetric: [f1, mcc]\n",
    )
    data = read(task_of("mood", str(tmp_path)), str(tmp_path))
    assert [len(part) for part in (data.train, data.dev, data.test)] == [30, 4, 5]
    assert data.task.labels == ("no", "yes") and data.task.metrics == ("f1", "mcc")
    assert data.origin["source"] == "mine/train.jsonl, mine/valid.jsonl, mine/eval.jsonl"


def test_five_choices_are_measured_and_asked_of_the_harness_alike(corpus: Corpus, tmp_path: Path) -> None:
    folder = five(tmp_path)
    write(folder / "probing/agree.jsonl", [{"good": "they  are here", "bad": "they is here"}])
    suite = SuiteConfig(1, 1, 1, str(folder), 1, tasks=("five", "agree"))
    names = ["five.left_to_right", "five.pseudo_likelihood", "agree.left_to_right", "agree.pseudo_likelihood"]
    protocols = applicable(KNOWN["mlm"], suite)
    assert [item.name for item in protocols] == names
    check_items(protocols, suite)
    assert [item.name for item in applicable(KNOWN["clm"], suite)] == names[::2]
    for protocol in protocols:
        results, items = protocol.measure(tiny(corpus, "mlm"), None, suite)
        [result] = [result for result in results if result.metric == "accuracy"]
        assert result.task == protocol.name.partition(".")[0]
        assert (result.n, result.reference) == ((6, pytest.approx(0.2)) if result.task == "five" else (1, 0.5))
    assert sum(item.uneven_rows(folder) for item in protocols[2].datasets) == 1
    _, items = protocols[0].measure(tiny(corpus, "mlm"), None, suite)
    assert items[3].details["cluster"] == "1" and len(items[3].details["log_probabilities"]) == 5

    harness.register()
    for name, count in (("five", 5), ("agree", 2)):
        [task] = harness.task_manager(str(folder)).load([name])["tasks"].values()
        task.build_all_requests()
        choices = [user_tasks.choice_from(ours, row) for ours in [find_task(name, folder, "harness")]
                   for row in user_tasks.asked(ours)]  # fmt: skip
        asked = [(choice.prefix, option) for choice in choices for option in choice.options]
        assert [request.args for request in task.instances[: len(asked)]] == asked and len(choices[0].options) == count


@pytest.mark.parametrize(
    ("choices", "answer", "right"),
    [
        (["a", "b", "c"], 1, 1),
        (["a", "b", "c"], "B", 1),
        (["a", "b", "c"], "b", 1),
        ({"text": ["a", "b", "c"], "label": ["1", "2", "3"]}, "2", 1),
        (["a", "b", "c"], 3, None),
        (["a", "b", "c"], "z", None),
        (["a", "b", "c"], True, None),
        (["a"], 0, None),
        (["a", ""], 0, None),
        ("ab", 0, None),
    ],
)
def test_choices_in_the_forms_in_which_sets_have_them(
    choices: Any, answer: Any, right: int | None, tmp_path: Path
) -> None:
    write(tmp_path / "mc/mine.jsonl", [{"question": "which", "choices": choices, "answer": answer}])
    say(tmp_path, "mine", "kind: multiple_choice\nprompt: 'Q: {question}'\n")
    task = find_task("mine", tmp_path, "evaluate")
    [row] = task_rows(task, unsplit="test")
    if right is None:
        with pytest.raises(UserError, match=r"mine\.jsonl:1'"):
            choice_of(task, row)
    else:
        assert choice_of(task, row) == ("Q: which", ("a", "b", "c"), right)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kind: quiz", "kind='quiz' is not a kind of task; use one of classification"),
        ("kind: [", "is not YAML"),
        ("- a", "is not a mapping"),
        ("kind: pair\nfeilds: {}", "feilds={} is an unknown key; did you mean 'fields'"),
        ("kind: pair\nfields: {text: a}", "fields.text='a' is not a field of pair; it has text1, text2, label"),
        ("kind: sts\nmetric: accuracy", "metric='accuracy' is not a metric of sts; use one of spearman, pearson"),
        ("kind: classification\nmetric: f1\nlabels: [a, b, c]", "metric='f1' is of two labels"),
        ("kind: classification\nsplits: {held: x}", "splits.held='x' is not a split"),
        ("kind: classification\nfile: ../x", "file='../x' leaves the folder"),
        ("kind: multiple_choice\nprompt: 'a {'", "prompt='a {' cannot be filled in"),
    ],
)  # fmt: skip
def test_a_task_file_that_is_invalid_is_named(text: str, message: str, tmp_path: Path) -> None:
    say(tmp_path, "mine", text)
    with pytest.raises(UserError) as caught:
        find_task("mine", tmp_path, "finetune")
    assert message in str(caught.value) and "tasks/mine.yaml" in str(caught.value) and "\n" not in str(caught.value)


def test_what_is_not_there_or_of_another_kind_is_said_before_any_work(tmp_path: Path) -> None:
    polarity(tmp_path)
    say(tmp_path, "polarity", "kind: classification\n")
    with pytest.raises(UserError, match=r"polarity\.jsonl:1' lacks text; the row has sentence, mood"):
        task_of("polarity", str(tmp_path))
    with pytest.raises(UserError, match="did you mean 'polarity'"):
        task_of("polarty", str(tmp_path))
    with pytest.raises(
        UserError, match="polarity' is of kind classification, which evaluate does not measure; use finetune"
    ):
        SuiteConfig(1, 1, 1, str(tmp_path), 1, tasks=("polarity",))
    with pytest.raises(UserError, match=r"suite\.tasks='mine' is read from a folder"):
        SuiteConfig(1, 1, 1, None, 1, tasks=("mine",))
    say(tmp_path, "winobias", "kind: minimal_pairs\n")
    with pytest.raises(UserError, match="is the name of a protocol"):
        SuiteConfig(1, 1, 1, str(tmp_path), 1, tasks=("winobias",))


def test_labels_are_names_whatever_they_look_like(tmp_path: Path) -> None:
    stars = [{"text": "a", "label": 1 + n % 5, "split": ("train", "dev", "test")[n % 3]} for n in range(30)]
    write(tmp_path / "cls/stars.jsonl", stars)
    task = task_of("stars", str(tmp_path))
    assert task.labels == ("1", "2", "3", "4", "5")
    assert {item.gold for item in read(task, str(tmp_path)).train} == {0, 1, 2, 3, 4}
    write(tmp_path / "cls/asked.jsonl", [row | {"label": ("on", "no")[n % 2]} for n, row in enumerate(stars)])
    say(tmp_path, "asked", "kind: classification\nlabels: [on, no]\ncluster:\n")
    assert task_of("asked", str(tmp_path)).labels == ("on", "no")
    assert read(task_of("asked", str(tmp_path)), str(tmp_path)).test[0].gold == 0
    assert labels_of(find_task("asked", tmp_path, "retrieve")) == ("on", "no")
    write(tmp_path / "cls/zero.jsonl", [row | {"label": 0} for row in stars])
    say(tmp_path, "zero", "kind: classification\nlabels: [1, 2]\n")
    with pytest.raises(UserError, match=r"zero\.jsonl:1' has the label 0"):
        read(task_of("zero", str(tmp_path)), str(tmp_path))
    say(tmp_path, "some", "kind: classification\nfile: cls/stars\nlabels: [1, 2]\n")
    with pytest.raises(UserError, match=r"stars\.jsonl:\d+' has the label 3"):
        read(task_of("some", str(tmp_path)), str(tmp_path))


def test_a_beir_folder_as_it_is_chooses_by_a_held_out_part_of_train(tmp_path: Path) -> None:
    folder = tmp_path / "scifact"
    write(folder / "corpus.jsonl", [{"_id": f"d{n}", "title": "", "text": f"text {n}"} for n in range(30)])
    write(folder / "queries.jsonl", [{"_id": f"q{n}", "text": f"query {n}", "metadata": {}} for n in range(30)])
    (folder / "qrels").mkdir()
    for split, numbers in (("train", range(25)), ("test", range(25, 30))):
        lines = "".join(f"q{n}\td{n}\t1\n" for n in numbers)
        (folder / f"qrels/{split}.tsv").write_text(f"query-id\tcorpus-id\tscore\n{lines}")
    local = local_sets(tmp_path)["scifact"]
    held = held_out_queries(local)
    assert len(held) == 2 and held == {query["text"] for query in read_retrieval(local, "dev")[1]}
    assert len(read_retrieval(local, "test")[1]) == 5 and local.metric == "ndcg_at_10"
    rows = [{"source": "a", "query": f"query {n}", "positive": "p", "negative": "n"} for n in range(25)]
    write(tmp_path / "triplets.jsonl", rows)
    kept = read_triplets(tmp_path / "triplets.jsonl", None, None, without=held)
    assert len(kept) == 23 and not held & {row["query"] for row in kept}
    say(tmp_path, "science", "kind: retrieval\nfile: scifact\nmetric: ndcg_at_5\n")
    assert local_sets(tmp_path).keys() == {"science"} and local_sets(tmp_path)["science"].metric == "ndcg_at_5"
    (folder / "qrels/train.tsv").unlink()
    with pytest.raises(UserError, match="no dev split"):
        read_retrieval(local, "dev")


def test_the_built_in_tasks_are_such_files(real_data: Path) -> None:
    folder = real_data / "eval"
    assert len(all_tasks(str(folder))) == 14
    assert {"piqa", "arc_easy", "siqa", "openbookqa"} <= tasks_for("evaluate", folder).keys()
    [task] = [task for task in all_tasks(None) if task.name == "mnli"]
    assert task.hub is not None and task.hub.validation == "validation_matched"
