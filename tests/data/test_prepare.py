"""Preparation: the same input gives the same bytes, any change gives another fingerprint, a failure leaves nothing."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from ettin_core.data import prepare as preparation
from ettin_core.data.config import DataConfig
from ettin_core.data.corpus import Corpus
from ettin_core.data.prepare import corpus_name, prepare
from ettin_core.data.sources import Document, open_sources
from ettin_core.data.tokenizer import train

TEXTS = ["The baker sold bread.", "The smith made a ring.", "A cat slept in the sun."]
PREPARE = """
import sys
from pathlib import Path
from ettin_core.data.config import DataConfig
from ettin_core.data.prepare import prepare
corpus = prepare(DataConfig(kind="world", name="w", documents=400, vocab_size=400), Path(sys.argv[1]))
corpus.verify()
print(corpus.folder, corpus.fingerprint)
"""


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer folder that does not depend on the corpus."""
    folder = tmp_path_factory.mktemp("tokenizer")
    train(TEXTS, 300, folder)
    return folder


def prepared(folder: Path, texts: list[str], **options: Any) -> Corpus:
    """A corpus of three named files, prepared in a fresh folder."""
    (folder / "in").mkdir(parents=True)
    for split, content in (("train", texts), ("validation", ["Held out."]), ("test", ["Also held out."])):
        lines = [json.dumps({"id": f"{split}{number}", "text": text}) for number, text in enumerate(content)]
        (folder / "in" / f"books.{split}.jsonl").write_text("\n".join(lines) + "\n")
    options = {"vocab_size": 300} | options
    return prepare(DataConfig(kind="text", name="mine", path=str(folder / "in"), **options), folder)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, but the note of when it was verified."""
    files = [file for file in folder.rglob("*") if file.is_file() and file.name != "verified.json"]
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


def visible(folder: Path) -> list[str]:
    """What lies in a folder, locks and inputs aside."""
    return sorted(set(os.listdir(folder)) - {".locks", "in"})


def test_preparing_twice_from_scratch_gives_the_same_bytes(
    world_config: DataConfig, corpus: Corpus, tmp_path: Path
) -> None:
    again = prepare(world_config, tmp_path)
    assert again.name == corpus.name and again.fingerprint == corpus.fingerprint
    assert contents(again.folder) == contents(corpus.folder)


def test_the_small_world_is_the_one_it_always_was(corpus: Corpus) -> None:
    assert corpus.tokens("world", "train") == 117007
    assert corpus.manifest["sources"]["world"]["train"]["shards"][0]["sha256"] == (
        "d38ee0bf4b22cd695ea34b3ed5c01c7b2ab46a0522ea06ed92dad89abd2885f2"
    )


def test_text_prepared_twice_in_two_places_is_the_same_corpus(tmp_path: Path) -> None:
    one, other = prepared(tmp_path / "one", TEXTS), prepared(tmp_path / "other", TEXTS)
    assert one.name == other.name and contents(one.folder) == contents(other.folder)


def test_a_prepared_corpus_is_opened_and_not_prepared_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = prepared(tmp_path, TEXTS)
    monkeypatch.setattr(preparation, "_write_corpus", lambda *arguments: pytest.fail("prepared again"))
    config = DataConfig(kind="text", name="mine", path=str(tmp_path / "in"), vocab_size=300)
    assert prepare(config, tmp_path).folder == first.folder


def test_one_character_or_the_order_changes_the_fingerprint(tmp_path: Path, tokenizer: Path) -> None:
    variants = [
        TEXTS,
        [TEXTS[0].replace("T", "t"), *TEXTS[1:]],
        TEXTS[::-1],
        TEXTS[:2],
        [TEXTS[0] + TEXTS[1], TEXTS[2]],
    ]
    found = [prepared(tmp_path / str(number), texts, tokenizer=str(tokenizer)) for number, texts in enumerate(variants)]
    assert len({corpus.fingerprint for corpus in found}) == len(variants)
    assert len({corpus.name for corpus in found}) == len(variants)


def test_the_tokenizer_changes_the_fingerprint(tmp_path: Path, tokenizer: Path) -> None:
    other = shutil.copytree(tokenizer, tmp_path / "other")
    with (other / "tokenizer.json").open("a") as file:
        file.write("\n")  # the same ids, but another file: nobody has to argue whether it is the same tokenizer
    one = prepared(tmp_path / "one", TEXTS, tokenizer=str(tokenizer))
    two = prepared(tmp_path / "two", TEXTS, tokenizer=str(other))
    assert one.manifest["sources"] == two.manifest["sources"]
    assert one.fingerprint != two.fingerprint and one.name != two.name


def test_where_things_lie_and_how_often_they_may_be_read_is_not_the_name(tmp_path: Path) -> None:
    config = DataConfig(kind="world", name="w", documents=10)
    sources = open_sources(config)
    names = {
        corpus_name(DataConfig(kind="world", name="w", documents=10, **options), sources)
        for options in ({}, {"path": "x"})
    }
    assert len(names) == 1
    assert corpus_name(DataConfig(kind="world", name="w", documents=10, vocab_size=999), sources) not in names


def test_a_given_tokenizer_is_copied_beside_the_corpus(tmp_path: Path, tokenizer: Path) -> None:
    corpus = prepared(tmp_path, TEXTS, tokenizer=str(tokenizer))
    assert contents(corpus.folder / "tokenizer") == contents(tokenizer)


def test_empty_documents_are_counted_and_left_out(tmp_path: Path) -> None:
    corpus = prepared(tmp_path, ["", "one", " \n ", "two"])
    entry = corpus.manifest["sources"]["books"]["train"]
    assert (entry["documents"], entry["skipped_empty"], entry["bytes"]) == (2, 2, 6)
    assert [corpus.tokenizer.decode(ids) for ids in corpus.documents("train")] == ["one", "two"]
    assert entry["log_probability"] is None


def test_ids_are_stored_in_two_bytes_or_four(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tokenizer: Path) -> None:
    small = prepared(tmp_path / "small", TEXTS, tokenizer=str(tokenizer))
    load = preparation.Tokenizer

    def enlarged(folder: Path) -> Any:
        loaded = load(folder)
        loaded.vocab_size = 2**16 + 1
        return loaded

    monkeypatch.setattr(preparation, "Tokenizer", enlarged)
    large = prepared(tmp_path / "large", TEXTS, tokenizer=str(tokenizer))
    assert (small.manifest["dtype"], large.manifest["dtype"]) == ("<u2", "<u4")
    for one, other in zip(small.documents("train"), large.documents("train"), strict=True):
        assert one.tolist() == other.tolist()


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_failure_in_the_middle_leaves_no_folder(error: type[BaseException], tmp_path: Path) -> None:
    seen = 0

    def interrupt(documents: Iterable[Document], name: str) -> Iterable[Document]:
        nonlocal seen
        for document in documents:
            seen += 1
            if seen == 700:
                raise error
            yield document

    config = DataConfig(kind="world", name="w", documents=1000, vocab_size=300)
    with pytest.raises(error):
        prepare(config, tmp_path, interrupt)
    assert seen == 700 and visible(tmp_path) == []
    assert visible(tmp_path) == [] and prepare(config, tmp_path).folder.name == visible(tmp_path)[0]


def test_a_bad_line_far_inside_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="books.train.jsonl:902"):
        prepared(tmp_path, ["fine"] * 901 + [None])  # type: ignore[list-item]
    assert visible(tmp_path) == []


def test_one_text_file_without_a_separator_is_told_about_it(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "book.txt").write_text("\n\n".join(f"Paragraph {number}." for number in range(500)))
    with pytest.raises(
        ValueError, match=r"gives no document for the \w+ split; give more documents; .*data\.separator"
    ):
        prepare(DataConfig(kind="text", name="book", path=str(tmp_path / "in")), tmp_path)
    assert visible(tmp_path) == []
    config = DataConfig(kind="text", name="book", path=str(tmp_path / "in"), separator="\n\n", vocab_size=300)
    entry = prepare(config, tmp_path).manifest["sources"]["book"]
    assert sum(part["documents"] for part in entry.values()) == 500


def test_two_processes_prepare_the_same_corpus_at_once(tmp_path: Path) -> None:
    root = Path(__file__).resolve().parents[2]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PREPARE, str(tmp_path)],
            cwd=root,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    outputs = [process.communicate() for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert outputs[0][0] == outputs[1][0] != ""
    assert len(visible(tmp_path)) == 1
