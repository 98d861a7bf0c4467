"""Tokenizers with gaps in their ids, up to beyond 65,535: nothing wraps, nothing is drawn from a gap, text comes back."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ettin_core.data.batch_schedule import BatchSchedule
from ettin_core.data.config import DataConfig
from ettin_core.data.corpus import Corpus, fingerprint
from ettin_core.data.loader import Loader
from ettin_core.data.preparation.plan import make_plan
from ettin_core.data.preparation.prepare import prepare
from ettin_core.data.preparation.readback import read_back
from ettin_core.data.shards import SplitWriter
from ettin_core.data.tokenizer import Tokenizer, train
from ettin_core.evaluation.pretrained import PretrainedTokenizer
from ettin_core.foundation.errors import UserError
from ettin_core.foundation.storage import hash_file, read_json, write_json
from ettin_core.interop.huggingface import export
from ettin_core.model.config import AttentionSpec, ModelConfig
from ettin_core.model.transformer import Transformer
from ettin_core.objectives.targets import Masking, Vocabulary, select

SHIFT = 65_960
TEXTS = [f"the cat number {number} sat on the mat and said {number * 7919}" for number in range(400)]


def with_gaps(folder: Path, first: int) -> Path:
    """A small tokenizer, whose ids from `first` on are `SHIFT` larger."""
    train(TEXTS, 390, folder)
    values = read_json(folder / "tokenizer.json")
    vocabulary = values["model"]["vocab"]
    values["model"]["vocab"] = {token: id_ + SHIFT * (id_ >= first) for token, id_ in vocabulary.items()}
    write_json(folder / "tokenizer.json", values)
    return folder


@pytest.fixture(scope="module")
def gaps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of texts, `tokenizer` with 390 tokens and ids up to 66,349, and corpora."""
    folder = tmp_path_factory.mktemp("gaps")
    with_gaps(folder / "tokenizer", 200)
    rows = [json.dumps({"id": str(number), "text": text}) for number, text in enumerate(TEXTS)]
    (folder / "texts.jsonl").write_text("\n".join(rows))
    return folder


def config(folder: Path, **changes: object) -> DataConfig:
    """The texts under the tokenizer with gaps."""
    base = DataConfig("text", str(folder / "texts.jsonl"), name="gaps", tokenizer=str(folder / "tokenizer"))
    return replace(base, **changes)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def corpus(gaps: Path) -> Corpus:
    """The texts, prepared."""
    return prepare(config(gaps), gaps / "corpora", workers=1)


def test_the_bound_of_ids_is_the_largest_plus_one(gaps: Path, corpus: Corpus) -> None:
    for tokenizer in (Tokenizer(gaps / "tokenizer"), PretrainedTokenizer(gaps / "tokenizer", masked=True)):
        assert (tokenizer.vocab_size, len(tokenizer.ids)) == (66_350, 390)
    assert corpus.manifest["vocab_size"] == 66_350 and corpus.manifest["dtype"] == "<u4"


def test_text_comes_back_and_is_verified(gaps: Path, corpus: Corpus) -> None:
    texts = {corpus.tokenizer.decode(ids) for ids in corpus.documents("train")}
    assert texts < set(TEXTS) and len(texts) > 300
    assert max(ids.max() for ids in corpus.documents("train")) > 2**16
    result = read_back(make_plan(config(gaps)), corpus)
    assert result.compared == result.exact == 400


def rewritten(folder: Path, to: Path, dtype: str) -> Path:
    """A copy of a corpus with its ids stored in another type, as a writer would that does not look, hashes and all."""
    shutil.copytree(folder, to)
    manifest = read_json(to / "manifest.json")
    for entry in manifest["sources"]["gaps"].values():
        for shard in entry["shards"]:
            ids = np.fromfile(to / shard["file"], dtype=manifest["dtype"])
            ids.astype(dtype).tofile(to / shard["file"])
            shard["sha256"] = hash_file(to / shard["file"])
    manifest["dtype"] = dtype
    write_json(to / "manifest.json", manifest | {"fingerprint": fingerprint(manifest)})
    return to


