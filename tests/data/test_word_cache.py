"""Remembered words give the ids that the tokenizer's own encoder gives, whatever the text and whatever was seen before."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tokenizers import Tokenizer as BackendTokenizer
from tokenizers import normalizers, pre_tokenizers

from ettin_core.data import word_cache
from ettin_core.data.config import SourceConfig
from ettin_core.data.corpus import Corpus
from ettin_core.data.documents import Document, Piece
from ettin_core.data.importers.json_lines import read
from ettin_core.data.tokenizer import Tokenizer
from ettin_core.data.word_cache import WordMemory


@pytest.fixture(scope="module")
def tokenizer(corpus: Corpus) -> Tokenizer:
    return Tokenizer(corpus.folder / "tokenizer")


def by_memory(memory: WordMemory, texts: list[str]) -> list[list[int]]:
    ids = memory.encode(texts)
    assert all(row.dtype == np.uint32 and row.flags.writeable for row in ids)
    return [row.tolist() for row in ids]


def by_library(tokenizer: Tokenizer, texts: list[str]) -> list[list[int]]:
    return [item.ids for item in tokenizer.backend.encode_batch_fast(texts, add_special_tokens=False)]


@given(st.lists(st.text(max_size=60), max_size=6))
@example(
    [
        "'s't're've'm'll'd I'm 'S don't we'Re",
        "[MASK] [CLS]x[SEP]",
        " \n\t x   y\r\n\r\n z  ",
        "\x1c\x1d a",
        "\xa0\x85 b",
    ]
)
@example(["日本 x", "e\u0301 \u2028 \u200b x", "\U0001f600 smile"])
def test_any_text(tokenizer: Tokenizer, texts: list[str]) -> None:
    assert by_memory(WordMemory(tokenizer.backend), texts) == by_library(tokenizer, texts)


def test_every_familiar_character_in_every_neighbourhood(tokenizer: Tokenizer) -> None:
    familiar = [chr(code) for code in range(0x2300) if not word_cache._UNFAMILIAR.search(chr(code))]
    assert len(familiar) > 1900
    texts = [f"a{c}b {c}c  {c} {c}{c}1{c}'s{c}\n{c}  {c}'{c} \n" for c in familiar]
    memory = WordMemory(tokenizer.backend)
    assert by_memory(memory, texts) == by_library(tokenizer, texts)
    assert by_memory(memory, texts) == by_library(tokenizer, texts), "the second time all words are remembered"


@given(
    st.lists(
        st.sampled_from(["\n", " ", "\r", "\t", "a", "B", "'", "s", "7", ".", "é", "再", "\u200b", "\x85", "[MASK]"])
    )
)
@example(list("a\nB再\ns.\n\na\n's"))
def test_lines_with_unfamiliar_characters_among_others(tokenizer: Tokenizer, pieces: list[str]) -> None:
    texts = ["".join(pieces), "再\n" + "".join(pieces), "a.\nB" + "".join(pieces) + "a\n再\nb"]
    assert by_memory(WordMemory(tokenizer.backend), texts) == by_library(tokenizer, texts)


def test_only_what_is_around_unfamiliar_characters_is_left_whole() -> None:
    assert word_cache._parts("One line.\nThe word 再见 for goodbye.\nA last line.") == [
        ["One", " line", ".", "\n", "The"],
        " word 再见 for",
        [" goodbye", ".", "\n", "A", " last", " line", "."],
    ]


def test_real_text(tokenizer: Tokenizer, real_data: Path) -> None:
    file = real_data / "pretrain" / "techdocs.validation.jsonl.zst"
    rows = read(SourceConfig("text", str(file)), Piece(str(file), None, 1))
    texts = [row.text for row in rows if isinstance(row, Document)]
    assert len(texts) > 50 and tokenizer.encode(texts) == by_library(tokenizer, texts)


def test_memory_is_bounded(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(word_cache, "KEPT_WORDS", 20)
    memory = WordMemory(tokenizer.backend)
    for number in range(30):
        text = f"{'z' * 100} alpha{number} beta{number}"
        assert by_memory(memory, [text]) == by_library(tokenizer, [text])
        assert len(memory._ids) <= 20 and not any(len(word) > word_cache.LONGEST_WORD for word in memory._ids)


def changed(tokenizer: Tokenizer, how: str) -> BackendTokenizer:
    backend = BackendTokenizer.from_str(tokenizer.backend.to_str())
    if how == "normalizer":
        backend.normalizer = normalizers.NFC()
    elif how == "prefix":
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    elif how == "metaspace":
        backend.pre_tokenizer = pre_tokenizers.Metaspace()
    elif how == "pattern":
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    elif how == "added":
        backend.add_tokens(["   "])
    return backend


@pytest.mark.parametrize("how", ["normalizer", "prefix", "metaspace", "pattern", "added"])
def test_stands_aside_for_another_kind_of_tokenizer(tokenizer: Tokenizer, how: str) -> None:
    assert WordMemory.suits(changed(tokenizer, "as it was"))
    assert not WordMemory.suits(changed(tokenizer, how))
