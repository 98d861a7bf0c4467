"""A prepared corpus: what it holds is what was given, and damage is found before a token is used."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ettin_core.data import shards
from ettin_core.data.config import DataConfig
from ettin_core.data.corpus import Corpus, fingerprint
from ettin_core.data.documents import SPLITS, Document
from ettin_core.data.importers.registry import find_sources, read
from ettin_core.data.preparation.prepare import prepare
from ettin_core.data.tokenizer import train
from ettin_core.foundation.errors import UserError
from ettin_core.foundation.storage import hash_file


@pytest.fixture
def copy(corpus: Corpus, tmp_path: Path) -> Path:
    """A copy of the small world that a test may damage."""
    return shutil.copytree(corpus.folder, tmp_path / corpus.name, ignore=shutil.ignore_patterns("rows"))


def shard(folder: Path) -> Path:
    """The train shard of the small world."""
    return folder / "world.train-00000-000.bin"


def starts(folder: Path) -> Path:
    """Where the documents of that shard begin."""
    return shard(folder).with_suffix(".starts")


def given(config: DataConfig, split: str) -> list[Document]:
    """The documents of a split, from the source itself."""
    (source,) = find_sources(config)
    items = [item for piece in source.pieces if piece.split == split for item in read(source.config, piece)]
    return [item for item in items if isinstance(item, Document)]


def flip(file: Path, place: int) -> None:
    """Change one bit of a file."""
    content = bytearray(file.read_bytes())
    content[place] ^= 1
    file.write_bytes(content)


def write_documents(folder: Path, name: str, texts: list[str]) -> None:
    """Three files of one source: the texts are its train split."""
    folder.mkdir(exist_ok=True)
    for split, content in (("train", texts), ("validation", ["Held out."]), ("test", ["Also held out."])):
        lines = [json.dumps({"id": f"{name}{number}", "text": text}) for number, text in enumerate(content)]
        (folder / f"{name}.{split}.jsonl").write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize("split", SPLITS)
def test_every_document_is_bos_text_eos(corpus: Corpus, world_config: DataConfig, split: str) -> None:
    special = corpus.tokenizer.special
    documents = corpus.documents(split)
    texts = [document.text for document in given(world_config, split)]
    assert len(documents) == len(texts)
    for ids, text in zip(documents, texts, strict=True):
        assert ids[0] == special.bos and ids[-1] == special.eos
        assert not np.isin(ids[1:-1], special.ids).any()
        assert corpus.tokenizer.decode(ids[1:-1]) == text


@pytest.mark.parametrize("split", SPLITS)
def test_the_manifest_counts_what_is_there(corpus: Corpus, world_config: DataConfig, split: str) -> None:
    there = given(world_config, split)
    entry = corpus.manifest["sources"]["world"][split]
    assert entry["documents"] == len(there) == sum(part["documents"] for part in entry["shards"])
    assert entry["bytes"] == sum(len(document.text.encode()) for document in there)
    lengths = [len(ids) for ids in corpus.documents(split)]
    assert entry["tokens"] == sum(lengths) == corpus.tokens("world", split)
    assert entry["tokens"] == sum(part["tokens"] for part in entry["shards"]) == len(corpus.stream("world", split))
    assert entry["lengths"] == np.bincount([length.bit_length() - 1 for length in lengths]).tolist()
    assert entry["log_probability"] == sum(document.log_probability or 0.0 for document in there) < 0


def test_shards_are_read_as_one_stream(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, world_config: DataConfig, corpus: Corpus
) -> None:
    monkeypatch.setattr(shards, "SHARD_TOKENS", 5000)
    small = prepare(world_config, tmp_path, 1)
    stream, whole = small.stream("world", "train"), corpus.stream("world", "train").read(0, 10**9)
    assert len(stream.files) > 10 and len(stream) == len(whole)
    assert np.array_equal(stream.read(0, len(stream)), whole)
    for left, right in zip(small.documents("train"), corpus.documents("train"), strict=True):
        assert np.array_equal(left, right)
    edge = stream.sizes[0]
    for begin, end in ((edge - 3, edge + 3), (edge, edge + 1), (edge - 1, edge), (7, 40_000), (len(whole) - 2, 10**9)):
        assert np.array_equal(stream.read(begin, end), whole[begin:end])
    assert len(stream.read(len(whole), len(whole) + 5)) == len(stream.read(5, 5)) == 0


def test_documents_take_sources_in_turn(tmp_path: Path) -> None:
    write_documents(tmp_path / "in", "books", ["b one", "b two", "b three"])
    write_documents(tmp_path / "in", "web", ["w one"])
    config = DataConfig(kind="text", name="mine", path=str(tmp_path / "in"), vocab_size=300)
    corpus = prepare(config, tmp_path, 1)

    def texts(limit: int | None) -> list[str]:
        return [corpus.tokenizer.decode(ids) for ids in corpus.documents("train", limit)]

    assert texts(None) == ["b one", "w one", "b two", "b three"]
    assert texts(3) == ["b one", "w one", "b two"]
    assert corpus.sources == ["books", "web"]


def test_a_limited_read_gives_whole_documents_only(tmp_path: Path) -> None:
    texts = ["long " * 9000, "short one", "short two"]
    write_documents(tmp_path / "in", "books", texts)
    corpus = prepare(DataConfig(kind="text", name="mine", path=str(tmp_path / "in"), vocab_size=300), tmp_path, 1)
    assert len(corpus.documents("train")[0]) > 2 * 4096
    for limit in (1, 2, 3):
        read_texts = [corpus.tokenizer.decode(ids) for ids in corpus.documents("train", limit)]
        assert read_texts == texts[: len(read_texts)] and read_texts


def test_verify_accepts_what_is_whole(copy: Path) -> None:
    Corpus(copy).verify()
    assert fingerprint(Corpus(copy).manifest) == Corpus(copy).fingerprint


@pytest.mark.parametrize("place", [0, 1, 100_000, -1])
def test_verify_names_a_shard_with_one_flipped_bit(copy: Path, place: int) -> None:
    flip(shard(copy), place)
    with pytest.raises(ValueError) as caught:
        Corpus(copy).verify()
    assert str(caught.value).startswith(f"shard={str(shard(copy))!r} is damaged; ")


@pytest.mark.parametrize("place", [0, 4, -1])
def test_verify_names_starts_with_one_flipped_bit(copy: Path, place: int) -> None:
    flip(starts(copy), place)
    with pytest.raises(ValueError) as caught:
        Corpus(copy).verify()
    assert str(caught.value).startswith(f"shard={str(starts(copy))!r} is damaged; ")


def test_verify_notices_an_altered_manifest(copy: Path) -> None:
    manifest = json.loads((copy / "manifest.json").read_text())
    flip(shard(copy), 4)
    manifest["sources"]["world"]["train"]["shards"][0]["sha256"] = hash_file(shard(copy))
    (copy / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match="has an altered manifest"):
        Corpus(copy).verify()


@pytest.mark.parametrize("find", [shard, starts])
@pytest.mark.parametrize("change", [-2, -(10**9), 2])
def test_a_file_of_the_wrong_size_is_refused_at_opening(copy: Path, find: Callable[[Path], Path], change: int) -> None:
    file = find(copy)
    size = file.stat().st_size
    content = file.read_bytes() + bytes(2)
    file.write_bytes(content[: max(0, size + change)])
    with pytest.raises(ValueError) as caught:
        Corpus(copy)
    assert str(caught.value) == (
        f"shard={str(file)!r} has {max(0, size + change)} bytes instead of {size}; "
        "restore it, or delete the corpus folder and prepare again."
    )


@pytest.mark.parametrize("find", [shard, starts])
def test_a_missing_file_is_refused_at_opening(copy: Path, find: Callable[[Path], Path]) -> None:
    find(copy).unlink()
    with pytest.raises(ValueError) as caught:
        Corpus(copy)
    assert str(caught.value).startswith(f"shard={str(find(copy))!r} is missing; restore it, or delete")


def test_another_tokenizer_is_refused_at_opening(copy: Path) -> None:
    train(["quite another text"], 300, copy / "tokenizer")
    with pytest.raises(ValueError, match="was prepared with another tokenizer or policy than the one beside it"):
        Corpus(copy)


@pytest.mark.parametrize("role", ["bos_token", "mask_token"])
def test_another_role_of_a_special_token_is_refused_at_opening(copy: Path, role: str) -> None:
    file = copy / "tokenizer" / "tokenizer_config.json"
    roles = json.loads(file.read_text())
    file.write_text(json.dumps(roles | {role: roles["unk_token"]}))
    with pytest.raises(ValueError, match="was prepared with another tokenizer or policy than the one beside it"):
        Corpus(copy)


def test_a_folder_without_a_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"has no manifest\.json; prepare it: python -m experiments\.prepare"):
        Corpus(tmp_path)


def test_another_format_is_refused(copy: Path) -> None:
    manifest = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps(manifest | {"format": 99}))
    with pytest.raises(ValueError, match="has format 99; delete it and prepare again"):
        Corpus(copy)


def test_a_corpus_without_test_split_and_with_a_source_without_validation(tmp_path: Path) -> None:
    words = "some words that are said often "
    for name in ("books.train", "books.validation", "web.train"):
        rows = [json.dumps({"id": f"{name}{number}", "text": f"{words * 3}{name} {number}"}) for number in range(40)]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(rows))
    corpus = prepare(DataConfig(kind="text", name="mine", path=str(tmp_path), vocab_size=300), tmp_path / "corpora", 1)
    assert corpus.tokens("web", "validation") == 0
    assert len(corpus.documents("validation")) == 40
    shared = {split: [tuple(ids) for ids in corpus.held_out(split)] for split in ("validation", "test")}
    assert sorted(shared["validation"] + shared["test"]) == sorted(map(tuple, corpus.documents("validation")))
    assert len(shared["validation"]) == 20 and corpus.held_out("test", limit=1)[0].tolist() == list(shared["test"][0])
    assert corpus.documents("test") == []


def test_an_opened_corpus_is_verified(copy: Path) -> None:
    """A shard changed in its place, with its size and even its time of change kept."""
    Corpus(copy)
    for file in (shard(copy), starts(copy)):
        before = file.stat()
        flip(file, 7)
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
        with pytest.raises(UserError, match=f"{file.name}' is damaged; delete the corpus folder and prepare again"):
            Corpus(copy)
        flip(file, 7)
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
        Corpus(copy)


@pytest.mark.parametrize("suffix", [".bin", ".starts"])
def test_a_shard_outside_of_the_folder_is_refused(suffix: str, corpus: Corpus, tmp_path: Path) -> None:
    folder = shutil.copytree(corpus.folder, tmp_path / "copy")
    file = sorted(folder.glob(f"*{suffix}"))[0]
    link = shutil.move(file, tmp_path / f"elsewhere{suffix}")
    file.symlink_to(link)
    with pytest.raises(UserError, match="is outside of the corpus folder; put the file itself into the folder"):
        Corpus(folder)
    file.unlink()
    shutil.move(link, file)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["sources"]["world"]["train"]["shards"][0]["file"] = "../elsewhere.bin"
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match=r"copy/../elsewhere.bin' is outside of the corpus folder"):
        Corpus(folder)
    (tmp_path / "link").symlink_to(corpus.folder)
    assert Corpus(tmp_path / "link").fingerprint == corpus.fingerprint
