"""The tokenizer: every text comes back byte for byte, no text makes a special token, and transformers agrees."""

import json
import random
import re
import shutil
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer as BackendTokenizer
from tokenizers import models, pre_tokenizers, trainers

from ettin_core.data import tokenizer as module
from ettin_core.data.corpus import Corpus
from ettin_core.data.tokenizer import SPECIAL_NAMES, Tokenizer, policy_hash

SENTENCES = ["The baker  sold bread.\n", "Ärger, naïve, 北京, 🙂", " leading and trailing ", "tabs\tand\r\nreturns"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer trained on a few sentences."""
    folder = tmp_path_factory.mktemp("tokenizer")
    module.train(SENTENCES * 20, 310, folder)
    return folder


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> Tokenizer:
    """That tokenizer, loaded."""
    return Tokenizer(folder)


def altered(folder: Path, target: Path, old: str, new: str, files: tuple[str, ...] = ("tokenizer.json",)) -> Path:
    """A copy of a tokenizer folder with one piece of text replaced in the files."""
    shutil.copytree(folder, target)
    for name in files:
        text = (target / name).read_text()
        assert old in text
        (target / name).write_text(text.replace(old, new))
    return target


@given(st.text())
def test_every_text_comes_back(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode([text])[0]) == text


@given(st.text(alphabet=st.sampled_from("[]MASKCLEPDUN \n'â")))
def test_texts_that_look_special_come_back(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode([text])[0]
    assert tokenizer.decode(ids) == text
    assert not set(ids) & set(tokenizer.special.ids)


@pytest.mark.parametrize("name", sorted(SPECIAL_NAMES.values()))
def test_a_literal_special_name_is_ordinary_text(tokenizer: Tokenizer, name: str) -> None:
    text = f"before {name} after{name}"
    ids = tokenizer.encode([text])[0]
    assert not set(ids) & set(tokenizer.special.ids)
    assert tokenizer.decode(ids) == text


def test_special_ids_are_the_first_five(tokenizer: Tokenizer) -> None:
    special = tokenizer.special
    assert (special.unknown, special.bos, special.eos, special.pad, special.mask) == (0, 1, 2, 3, 4)
    assert special.ids == (0, 1, 2, 3, 4)
    assert tokenizer.vocab_size == 310


def test_decode_shows_special_tokens_only_when_asked(tokenizer: Tokenizer) -> None:
    ids = [tokenizer.special.bos, *tokenizer.encode(["bread"])[0], tokenizer.special.eos]
    assert tokenizer.decode(ids) == "bread"
    assert tokenizer.decode(ids, show_special=True) == "[CLS]bread[SEP]"


def test_a_batch_equals_its_texts_one_by_one(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode(SENTENCES) == [tokenizer.encode([text])[0] for text in SENTENCES]
    assert tokenizer.encode([]) == []


def test_arrays_are_the_lists(tokenizer: Tokenizer) -> None:
    arrays = tokenizer.encode_arrays([*SENTENCES, ""])
    assert [ids.dtype for ids in arrays] == [np.dtype("uint32")] * (len(SENTENCES) + 1)
    assert [ids.tolist() for ids in arrays] == tokenizer.encode([*SENTENCES, ""])


# --- very long texts


WORDS = st.sampled_from(["baker", "sold", " ", "  ", "\n", "12", "3", "'s", "naïve", "хлеб", "北京", "[MASK]", "-"])


def in_one_go(tokenizer: Tokenizer, text: str) -> list[int]:
    """The ids the library gives for the whole text."""
    return tokenizer.backend.encode_batch_fast([text], add_special_tokens=False)[0].ids


@given(st.lists(st.lists(WORDS, max_size=60).map(" ".join), max_size=4), st.integers(1, 200))
def test_stretches_of_any_length_give_the_ids_of_the_whole(
    tokenizer: Tokenizer, texts: list[str], stretch: int
) -> None:
    def unbroken(text: str) -> bool:  # only what has no place to cut for twice a stretch is cut anywhere
        return all(len(between) < stretch - 1 for between in re.split(r"(?<=[a-zа-яï]) (?=[a-zа-я])", text))

    with patch.object(module, "STRETCH", stretch):
        encoded = tokenizer.encode(texts)
        pieces = [module._stretches(text, stretch) for text in texts]
    assert ["".join(several) for several in pieces] == texts
    assert all(len(part) <= 2 * stretch for several in pieces for part in several)
    for text, ids in zip(texts, encoded, strict=True):
        if unbroken(text):
            assert ids == in_one_go(tokenizer, text)
        assert tokenizer.decode(ids) == text


@pytest.mark.parametrize("words", ["The baker sold naïve bread", "Пекарь продал хлеб и вино"])
def test_a_long_text_is_encoded_in_stretches(words: str, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STRETCH", 1000)
    sizes: list[list[int]] = []
    encode_all = Tokenizer._encode_all

    def noted(self: Tokenizer, texts: list[str]) -> list[list[int]]:
        sizes.append([len(text) for text in texts])
        return encode_all(self, texts)

    monkeypatch.setattr(Tokenizer, "_encode_all", noted)
    text = " ".join([words] * 600)
    assert tokenizer.encode(["short", text, "shorter"])[1] == in_one_go(tokenizer, text)
    assert max(map(max, sizes)) < 1100 and max(map(sum, sizes)) <= 4000
    assert sum(map(sum, sizes)) == len(text) + len("short" + "shorter")


def test_a_word_without_end_is_cut_where_it_is(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STRETCH", 100)
    text = "北京" * 500 + "x" * 999
    assert tokenizer.decode(tokenizer.encode([text])[0]) == text
    assert max(map(len, module._stretches(text, 100))) == 200


@pytest.mark.parametrize(
    ("pre_tokenizer", "cuts"),
    [
        (pre_tokenizers.ByteLevel(add_prefix_space=False), True),
        (pre_tokenizers.ByteLevel(add_prefix_space=True), True),
        (pre_tokenizers.Metaspace(prepend_scheme="always"), True),
        (pre_tokenizers.Metaspace(prepend_scheme="first"), True),
        (pre_tokenizers.Metaspace(prepend_scheme="never"), True),
        (pre_tokenizers.Metaspace(prepend_scheme="always", split=False), False),
        (pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False), False),
    ],
)
def test_whatever_splits_words_a_long_text_has_the_ids_of_the_whole(
    pre_tokenizer: pre_tokenizers.PreTokenizer, cuts: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = BackendTokenizer(models.BPE(unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizer
    texts = ["A sentence, cut in two just before a space."] * 30 + SENTENCES
    special = list(SPECIAL_NAMES.values())
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=420, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    backend.train_from_iterator(texts, trainer)
    module.save(backend, tmp_path)
    tokenizer = Tokenizer(tmp_path)
    monkeypatch.setattr(module, "STRETCH", 50)
    text = " ".join(texts * 5)
    assert tokenizer.encode([text])[0] == in_one_go(tokenizer, text)
    if not cuts:  # the words of such a tokenizer go across spaces
        assert tokenizer._stretches(text) == [text]


def test_training_is_the_same_for_a_text_in_pieces(tmp_path: Path) -> None:
    words = ["baker", "sold", "bread", "smith", "made", "ring", "naïve", "хлеб"]
    text = " ".join(words[number * number % 8] + words[number % 7][:3] for number in range(40_000))
    assert len(text) > 3 * 2**16
    module.train([text], 400, tmp_path)
    backend = BackendTokenizer(models.BPE(unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=list(SPECIAL_NAMES.values()),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator([text], trainer)
    assert backend.get_vocab() == Tokenizer(tmp_path).backend.get_vocab()


def test_training_digests_a_word_without_end(tmp_path: Path) -> None:
    text = "".join(random.Random(0).choices("abcdefgh", k=400_000))
    pieces = list(module._digestible([f"a few {text} words", "more"]))
    assert "".join(pieces) == f"a few {text} wordsmore" and max(map(len, pieces)) <= 256
    module.train([text], 320, tmp_path)  # as one word this takes half a minute
    assert Tokenizer(tmp_path).vocab_size == 320


def test_ends_count_characters(tokenizer: Tokenizer) -> None:
    text = "The baker sold naïve bread"
    ids, ends = tokenizer.encode_with_ends(text)
    assert ids == tokenizer.encode([text])[0]
    assert ends == sorted(ends) and ends[-1] == len(text)
    for count in range(1, len(ids) + 1):
        piece = tokenizer.decode(ids[:count])
        if "\ufffd" not in piece:  # within a character of two tokens there is no count
            assert piece == text[: ends[count - 1]]


def test_training_twice_gives_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    module.train(SENTENCES * 20, 310, tmp_path)
    names = ["special_tokens_map.json", "tokenizer.json", "tokenizer_config.json"]
    assert sorted(file.name for file in tmp_path.iterdir()) == names
    for name in names:
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()
    assert Tokenizer(tmp_path).hash == Tokenizer(folder).hash


def test_the_hash_follows_the_file(folder: Path, tmp_path: Path) -> None:
    tokenizer = Tokenizer(shutil.copytree(folder, tmp_path / "same"))
    assert tokenizer.hash == Tokenizer(folder).hash
    changed = Tokenizer(altered(folder, tmp_path / "other", '"use_regex": true', '"use_regex": false'))
    assert changed.hash != tokenizer.hash and policy_hash(changed) != policy_hash(tokenizer)


def test_the_policy_follows_the_roles_of_the_special_tokens(folder: Path, tmp_path: Path) -> None:
    old, new = '"bos_token": "[CLS]"', '"bos_token": "[UNK]"'
    changed = Tokenizer(altered(folder, tmp_path / "other", old, new, ("tokenizer_config.json",)))
    assert changed.hash == Tokenizer(folder).hash and policy_hash(changed) != policy_hash(Tokenizer(folder))


def test_transformers_loads_the_folder_with_the_same_ids(corpus: Corpus) -> None:
    from transformers import AutoTokenizer

    theirs = AutoTokenizer.from_pretrained(corpus.tokenizer.folder)
    ours = corpus.tokenizer
    assert len(theirs) == ours.vocab_size
    texts = [*SENTENCES, *(ours.decode(ids) for ids in corpus.documents("validation", limit=20))]
    assert theirs(texts, add_special_tokens=False)["input_ids"] == ours.encode(texts)
    assert [theirs.decode(ids) for ids in ours.encode(texts)] == texts
    special = ours.special
    assert (theirs.unk_token_id, theirs.pad_token_id, theirs.mask_token_id) == (
        special.unknown,
        special.pad,
        special.mask,
    )
    assert (theirs.bos_token_id, theirs.cls_token_id) == (special.bos, special.bos)
    assert (theirs.eos_token_id, theirs.sep_token_id) == (special.eos, special.eos)


def test_a_folder_that_transformers_saved_is_the_same_tokenizer(corpus: Corpus, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    AutoTokenizer.from_pretrained(corpus.tokenizer.folder).save_pretrained(tmp_path)
    again = Tokenizer(tmp_path)
    assert again.special == corpus.tokenizer.special
    assert again.encode(SENTENCES) == corpus.tokenizer.encode(SENTENCES)


def test_roles_come_from_the_config_where_there_is_one(folder: Path, tmp_path: Path) -> None:
    names = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")
    tokenizer = Tokenizer(altered(folder, tmp_path / "other", '"[MASK]"', '"<mask>"', names))
    assert tokenizer.special.mask == 4


@pytest.mark.parametrize(("role", "token"), [("mask", "[MASK]"), ("bos", "[CLS]"), ("eos", "[SEP]"), ("pad", "[PAD]")])
def test_a_missing_special_token_is_refused(role: str, token: str, folder: Path, tmp_path: Path) -> None:
    broken = altered(folder, tmp_path / "broken", f'"{token}"', '"plain"')
    with pytest.raises(ValueError) as caught:
        Tokenizer(broken)
    assert str(caught.value).startswith(f"data.tokenizer={str(broken)!r} has no {role} token {token!r}; ")
    assert "tokenizer=null" in str(caught.value)


def test_special_tokens_that_share_an_id_are_refused(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "shared")
    file = tmp_path / "shared" / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"pad_token": "[SEP]"}))
    with pytest.raises(ValueError, match="shares ids between special tokens"):
        Tokenizer(tmp_path / "shared")


def test_a_folder_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"data\.tokenizer='.*' holds no tokenizer\.json; give a folder"):
        Tokenizer(tmp_path)


def test_truncation_and_padding_of_a_folder_are_ignored(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "other")
    file = tmp_path / "other" / "tokenizer.json"
    content = json.loads(file.read_text())
    content["truncation"] = {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0}
    content["padding"] = {
        "strategy": {"Fixed": 9},
        "direction": "Right",
        "pad_to_multiple_of": None,
        "pad_id": 3,
        "pad_type_id": 0,
        "pad_token": "[PAD]",
    }
    file.write_text(json.dumps(content))
    assert Tokenizer(tmp_path / "other").encode(SENTENCES) == Tokenizer(folder).encode(SENTENCES)
