"""A public model as the parent of a conversion: real transformers folders in, runs out."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import ModernBertConfig, ModernBertDecoderConfig, ModernBertDecoderForCausalLM, ModernBertForMaskedLM

from ettin_core.checkpoints.native import hash_tensors
from ettin_core.data.corpus import Corpus
from ettin_core.evaluation.suite import open_model
from ettin_core.foundation.errors import UserError
from ettin_core.foundation.storage import read_json, write_json
from ettin_core.optim.config import OptimizerConfig
from ettin_core.planning.adoption import adopt
from ettin_core.planning.conversion import Conversion, parent_weights
from ettin_core.planning.run_plan import open_run
from ettin_core.records.folders import RunFolder
from ettin_core.studies.train_run import trained
from ettin_core.training.config import RunConfig
from experiments.export import export_run
from tests.planning.test_conversion import conversion
from tests.runs import PLACEMENT, tiny_run

OPTIMIZER = OptimizerConfig("adamw", 1e-3, 1e-2)
SHAPE: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 96,
    "global_attn_every_n_layers": 3,
    "decoder_bias": True,
}
CLASSES = {
    "causal": (ModernBertDecoderConfig, ModernBertDecoderForCausalLM),
    "bidirectional": (ModernBertConfig, ModernBertForMaskedLM),
}


def public(folder: Path, direction: str, corpus: Corpus, **changes: Any) -> Any:
    """A random model that transformers itself saved, with the corpus's tokenizer; every tensor matters."""
    config, model = CLASSES[direction]
    torch.manual_seed(3)
    special = corpus.tokenizer.special
    roles = {"bos": special.bos, "cls": special.bos, "eos": special.eos, "sep": special.eos, "pad": special.pad}
    ids = {f"{role}_token_id": number for role, number in roles.items()}
    theirs = model(config(vocab_size=corpus.tokenizer.vocab_size, **(SHAPE | ids | changes))).eval()  # type: ignore[operator]
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.05)
    theirs.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        shutil.copy(corpus.tokenizer.folder / name, folder)
    return theirs


@pytest.fixture(scope="module")
def decoder(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    folder = tmp_path_factory.mktemp("public") / "tiny-decoder"
    bases = {"full_attention": 50_000.0, "sliding_attention": 20_000.0}
    rope = {name: {"rope_type": "default", "rope_theta": base} for name, base in bases.items()}
    return folder, public(folder, "causal", corpus, rope_parameters=rope)


def taken(folder: Path, corpus: Corpus, runs: Path) -> tuple[RunFolder, RunConfig]:
    """The folder's model as a complete run."""
    adopted = adopt(str(folder), None, corpus, OPTIMIZER, "fp32")
    trained(adopted.run, corpus, PLACEMENT, str(runs), start=lambda: adopted.weights)
    return open_run(str(runs / adopted.run.name))


@pytest.mark.parametrize("direction", CLASSES)
def test_a_public_model_is_a_run_with_its_logits(direction: str, corpus: Corpus, tmp_path: Path) -> None:
    theirs = public(tmp_path / "theirs", direction, corpus, local_attention=42)
    folder, run = taken(tmp_path / "theirs", corpus, tmp_path / "runs")
    assert run.member == {"causal": "decoder", "bidirectional": "encoder"}[direction] and run.size == "theirs"
    assert run.parent is not None and run.parent.run == "theirs" and folder.summary()["tokens"] == 0
    assert folder.summary()["final_weights"] == run.parent.weights == folder.summary()["initial_weights"]
    model, _, weights = open_model(run, folder, corpus, None, "cpu")
    assert weights == run.parent.weights and model.context == 96
    ids = torch.tensor([[corpus.tokenizer.special.bos, *range(20, 80)]])
    rows = torch.zeros_like(ids), torch.arange(ids.shape[1])[None]
    with torch.no_grad():
        ours = model.model.logits(model.model(ids, *rows, model.view)[0])
        assert torch.allclose(ours, theirs(input_ids=ids).logits[0], atol=1e-5)


@pytest.mark.parametrize("member", ["enc-from-dec", "enc-from-dec-mntp"])
def test_a_public_decoder_becomes_an_encoder(
    member: str, decoder: tuple[Path, Any], corpus: Corpus, tmp_path: Path
) -> None:
    parent, run = taken(decoder[0], corpus, tmp_path)
    child = conversion(member, tokens=3840).of(run, parent)
    assert (child.phases[0].rope_base_global, child.phases[0].rope_base_local) == (50_000.0, 20_000.0)
    trained(child, corpus, PLACEMENT, str(tmp_path))
    folder, _ = open_run(str(tmp_path / child.name))
    summary = folder.summary()
    assert (summary["parent"], summary["initial_weights"]) == (parent.name, parent.summary()["final_weights"])
    assert summary["tokens"] == 3840 and summary["final_weights"] != summary["initial_weights"]
    assert child.name.startswith("tiny_decoder-enc-from-dec")
    out = export_run(folder.path, tmp_path / "hf", corpus.folder.parent)
    assert read_json(out / "config.json")["architectures"] == ["ModernBertForMaskedLM"]


def test_our_own_export_is_held_though_its_tokenizer_adds_marks(
    decoder: tuple[Path, Any], corpus: Corpus, tmp_path: Path
) -> None:
    folder, _ = taken(decoder[0], corpus, tmp_path)
    again = adopt(str(export_run(folder.path, tmp_path / "hf", corpus.folder.parent)), None, corpus, OPTIMIZER, "fp32")
    assert hash_tensors(again.weights) == folder.summary()["final_weights"]


def test_what_cannot_be_a_parent_is_said_in_one_line(decoder: tuple[Path, Any], corpus: Corpus, tmp_path: Path) -> None:
    def refused(change: dict[str, Any] | None, words: str) -> None:
        folder = tmp_path / words.split()[0].strip("\\")
        shutil.copytree(decoder[0], folder)
        if change is not None:
            write_json(folder / "config.json", read_json(folder / "config.json") | change)
        else:
            tokenizer = read_json(folder / "tokenizer.json")
            tokenizer["model"]["merges"] = tokenizer["model"]["merges"][:-1]
            write_json(folder / "tokenizer.json", tokenizer)
        with pytest.raises(UserError, match=words) as caught:
            adopt(str(folder), None, corpus, OPTIMIZER, "fp32")
        assert "\n" not in str(caught.value)

    refused({"model_type": "gpt2"}, "model_type='gpt2'")
    refused({"tie_word_embeddings": False}, "tie_word_embeddings=False is not something our transformer has")
    refused(None, "another tokenizer than that of .*; prepare one with data.tokenizer=")
    with pytest.raises(UserError, match="neither a folder nor a model that can be fetched"):
        adopt("nobody/nothing", None, corpus, OPTIMIZER, "fp32")
    run = tiny_run(corpus)
    assert parent_weights(replace(run, parent=None), tmp_path) is None
    with pytest.raises(UserError, match="give tokens="):
        Conversion(**vars(conversion("enc-from-dec"))).plan(taken(decoder[0], corpus, tmp_path / "runs")[1])
