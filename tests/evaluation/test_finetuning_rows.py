"""Rows: invalid ones, and what a member reads of the others."""

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ettin_core.data.corpus import Corpus
from ettin_core.evaluation.finetuning.encoding import encode, reading_order, shorten, training_order
from ettin_core.evaluation.finetuning.rows import Example, check_available, read
from ettin_core.evaluation.finetuning.tasks import all_tasks, task_of
from ettin_core.evaluation.tasks.find import Task as Source
from ettin_core.foundation.errors import UserError
from tests.evaluation.finetuning import plant, planted, write

GOOD = {"id": "new", "split": "train", "text": "fine", "label": 1}


@pytest.mark.parametrize(
    ("task", "row", "problem"),
    [
        ("sst2", {"id": "new", "split": "train", "text": "fine"}, "lacks label"),
        ("sst2", GOOD | {"label": None}, "has the label None; give a number from 0"),
        ("sst2", GOOD | {"label": 2}, "has the label 2"),
        ("sst2", GOOD | {"label": -1}, "has the label -1"),
        ("sst2", GOOD | {"text": 5}, "has a field without text"),
        ("sst2", GOOD | {"split": "held"}, "has split='held'"),
        ("ewt_upos", {"id": "new", "split": "train", "tokens": ["a", "b"], "upos": ["DET"]}, "no tag for each"),
        ("ewt_upos", {"id": "new", "split": "train", "tokens": ["a"], "upos": ["ARTICLE"]}, "has the tag 'ARTICLE'"),
        ("stsb", {"id": "new", "split": "train", "text1": "a", "text2": "b", "score": None}, "has the score None"),
    ],
)
def test_a_bad_row_is_named_by_file_and_line(tmp_path: Path, task: str, row: dict[str, Any], problem: str) -> None:
    plant(tmp_path)
    [file] = Source(task, task_of(task).spec, tmp_path).files().values()
    with gzip.open(file, "rt") as stream:
        rows = [line for line, _ in zip(stream, range(3), strict=False)]
    write(file, [*map(json.loads, rows), row])
    with pytest.raises(UserError) as error:
        read(task_of(task), str(tmp_path))
    assert f"{file}:4" in str(error.value)
    assert problem in str(error.value)
    assert "\n" not in str(error.value)


def test_damaged_and_missing_files_are_reported(tmp_path: Path) -> None:
    plant(tmp_path)
    file = tmp_path / "cls/sst2.jsonl.gz"
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(UserError, match="is cut short or damaged"):
        read(task_of("sst2"), str(tmp_path))
    file.unlink()
    with pytest.raises(UserError, match="lacks cls/sst2 of task sst2"):
        check_available(task_of("sst2"), str(tmp_path))
    with pytest.raises(UserError, match="is not a folder"):
        check_available(task_of("sst2"), str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match="eval_data=null fetches"):
        check_available(task_of("mrpc"), str(tmp_path))
    with pytest.raises(UserError, match="is not in GLUE"):
        check_available(task_of("trec"), None)
    with pytest.raises(UserError, match="did you mean 'sst2'"):
        task_of("sst-2")


def test_glue_without_a_network_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match="go online, or give eval_data") as error:
        read(task_of("mrpc"), None)
    assert "\n" not in str(error.value)


def test_glue_by_name_is_read_through_datasets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The library itself, on a folder with the dataset's name and layout: hidden test labels stay unread."""
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "nyu-mll/glue"
    files = ""
    for split, count in (("train", 90), ("validation", 12), ("test", 5)):
        rows = [
            {"sentence1": f"one {at}", "sentence2": "two", "label": -1 if split == "test" else at % 2, "idx": at}
            for at in range(count)
        ]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        files += f"  - split: {split}\n    path: {split}.jsonl\n"
    (folder / "README.md").write_text(f"---\nconfigs:\n- config_name: mrpc\n  data_files:\n{files}---\n")
    data = read(task_of("mrpc"), None)
    assert (len(data.test), len(data.train) + len(data.dev)) == (12, 90)
    assert len(data.dev) > 3
    assert data.test[1] == Example("validation.1", ("one 1", "two"), 1)
    assert data.origin["source"] == "nyu-mll/glue/mrpc"
    assert data.origin["sha256"] == read(task_of("mrpc"), None, 10).origin["sha256"]


