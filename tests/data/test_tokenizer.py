"""The tokenizer: every text comes back byte for byte, no text makes a special token, and transformers agrees."""

import json
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
    other = Tokenizer(altered(folder, tmp_path / "other", '"use_regex": true', '"use_regex": false'))
    assert other.hash != tokenizer.hash and policy_hash(other) != policy_hash(tokenizer)


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
