"""Datasets of Hugging Face's library: mapped and streamed alike, the same pieces for everyone, clear words offline."""

import gzip
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import datasets
import pytest

from ettin_core.data.config import SourceConfig
from ettin_core.data.documents import Document, Piece, Skipped, Source
from ettin_core.data.importers import huggingface
from ettin_core.foundation.errors import UserError

ROWS: list[dict[str, Any]] = [
    {"id": f"d{number}", "text": f"Text {number}: ü 北京", "q": number} for number in range(10)
]
DOCUMENTS = [Document(row["id"], row["text"]) for row in ROWS]


@pytest.fixture(autouse=True)
def _caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    huggingface._opened.cache_clear()


def config(path: Path | str, **options: Any) -> SourceConfig:
    """A dataset at a path or on the hub."""
    return SourceConfig(kind="huggingface", path=str(path), **options)


def source_of(path: Path | str, **options: Any) -> Source:
    """The one source of a dataset."""
    (source,) = huggingface.find("mine", config(path, **options))
    assert source.name == "mine"
    return source


def items(source: Source) -> list[Document | Skipped]:
    """What the pieces of a source give, in order."""
    return [item for piece in source.pieces for item in huggingface.read(source.config, piece)]


def refusal(path: Path | str, **options: Any) -> str:
    """The message with which finding or reading fails."""
    with pytest.raises(UserError) as caught:
        items(source_of(path, **options))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def table(rows: list[dict[str, Any]] = ROWS) -> datasets.Dataset:
    """Rows as a dataset."""
    return datasets.Dataset.from_list(rows)


def saved(path: Path, **splits: datasets.Dataset) -> Path:
    """A folder of `save_to_disk` with splits."""
    datasets.DatasetDict(splits).save_to_disk(path)
    return path


def folder(path: Path, **files: list[dict[str, Any]]) -> Path:
    """A folder of JSON lines."""
    path.mkdir(parents=True, exist_ok=True)
    for name, rows in files.items():
        (path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_saved_dataset_gives_every_row_once_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table().save_to_disk(tmp_path / "one", num_shards=3)
    monkeypatch.setattr(huggingface, "_ROWS", 4)
    source = source_of(tmp_path / "one")
    assert [(piece.place, piece.split, piece.begin, piece.end) for piece in source.pieces] == [
        ("train", None, 0, 4),
        ("train", None, 4, 8),
        ("train", None, 8, 10),
    ]
    assert min(piece.size for piece in source.pieces) > 10 * len(ROWS[0]["text"]) / 5
    assert items(source) == DOCUMENTS
    assert [item.id for item in items(source_of(tmp_path / "one", id_field="none"))] == [
        f"train/{n}" for n in range(10)
    ]


def test_a_saved_format_changes_nothing(tmp_path: Path) -> None:
    table().with_format("numpy").save_to_disk(tmp_path / "one")
    (first, *_) = items(source_of(tmp_path / "one"))
    assert isinstance(first, Document) and type(first.text) is str and first == DOCUMENTS[0]


def test_a_saved_dataset_is_mapped_not_loaded(tmp_path: Path) -> None:
    table().save_to_disk(tmp_path / "one")
    dataset = huggingface._open(str(tmp_path / "one"), None, None, None)["train"]
    assert dataset.cache_files and Path(dataset.cache_files[0]["filename"]).parent == tmp_path / "one"


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz", ".parquet"])
def test_a_folder_of_data_files_is_streamed_shard_by_shard(suffix: str, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for number, rows in enumerate((ROWS[:3], ROWS[3:7], ROWS[7:])):
        file = tmp_path / "data" / f"train-{number}{suffix}"
        if suffix == ".parquet":
            table(rows).to_parquet(str(file))
        else:
            content = "".join(json.dumps(row) + "\n" for row in rows).encode()
            file.write_bytes(gzip.compress(content) if suffix.endswith("gz") else content)
    size = sum(file.stat().st_size for file in (tmp_path / "data").iterdir()) // 3
    source = source_of(tmp_path / "data")
    assert source.pieces == tuple(Piece("train", None, size, number, number + 1) for number in range(3))
    assert items(source) == DOCUMENTS
    ids = [item.id for item in items(source_of(tmp_path / "data", id_field="none"))]
    assert (ids[0], ids[3], ids[9]) == ("train/0/0", "train/1/0", "train/2/2")


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["train"], {"train": None}),
        (["test"], {"test": None}),
        (["extra"], {"extra": None}),
        (["train", "extra"], {"train": None}),
        (["train", "validation", "test"], {"train": "train", "validation": "validation", "test": "test"}),
        (["train", "valid", "extra"], {"train": "train", "valid": "validation"}),
        (["train", "dev"], {"train": "train", "dev": "validation"}),
        (["train", "val"], {"train": "train", "val": "validation"}),
    ],
)
def test_known_splits_are_stated_and_a_lone_one_is_not(
    names: list[str], expected: dict[str, str | None], tmp_path: Path
) -> None:
    path = saved(tmp_path / "data", **{name: table(ROWS[:2]) for name in names})
    assert {piece.place: piece.split for piece in source_of(path).pieces} == expected