def test_without_labelled_test_rows_dev_comes_from_the_training_rows(tmp_path: Path) -> None:
    data = planted(plant(tmp_path, 400), "rte")
    assert len(data.test) == 80
    assert 10 < len(data.dev) < 60
    ids = [{item.id for item in part} for part in (data.train, data.dev, data.test)]
    assert sum(map(len, ids)) == len(set.union(*ids)) == 400
    assert data.origin["dev"] == "1 of 10 training rows"


def test_fewer_training_rows_are_the_same_for_everybody(tmp_path: Path) -> None:
    plant(tmp_path)
    some, more = (planted(tmp_path, "sst2", rows) for rows in (20, 40))
    assert [item.id for item in some.train] == [item.id for item in more.train][:20]
    assert [item.id for item in some.dev] == [item.id for item in more.dev]
    assert (some.origin["train_rows"], some.origin["sha256"]) == (20, more.origin["sha256"])


def test_every_local_set_can_be_read(real_data: Path) -> None:
    tasks = all_tasks(str(real_data / "eval"))
    assert len(tasks) == 14
    for task in tasks:
        data = read(task, str(real_data / "eval"), 100)
        assert len(data.train) == 100
        assert min(len(data.dev), len(data.test)) > 100


def test_rows_are_marked_alike_and_cut_from_the_longer_text(corpus: Corpus) -> None:
    special = corpus.tokenizer.special
    pair = Example("1", ("the house", "the river and the house and the river"), 0)
    (row,), cut = encode(task_of("rte"), [pair], corpus.tokenizer, 64)
    first, second = corpus.tokenizer.encode(list(pair.texts))
    assert row.ids.tolist() == [special.bos, *first, special.eos, *second, special.eos]
    assert cut == 0
    (row,), cut = encode(task_of("rte"), [pair], corpus.tokenizer, len(first) + 5)
    assert row.ids.tolist() == [special.bos, *first, special.eos, *second[:2], special.eos]
    assert cut == 1


@pytest.mark.parametrize(
    ("lengths", "room", "kept"), [((3, 9), 6, (3, 3)), ((9, 3), 8, (5, 3)), ((9, 9), 7, (4, 3)), ((9,), 4, (4,))]
)
def test_shorten(lengths: tuple[int, ...], room: int, kept: tuple[int, ...]) -> None:
    parts = [list(range(length)) for length in lengths]
    assert shorten(parts, room) == [list(range(length)) for length in kept]


def test_tags_are_read_at_the_last_sub_token_of_each_word(corpus: Corpus) -> None:
    words = ("Unbelievable", "—", "houses", "naïveté", "🙂🙂", "zzzqqq", ".")
    example = Example("1", words, [0] * len(words))
    (row,), cut = encode(task_of("ewt_upos"), [example], corpus.tokenizer, 64)
    assert cut == 0
    assert row.words == tuple(range(len(words)))
    for count, place in enumerate(row.reads, start=1):
        read_so_far = corpus.tokenizer.decode(row.ids[1 : place + 1].tolist())
        assert read_so_far == " ".join(words[:count])
    (short,), cut = encode(task_of("ewt_upos"), [example], corpus.tokenizer, row.reads[2] + 3)
    assert cut == 1
    assert short.words == (0, 1, 2)
    assert len(short.ids) == row.reads[2] + 3


def test_the_order_is_a_function_of_task_and_seed_and_takes_every_row_once(tmp_path: Path) -> None:
    examples = planted(plant(tmp_path), "sst2").train
    orders = [training_order("sst2", examples, 16, seed, epoch) for seed, epoch in ((0, 0), (0, 0), (0, 1), (1, 0))]
    assert orders[0] == orders[1]
    assert orders[0] != orders[2] != orders[3] != orders[0]
    for order in orders:
        assert sorted(place for batch in order for place in batch) == list(range(len(examples)))
        assert max(map(len, order)) == 16
        assert np.mean([np.ptp([examples[place].characters for place in batch]) for batch in order]) < np.ptp(
            [item.characters for item in examples]
        )


def test_reading_takes_every_row_once_within_its_budget(corpus: Corpus, tmp_path: Path) -> None:
    rows, _ = encode(task_of("sst2"), planted(plant(tmp_path), "sst2").train, corpus.tokenizer, 64)
    chunks = list(reading_order(rows, 100))
    assert sorted(place for chunk in chunks for place in chunk) == list(range(len(rows)))
    assert all(len(chunk) * max(len(rows[place].ids) for place in chunk) <= 100 for chunk in chunks if len(chunk) > 1)
