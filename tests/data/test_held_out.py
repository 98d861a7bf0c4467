"""Held-out text is in no training document: counted always, taken from train only, for any number of workers."""

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ettin_core.data.config import DataConfig
from ettin_core.data.corpus import Corpus
from ettin_core.data.curation.config import CurationConfig
from ettin_core.data.held_out import HeldOut, head_key, merge_tables, text_key, write_table
from ettin_core.data.preparation.prepare import prepare
from ettin_core.data.tokenizer import Tokenizer
from ettin_core.data.tokenizer import train as train_tokenizer
from ettin_core.foundation.errors import UserError

EXACT = CurationConfig(exact_duplicates=True)


def write(file: Path, texts: list[str], **columns: Any) -> None:
    """Texts as JSON lines."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps({"text": text} | columns) + "\n" for text in texts))


def prepared(folder: Path, workers: int = 1, **options: Any) -> Corpus:
    """The corpus of the text below `in`."""
    config = DataConfig(kind="text", name="mine", path=str(folder / "in"), vocab_size=300, **options)
    return prepare(config, folder / f"out{workers}", workers)


def texts(corpus: Corpus, split: str) -> list[str]:
    """The documents of a split."""
    return [corpus.tokenizer.decode(ids[1:-1]) for ids in corpus.documents(split)]


def skipped(corpus: Corpus, source: str = "mine") -> dict[str, int]:
    """What was left out of a source."""
    return corpus.manifest["reading"][source]["skipped"]


def words(seed: int, count: int = 40) -> str:
    """A text of its own."""
    draw = random.Random(seed)
    return " ".join("".join(draw.choices("abcdefghij", k=6)) for _ in range(count))


@given(st.text(max_size=40), st.integers(0, 300), st.sampled_from([" ", "\n\t", "\u00a0\u2003", "  \x1c"]))
def test_keys_ignore_case_and_white_space_only(text: str, blanks: int, white: str) -> None:
    text = f"a {text} b {text} c"
    variant = white * blanks + (white * (1 + blanks)).join(text.upper().lower().split()) + white
    assert (text_key(text) == text_key(variant)) == (
        " ".join(text.casefold().split()) == " ".join(variant.casefold().split())
    )
    assert head_key(text) == head_key(text + white * blanks)
    assert text_key(text) != text_key(text + " d") and text_key("a b") != text_key("ab")
    assert (head_key(text) == head_key(variant)) or text_key(text) != text_key(variant)


def test_a_copy_is_found_however_it_begins(tmp_path: Path) -> None:
    rows = [words(1), words(2)[:50], "short", words(3)[:40] + " " * 200 + "end", "\u3000" * 500 + words(4), ""]
    write_table(tmp_path / "a.npy", [("validation", row) for row in rows[:3]])
    write_table(tmp_path / "b.npy", [("test", row) for row in [*rows[3:], "SHORT "]])
    counts = merge_tables(tmp_path, [tmp_path / "a.npy", tmp_path / "b.npy"])
    assert counts == {"documents": 7, "texts_in_both": 1}
    held_out = HeldOut(tmp_path)
    asked = [variant for row in rows for variant in (f"\n{row.upper()}\t", row.replace(" ", "  "), row + "x")]
    assert (
        held_out.copies(asked) == [place for place in range(len(asked)) if place % 3 != 2 or asked[place] == "x"][:12]
    )
    assert HeldOut(tmp_path / "nowhere").copies(asked) == [] and held_out.copies([]) == []


def test_copies_of_stated_splits_are_taken_out_of_train_only(tmp_path: Path) -> None:
    held = [words(seed) for seed in range(6)]
    fresh = [words(seed) for seed in range(100, 140)]
    write(tmp_path / "in" / "books.train.jsonl", [*fresh, held[0].upper(), held[4], held[4]])
    write(tmp_path / "in" / "web.train.jsonl", [held[1].replace(" ", "\n"), held[0] + " and more", fresh[0]])
    write(tmp_path / "in" / "books.validation.jsonl", [*held[:4], held[0]])
    write(tmp_path / "in" / "web.test.jsonl", [*held[3:], words(7)])
    corpora = [prepared(tmp_path, workers) for workers in (1, 2)]
    assert corpora[0].fingerprint == corpora[1].fingerprint
    assert corpora[0].manifest == corpora[1].manifest
    corpus = corpora[0]
    assert texts(corpus, "validation") == [*held[:4], held[0]] and texts(corpus, "test") == [*held[3:], words(7)]
    assert sorted(texts(corpus, "train")) == sorted([*fresh, held[0] + " and more", fresh[0]])
    assert skipped(corpus, "books") == {"held_out_copy": 3} and skipped(corpus, "web") == {"held_out_copy": 1}
    sample = corpus.manifest["reading"]["web"]["samples"]["held_out_copy"]
    assert sample == [{"id": "web.train.jsonl@0", "text": held[1].replace(" ", "\n")[:300]}]
    assert corpus.manifest["held_out"] == {"documents": 9, "texts_in_both": 1}


def test_copies_of_a_split_by_ids_are_taken_out_of_train(tmp_path: Path) -> None:
    rows = [words(seed) for seed in range(400)]
    for name in ("a.jsonl", "b/a.jsonl"):
        write(tmp_path / "in" / name, rows)
    corpus = prepared(tmp_path)
    held_out = texts(corpus, "validation") + texts(corpus, "test")
    train = texts(corpus, "train")
    assert len(held_out) > 10 and not set(held_out) & set(train)
    assert skipped(corpus)["held_out_copy"] == 800 - len(train) - len(held_out) > 10
    assert set(train) | set(held_out) == set(rows)


def test_ids_that_were_given_are_compared_as_text(tmp_path: Path) -> None:
    train_tokenizer(["some words and others"], 300, tmp_path / "tokenizer")
    tokenizer = Tokenizer(tmp_path / "tokenizer")
    ids = tokenizer.encode(["some words", "other words"])
    (tmp_path / "in").mkdir()
    letters = [[number] for number in range(200, 210)]  # half characters, which have no text
    rows = {"train": [*ids, [tokenizer.special.bos, *ids[1]], *letters[1:]], "validation": [ids[1], letters[0]]}
    for split, tokens in rows.items():
        lines = "".join(json.dumps({"ids": row}) + "\n" for row in tokens)
        (tmp_path / "in" / f"{split}.jsonl").write_text(lines)
    corpus = prepared(tmp_path, token_field="ids", tokenizer=str(tokenizer.folder))
    assert skipped(corpus) == {"held_out_copy": 2}
    assert corpus.manifest["sources"]["mine"]["train"]["documents"] == 10


@pytest.mark.parametrize("stated", [True, False])
def test_curation_keeps_the_held_out_copy(stated: bool, tmp_path: Path) -> None:
    rows = [words(seed) for seed in range(300)]
    if stated:
        write(tmp_path / "in" / "train.jsonl", [*rows, *rows[:5]])
        write(tmp_path / "in" / "validation.jsonl", [*rows[:20], rows[0], words(999)])
    else:
        write(tmp_path / "in" / "a.jsonl", [*rows, *rows])
    corpus = prepared(tmp_path, curation=EXACT)
    train, held_out = texts(corpus, "train"), texts(corpus, "validation") + texts(corpus, "test")
    assert not set(train) & set(held_out) and len(set(train)) == len(train)
    if stated:
        assert held_out == [*rows[:20], words(999)] and train == rows[20:]
        assert skipped(corpus) == {"held_out_copy": 25, "exact_duplicate": 1}
    else:
        assert set(train) | set(held_out) == set(rows)
        assert sum(skipped(corpus).values()) == 600 - len(train) - len(held_out)


def test_near_copies_of_held_out_text_are_taken_out_of_train(tmp_path: Path) -> None:
    pytest.importorskip("datasketch")
    base = words(1, 200)
    chain = [base, base + " one two three", base + " one two three four five six"]
    write(tmp_path / "in" / "train.jsonl", [chain[1], chain[1].upper(), words(2), words(2) + " more", words(3)])
    write(tmp_path / "in" / "validation.jsonl", [chain[2], words(4)])
    write(tmp_path / "in" / "test.jsonl", [words(3)])
    corpus = prepared(tmp_path, curation=CurationConfig(near_duplicates=0.7, exact_duplicates=True))
    assert texts(corpus, "validation") == [chain[2], words(4)] and texts(corpus, "test") == [words(3)]
    assert texts(corpus, "train") == [words(2)]
    expected = {"held_out_near_copy": 1, "exact_duplicate": 1, "near_duplicate": 1, "held_out_copy": 1}
    assert skipped(corpus) == expected
    near = prepared(tmp_path / ".", 1, curation=CurationConfig(near_duplicates=0.7))
    assert skipped(near) == {"held_out_near_copy": 2, "near_duplicate": 1, "held_out_copy": 1}


def test_a_train_split_of_copies_alone_is_reported_as_such(tmp_path: Path) -> None:
    write(tmp_path / "in" / "a.jsonl", ["the same words"] * 300)
    with pytest.raises(
        UserError, match=r"no document for the train split \(all of it .*'held_out_copy': 290}}\); hold out"
    ):
        prepared(tmp_path)


def test_a_table_has_16_bytes_a_held_out_text(tmp_path: Path) -> None:
    write_table(tmp_path / "a.npy", (("test", f"text {number % 500}") for number in range(1000)))
    merge_tables(tmp_path, [tmp_path / "a.npy"])
    sizes = [np.load(tmp_path / f"{name}.npy").nbytes for name in ("heads", "keys")]
    assert sizes == [500 * 8, 500 * 8]
