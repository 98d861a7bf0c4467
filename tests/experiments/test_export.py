"""What an exported folder records: its pooling, its card, its origin, and how it is read."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from ettin_core.data.corpus import Corpus
from ettin_core.evaluation.exports import data_of
from ettin_core.evaluation.pretrained import open_pretrained
from ettin_core.foundation.storage import read_json
from ettin_core.interop.card import card, front_matter
from ettin_core.records.folders import RunFolder, append
from ettin_core.records.schema import Measurement
from experiments.export import export_run, main
from tests.runs import tiny_run, train_tiny

TEXTS = ["the cat sat", "where is the dog and who has seen it today " * 12, "a"]


@pytest.fixture(scope="module")
def runs(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> dict[str, RunFolder]:
    """A tiny run of each member."""
    root = tmp_path_factory.mktemp("runs")
    return {member: train_tiny(tiny_run(corpus, member), root, corpus) for member in ("encoder", "decoder", "mntp")}


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("member", ["encoder", "decoder"])
def test_sentence_transformers_pools_both_members_as_we_do(
    member: str, runs: dict[str, RunFolder], corpora_dir: Path, tmp_path: Path
) -> None:
    pytest.importorskip("sentence_transformers", reason="the extra `embedding` is not installed")
    from sentence_transformers import SentenceTransformer
    from transformers import AutoModel

    for pooling, ours in (("mean", "mean"), ("lasttoken", "last"), ("weightedmean", "weighted"), ("cls", "first")):
        out = export_run(runs[member].path, tmp_path / pooling, corpora_dir, pooling=pooling)
        model = SentenceTransformer(str(out), device="cpu")
        expected = open_pretrained(str(out), device="cpu").embed(TEXTS, ours)
        assert model.max_seq_length == 80
        np.testing.assert_allclose(model.encode(TEXTS), expected, atol=1e-6)
    assert AutoModel.from_pretrained(out).config.hidden_size == 32


def test_the_card_has_valid_front_matter_and_says_how_the_model_is_read(
    runs: dict[str, RunFolder], corpora_dir: Path, corpus: Corpus, tmp_path: Path
) -> None:
    from huggingface_hub import ModelCard

    cards = {}
    for member, folder in runs.items():
        measured = Measurement(
            folder.name, member, "tiny", 21, "agreement", 1, "agreement", "accuracy", 0.75, 8, 0.1, "decay5", True
        )
        append(folder.evaluation_folder("agreement", 1) / "measurements.jsonl", [measured])
        out = export_run(folder.path, tmp_path / member, corpora_dir)
        cards[member] = ModelCard.load(out / "README.md")
        facts = read_json(out / "ettin.json")
        assert (facts["member"], facts["size"], facts["seed"], facts["phase"]) == (member, "tiny", 21, "decay")
        assert (facts["run"], facts["fingerprint"], facts["parent"]) == (folder.name, corpus.fingerprint, None)
        assert facts["libraries"]["torch"] and len(facts["code"]) == 64
        for part in (folder.name, corpus.fingerprint, facts["code"], facts["libraries"]["transformers"], "`decay`"):
            assert part in cards[member].text
        text = (out / "README.md").read_text() + (out / "ettin.json").read_text()
        assert str(tmp_path) not in text and str(folder.path) not in text and os.uname().nodename not in text
    assert [card.data.pipeline_tag for card in cards.values()] == [
        "fill-mask", "text-generation", "feature-extraction",
    ]  # fmt: skip
    assert {card.data.license for card in cards.values()} == {"mit"}  # the text of the world is the package's own
    assert cards["encoder"].data.metrics == ["accuracy"]
    [result] = cards["encoder"].data.eval_results
    assert (result.dataset_name, result.metric_type, result.metric_value) == ("agreement", "accuracy", 0.75)
    assert "4.48.0" in cards["encoder"].text and "4.54.0" in cards["decoder"].text
    assert "misread" in cards["mntp"].text and "misread" not in cards["encoder"].text


def test_a_conversion_names_its_parent_and_licences_are_those_of_the_manifest(corpus: Corpus) -> None:
    world = data_of(corpus)
    assert [item["licence"] for item in world] == ["MIT"] and world[0]["tokens"] > 1000
    for stated, licence in (
        (["CC BY-SA 4.0", "cc-by-sa-4.0"], "cc-by-sa-4.0"),
        (["CC BY-SA 4.0", None], "other"),
        (["US government work"], "other"),
        ([None, None], "unknown"),
    ):
        data = [{"source": str(place), "tokens": 1, "licence": text} for place, text in enumerate(stated)]
        facts = {"data": data, "objective": "clm", "parent": {"run": "nano-encoder-s21-0", "checkpoint": "decay5"}}
        head = front_matter(facts, "causal")
        assert (head["license"], head["base_model"]) == (licence, "nano-encoder-s21-0")
        text = card(facts, "causal", 10, 80, "mean")
        assert yaml.safe_load(text.split("---\n")[1]) == head and "checkpoint `decay5`" in text
    assert front_matter({}, "bidirectional")["license"] == "unknown"


def test_an_export_that_would_be_misread_says_so_in_one_line(
    runs: dict[str, RunFolder],
    corpora_dir: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def printed(member: str, pooling: str = "mean") -> list[str]:
        words = [f"run={runs[member].path}", f"out={tmp_path / member}", f"corpora_dir={corpora_dir}"]
        monkeypatch.setattr(sys, "argv", ["export", *words, f"pooling={pooling}"])
        main()
        return capsys.readouterr().out.splitlines()

    assert "misread" in printed("mntp")[1]
    assert len(printed("encoder")) == 1
    with pytest.raises(SystemExit):
        printed("decoder", "max")
    assert "pooling='max' is unknown; use one of mean, lasttoken" in capsys.readouterr().err


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_files_are_as_readable_as_any_other(
    umask: int, mode: int, runs: dict[str, RunFolder], corpora_dir: Path, tmp_path: Path
) -> None:
    before = os.umask(umask)
    try:
        out = export_run(runs["encoder"].path, tmp_path / "hf", corpora_dir)
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in out.rglob("*") if path.is_file()} == {mode}