def test_the_files_of_a_folder_may_state_splits(tmp_path: Path) -> None:
    path = folder(tmp_path / "data", train=ROWS[:5], validation=ROWS[5:])
    source = source_of(path)
    assert [(piece.place, piece.split) for piece in source.pieces] == [("train", "train"), ("validation", "validation")]
    assert items(source) == DOCUMENTS


def test_splits_of_which_none_is_known_are_named(tmp_path: Path) -> None:
    message = refusal(saved(tmp_path / "data", en=table(), fr=table()))
    assert str(tmp_path / "data") in message and "it has en, fr" in message


def test_a_subset_is_taken_by_name_and_the_names_are_listed(tmp_path: Path) -> None:
    path = tmp_path / "data"
    folder(path / "one", a=ROWS[:1])
    folder(path / "two", b=ROWS[1:3])
    configs = [{"config_name": name, "data_files": f"{name}/*.jsonl"} for name in ("one", "two")]
    (path / "README.md").write_text(f"---\nconfigs: {json.dumps(configs)}\n---\n")
    assert items(source_of(path, subset="two")) == DOCUMENTS[1:3]
    assert source_of(path, subset="two").identity != source_of(path, subset="one").identity
    assert all(part in refusal(path, subset="three") for part in ("data.subset='three'", "'one', 'two'"))
    assert all(part in refusal(path) for part in ("data.subset=None", "'one', 'two'"))


def test_files_picks_data_files(tmp_path: Path) -> None:
    path = folder(tmp_path / "data", a=ROWS[:4], b=ROWS[4:])
    assert items(source_of(path, files="b.*")) == DOCUMENTS[4:]
    assert "data.files" in refusal(saved(tmp_path / "saved", train=table()), files="b.*")
    assert "give its folder" in refusal(path / "a.jsonl")


@pytest.mark.parametrize("mapped", [True, False])
def test_the_identity_is_the_contents(mapped: bool, tmp_path: Path) -> None:
    def make(name: str, rows: list[dict[str, Any]]) -> Path:
        return saved(tmp_path / name, train=table(rows)) if mapped else folder(tmp_path / name, train=rows)

    first = source_of(make("a", ROWS)).identity
    shutil.copytree(tmp_path / "a", tmp_path / "copy")
    (tmp_path / "copy" / ".hidden").write_text("not data")
    assert source_of(tmp_path / "copy").identity == first
    assert source_of(make("b", [*ROWS[:-1], {**ROWS[-1], "text": ROWS[-1]["text"].upper()}])).identity != first