def test_a_corpus_whose_ids_wrapped_is_refused(corpus: Corpus, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="ids up to 66349 stored as uint16.*delete the corpus folder and prepare again"):
        Corpus(rewritten(corpus.folder, tmp_path / "wrapped", "<u2"))


def test_verifying_compares_text(gaps: Path, corpus: Corpus, tmp_path: Path) -> None:
    """Other words under right hashes: what a wrapped id leaves."""
    copy = rewritten(corpus.folder, tmp_path / "same", "<u4")
    assert read_back(make_plan(config(gaps)), Corpus(copy)).exact == 400
    file = copy / corpus.manifest["sources"]["gaps"]["validation"]["shards"][0]["file"]
    ids = np.fromfile(file, dtype="<u4")
    place = int(np.flatnonzero(ids >= 2**16)[0])
    ids[place] -= 2**16
    ids.tofile(file)
    copy = rewritten(copy, tmp_path / "wrapped", "<u4")
    Corpus(copy).verify()
    with pytest.raises(UserError, match="does not hold the text of source 'gaps': .*stored is"):
        read_back(make_plan(config(gaps)), Corpus(copy))


def test_ids_in_a_gap_are_refused_where_tokens_are_given(gaps: Path, corpus: Corpus, tmp_path: Path) -> None:
    rows = [{"id": str(n), "ids": ids[1:-1].tolist()} for n, ids in enumerate(corpus.documents("train"))]
    file = tmp_path / "ids.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    given = prepare(config(gaps, path=str(file), token_field="ids"), tmp_path / "out", workers=1)
    assert {corpus.tokenizer.decode(ids) for ids in given.documents("train")} < set(TEXTS)
    assert read_back(make_plan(config(gaps, path=str(file), token_field="ids")), given).compared == len(rows)
    rows[3]["ids"][2] = 300  # in the gap
    file.write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(UserError, match="holds ids that the tokenizer does not have in document '3'"):
        prepare(config(gaps, path=str(file), token_field="ids"), tmp_path / "out", workers=1)


def test_a_writer_does_not_store_an_id_beyond_its_bound(gaps: Path, tmp_path: Path) -> None:
    writer = SplitWriter(tmp_path, "x", Tokenizer(gaps / "tokenizer"))
    with pytest.raises(AssertionError, match="come back as another one"):
        writer.add(np.array([7, 66_350], dtype=np.uint32), 1, None)


def test_random_replacements_are_tokens(corpus: Corpus) -> None:
    vocabulary = Vocabulary.of(corpus.tokenizer)
    batch = Loader(corpus, 64, BatchSchedule(64), seed=1, phase="pretrain").batch(0)
    inputs, selected = select(batch, vocabulary, Masking(0.9, 0.0, 1.0), key=3)
    drawn = inputs[selected]
    assert np.isin(drawn, corpus.tokenizer.ids).all() and len(np.unique(drawn)) > 300
    assert 0.3 < (drawn >= 2**16).mean() < 0.7  # every token equally often, on either side of the gap


def test_an_export_reads_the_same_ids_and_needs_a_row_for_the_largest(
    gaps: Path, corpus: Corpus, tmp_path: Path
) -> None:
    def exported(rows: int) -> Path:
        model = Transformer(ModelConfig(rows, 32, 1, 2, 48, local_window=16))
        return export(model, AttentionSpec("bidirectional"), gaps / "tokenizer", tmp_path / "hf", 80, {})

    with pytest.raises(UserError, match="has ids up to 66349, the model has 512 rows"):
        exported(512)
    read = PretrainedTokenizer(exported(66_368), masked=True)
    assert read.encode(TEXTS[:20]) == corpus.tokenizer.encode(TEXTS[:20]) and read.vocab_size == 66_350
