"""The same documents by different roads are the same tokens: MDS text, MDS token columns and JSON lines."""

import json
from pathlib import Path

import numpy as np
import pytest

from ettin_core.data.config import DataConfig
from ettin_core.data.corpus import Corpus
from ettin_core.data.preparation.prepare import prepare
from ettin_core.data.tokenizer import train
from ettin_core.foundation.errors import UserError

FIXTURES = Path(__file__).parent / "fixtures" / "mds"


@pytest.fixture(scope="module")
def by_json(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """The JSON lines that the shards were written from, prepared."""
    root = tmp_path_factory.mktemp("json")
    return prepare(DataConfig("text", str(FIXTURES / "source.jsonl"), name="same", vocab_size=300), root, workers=1)


def texts(corpus: Corpus) -> dict[str, list[list[int]]]:
    """The documents of every split."""
    return {split: [ids.tolist() for ids in corpus.documents(split)] for split in ("train", "validation", "test")}


@pytest.mark.parametrize("folder", ["text_raw", "text_zstd", "text_gz", "text_bz2", "text_hashed"])
def test_text_shards_give_the_tokens_of_their_source(folder: str, by_json: Corpus, tmp_path: Path) -> None:
    config = DataConfig(
        "mds", str(FIXTURES / folder), name="same", vocab_size=300, tokenizer=str(by_json.folder / "tokenizer")
    )
    corpus = prepare(config, tmp_path, workers=1)
    assert texts(corpus) == texts(by_json) and sum(map(len, texts(corpus).values())) > 10
    assert corpus.fingerprint == by_json.fingerprint


@pytest.mark.parametrize("marks", [False, True])
def test_token_columns_are_taken_as_they_are_with_marks_of_their_own(
    marks: bool, by_json: Corpus, tmp_path: Path
) -> None:
    special = by_json.tokenizer.special
    rows = []
    for number, ids in enumerate(by_json.documents("train")):
        rows.append({"id": f"d{number}", "input_ids": ids.tolist() if marks else ids[1:-1].tolist()})
    (tmp_path / "ids.train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "ids.validation.jsonl").write_text(json.dumps({"input_ids": rows[0]["input_ids"] * 2}))
    config = DataConfig(
        "text",
        str(tmp_path),
        name="ids",
        token_field="input_ids",
        tokenizer=str(by_json.folder / "tokenizer"),
    )
    corpus = prepare(config, tmp_path / "out", workers=1)
    for ours, theirs in zip(corpus.documents("train"), by_json.documents("train"), strict=True):
        assert np.array_equal(ours, theirs) and ours[0] == special.bos and ours[-1] == special.eos
    expected = sum(entry["train"]["bytes"] for entry in by_json.manifest["sources"].values())
    assert corpus.manifest["sources"]["ids"]["train"]["bytes"] == expected


@pytest.mark.parametrize("folder", ["tokens_raw", "tokens_zstd"])
def test_token_shards_arrive_unchanged(folder: str, tmp_path: Path) -> None:
    train((f"word{number} {number * 7919}" for number in range(3000)), 1400, tmp_path / "tokenizer")
    config = DataConfig(
        "mds", str(FIXTURES / folder), name="t", token_field="input_ids", tokenizer=str(tmp_path / "tokenizer")
    )
    corpus = prepare(config, tmp_path, workers=1)
    rows = [json.loads(line) for line in (FIXTURES / "source.jsonl").read_text(encoding="utf-8").splitlines()]
    written = sorted([byte + 1000 for byte in row["text"].encode()] for row in rows)  # as fixtures/mds/write.py states
    stored = sorted(ids[1:-1] for documents in texts(corpus).values() for ids in documents)
    assert stored == written


def test_ids_need_their_tokenizer(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps({"id": n, "ids": [5, 6, 7]}) for n in range(100)))
    with pytest.raises(UserError, match=r"data.tokenizer=None is missing for a column of token ids"):
        prepare(DataConfig("text", str(tmp_path), token_field="ids", name="x"), tmp_path / "out", workers=1)


@pytest.mark.parametrize(
    ("ids", "reason"), [([5, 10**6], "bad_ids"), ([5, -1], "bad_ids"), ([5, "mask", 6], "bad_ids")]
)
def test_ids_that_are_none_of_the_tokenizer_are_refused_or_counted(
    ids: list[object], reason: str, by_json: Corpus, tmp_path: Path
) -> None:
    special = by_json.tokenizer.special
    row = [special.mask if item == "mask" else item for item in ids]
    rows = [{"id": str(number), "ids": [5, *[6] * number]} for number in range(200)] + [{"id": "odd", "ids": row}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    options = {"token_field": "ids", "name": "x", "tokenizer": str(by_json.folder / "tokenizer")}
    with pytest.raises(UserError, match="in document 'odd'"):
        prepare(DataConfig("text", str(tmp_path / "a.jsonl"), **options), tmp_path / "out", workers=1)  # type: ignore[arg-type]
    config = DataConfig("text", str(tmp_path / "a.jsonl"), on_bad="skip", **options)  # type: ignore[arg-type]
    corpus = prepare(config, tmp_path / "out", workers=1)
    assert corpus.manifest["reading"]["x"]["skipped"] == {reason: 1}
    assert corpus.manifest["reading"]["x"]["samples"][reason][0]["id"] == "odd"