def test_tokens_and_smallest_values(tmp_path: Path) -> None:
    rows = [{"input_ids": [number, 2, 3], "q": number} for number in range(3)]
    path = saved(tmp_path / "data", train=table(rows))
    left_out, *kept = items(source_of(path, token_field="input_ids", at_least={"q": 1}))
    assert isinstance(left_out, Skipped) and left_out.reason == "q_below_1"
    tokens = [item.tokens for item in kept if isinstance(item, Document) and item.tokens is not None]
    assert [ids.tolist() for ids in tokens] == [[1, 2, 3], [2, 2, 3]] and tokens[0].dtype.kind == "i"


@pytest.mark.parametrize("mapped", [True, False])
@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"text_field": "body"}, "data.text_field='body'"),
        ({"token_field": "ids"}, "data.token_field='ids'"),
        ({"at_least": {"quality": 1}}, "data.at_least='quality'"),
    ],
)
def test_a_wrong_column_is_an_error_before_reading(
    mapped: bool, options: dict[str, Any], field: str, tmp_path: Path
) -> None:
    path = saved(tmp_path / "a", train=table()) if mapped else folder(tmp_path / "a", train=ROWS)
    with pytest.raises(UserError) as caught:
        source_of(path, on_bad="skip", **options)
    assert field in str(caught.value) and "it has id, text, q" in str(caught.value)


def test_a_row_without_text_is_an_error_or_counted(tmp_path: Path) -> None:
    path = saved(tmp_path / "a", train=table([ROWS[0], {**ROWS[1], "text": None}, ROWS[2]]))
    assert f"{path}, train/1" in refusal(path)
    assert [getattr(item, "reason", "kept") for item in items(source_of(path, on_bad="skip"))] == [
        "kept",
        "missing_field",
        "kept",
    ]


def test_a_damaged_file_of_a_folder_is_an_error_or_counted_once(tmp_path: Path) -> None:
    path = folder(tmp_path / "data", **{"train-0": ROWS[:3], "train-1": ROWS[3:6], "train-2": ROWS[6:]})
    with (path / "train-1.jsonl").open("a") as file:
        file.write('{"id": "x", "text": \n')
    assert "train/1" in refusal(path) and "on_bad=skip" in refusal(path)
    skipped = [item for item in items(source_of(path, on_bad="skip")) if isinstance(item, Skipped)]
    assert [(item.id, item.reason) for item in skipped] == [("train/1", "damaged_file")]
    kept = [item for item in items(source_of(path, on_bad="skip")) if isinstance(item, Document)]
    assert [item for item in kept if item not in DOCUMENTS[3:6]] == DOCUMENTS[:3] + DOCUMENTS[6:]


def test_a_saved_dataset_that_is_cut_short_is_named(tmp_path: Path) -> None:
    path = saved(tmp_path / "data", train=table([row | {"more": "x" * 5000} for row in ROWS]))
    (file,) = (path / "train").glob("*.arrow")
    file.write_bytes(file.read_bytes()[:2000])
    assert str(path) in refusal(path) and "cannot be opened" in refusal(path)


def test_an_absent_dataset_is_a_clear_error_without_a_connection(tmp_path: Path) -> None:
    assert datasets.config.HF_HUB_OFFLINE, "run the tests with HF_HUB_OFFLINE=1"
    for path in ("nobody/nothing", str(tmp_path / "absent")):
        message = refusal(path)
        assert message.startswith(f"data.path={path!r} is not a folder here, and the hub does not have it")
        assert "check path, revision and connection" in message


def test_a_folder_without_data_is_named(tmp_path: Path) -> None:
    assert f"data.path={str(tmp_path)!r} cannot be opened" in refusal(tmp_path)


def test_without_the_library_the_package_to_install_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    for path in ("nobody/nothing", str(folder(tmp_path / "data", train=ROWS))):
        assert 'pip install -c constraints.txt -e ".[data]"' in refusal(path)
