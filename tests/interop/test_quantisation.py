"""Quantised folders load with plain transformers, hold less, and predict nearly the same; a kill or a mistake leaves none."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

pytest.importorskip("torchao", reason="the extra quantisation is not installed")
pytest.importorskip("bitsandbytes", reason="the extra quantisation is not installed")

from ettin_core.evaluation.pretrained import PretrainedBody, open_pretrained
from ettin_core.foundation.errors import UserError
from ettin_core.foundation.storage import read_json, write_json
from ettin_core.interop import huggingface
from ettin_core.interop.quantisation import LIBRARY, load, matrices, quantise
from ettin_core.interop.quantisation_effect import effect
from ettin_core.model.config import AttentionSpec, ModelConfig
from ettin_core.model.transformer import Transformer
from tests import processes

SHAPE = ModelConfig(320, 64, 4, 2, 128, local_window=16)
BOUNDS = {"int8_weight_only": 0.02, "int8_dynamic": 0.05, "int4_weight_only": 0.3, "nf4": 0.3}  # of a logit's deviation


@pytest.fixture(scope="module")
def folders(
    tokenizer_folder: Path, random_model: Callable[..., Transformer], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """An exported encoder and decoder with random weights."""
    root = tmp_path_factory.mktemp("plain")
    exported = {}
    for direction, readout in (("bidirectional", "mlm"), ("causal", "clm")):
        spec = AttentionSpec(direction, 10_000.0, 10_000.0)
        exported[direction] = huggingface.export(
            random_model(SHAPE), spec, tokenizer_folder, root / direction, 64, {"readout": readout}
        )
    return exported


@pytest.fixture(scope="module")
def quantised(folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Path]:
    """Both of them by every method."""
    root = tmp_path_factory.mktemp("quantised")
    pairs = [(direction, method) for direction in folders for method in LIBRARY]
    return {(d, method): quantise(folders[d], root / f"{d}-{method}", method, 32) for d, method in pairs}


def test_predictions_move_a_little_and_the_folder_shrinks(
    folders: dict[str, Path], quantised: dict[tuple[str, str], Path]
) -> None:
    for (direction, method), folder in quantised.items():
        change = effect(folders[direction], folder, rounds=1)
        deviation = float(load(folders[direction])(torch.arange(60)[None]).logits.detach().std())
        assert 0 < change.mean < BOUNDS[method] * deviation, (direction, method, change)
        assert change.after.size < 0.75 * change.before.size and change.after.tokens_per_second > 0
        packed = sum(layer.weight.numel() for _, layer in matrices(load(folders[direction]))) // 2
        assert change.after.size - change.after.nominal == (packed if method == "int4_weight_only" else 0)
        assert change.before.nominal == change.before.size
        assert change.divergence > 0 and 0 < change.agreement <= 1
        assert read_json(folder / "ettin.json")["quantisation"]["method"] == method
        assert {file.name for file in folders[direction].iterdir()} - {file.name for file in folder.iterdir()} == set()


def test_every_matrix_is_quantised(folders: dict[str, Path], quantised: dict[tuple[str, str], Path]) -> None:
    for (direction, method), folder in quantised.items():
        plain = dict(matrices(load(folders[direction])))
        held = dict(load(folder).named_modules())
        kinds = {type(held[name].weight) for name in plain}
        assert len(plain) > 8 and torch.nn.Parameter not in kinds, (direction, method, kinds)


def test_they_load_with_plain_transformers_and_give_the_same_logits(
    quantised: dict[tuple[str, str], Path], tmp_path: Path
) -> None:
    ids = torch.arange(5, 45)[None]
    torch.save({str(folder): load(folder)(ids).logits.detach() for folder in quantised.values()}, tmp_path / "ours.pt")
    code = """if True:
        import sys, torch
        from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoTokenizer
        torch.set_num_threads(1)
        for folder, logits in torch.load(sys.argv[1], weights_only=True).items():
            auto = AutoModelForCausalLM if "causal" in folder else AutoModelForMaskedLM
            model = auto.from_pretrained(folder).eval()
            assert torch.equal(model(torch.arange(5, 45)[None]).logits, logits), folder
            assert AutoTokenizer.from_pretrained(folder)("the cat").input_ids
        assert not any(name.startswith(("ettin", "experiments")) for name in sys.modules)
    """
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, str(tmp_path / "ours.pt")], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_the_ruler_reads_them_and_a_conversion_does_not(quantised: dict[tuple[str, str], Path]) -> None:
    for folder in quantised.values():
        model = open_pretrained(str(folder), device="cpu")
        assert isinstance(model.model, PretrainedBody)
        assert np.isfinite(model.embed(["the cat sat", "a dog"], "mean")).all()
        with pytest.raises(UserError, match="quantization_config=.* our transformer has plain weights"):
            huggingface.load(folder)


def test_the_command_prints_both_sides(folders: dict[str, Path], tmp_path: Path) -> None:
    options = (f"model={folders['causal']}", "out=small", "rounds=1")
    done = processes.run(tmp_path, "experiments.quantise", *options)
    assert done.returncode == 0, done.stderr
    assert "bytes of weights" in done.stdout and "tokens per second" in done.stdout
    assert read_json(tmp_path / "small" / "quantisation.json")["method"] == "int8_weight_only"
    again = processes.run(tmp_path, "experiments.quantise", *options)
    assert again.returncode == 2 and "overwrite=true" in again.stderr
    assert processes.run(tmp_path, "experiments.quantise", *options, "overwrite=true").returncode == 0


@pytest.mark.parametrize(
    ("method", "group", "source", "words"),
    [
        ("int3", 32, "plain", "use one of int8_weight_only, int4_weight_only"),
        ("int4_weight_only", 48, "plain", "group=48 does not divide the 64 columns of .*; use 64"),
        ("int4_weight_only", 64, "narrow", "group=64 does not divide the 96 columns of .*; use 32"),
        ("nf4", 64, "narrow", "needs rows that 64 divides, and .* has 96 columns"),
        ("int8_weight_only", 32, "quantised", "is quantised already"),
        ("nf4", 32, "nowhere", "is not a transformers folder"),
    ],
)
def test_what_cannot_be_quantised_is_said_in_one_line(
    method: str,
    group: int,
    source: str,
    words: str,
    folders: dict[str, Path],
    quantised: dict[tuple[str, str], Path],
    tokenizer_folder: Path,
    random_model: Callable[..., Transformer],
    tmp_path: Path,
) -> None:
    sources = {"plain": folders["causal"], "quantised": quantised["causal", "nf4"], "nowhere": tmp_path / "nowhere"}
    if source == "narrow":
        model = random_model(replace(SHAPE, intermediate_size=96))
        facts = {"readout": "clm"}
        sources[source] = huggingface.export(
            model, AttentionSpec("causal"), tokenizer_folder, tmp_path / "narrow", 64, facts
        )
    with pytest.raises(UserError, match=words) as caught:
        quantise(sources[source], tmp_path / "out", method, group)
    assert "\n" not in str(caught.value) and not (tmp_path / "out").exists()


def test_a_copy_that_could_not_be_measured_is_not_there(folders: dict[str, Path], tmp_path: Path) -> None:
    """What is measured is part of the folder: a kill between the two left weights with the record of another method."""
    out = quantise(folders["causal"], tmp_path / "out", "int8_weight_only", 32, finish=lambda folder: None)
    before = {file: file.read_bytes() for file in out.rglob("*") if file.is_file()}
    with pytest.raises(KeyboardInterrupt):
        quantise(folders["causal"], out, "nf4", 32, overwrite=True, finish=interrupted)
    assert {file: file.read_bytes() for file in out.rglob("*") if file.is_file()} == before


def interrupted(folder: Path) -> None:
    raise KeyboardInterrupt


def test_a_copy_claims_no_score_of_the_plain_model(folders: dict[str, Path], tmp_path: Path) -> None:
    plain = Path(shutil.copytree(folders["causal"], tmp_path / "plain"))
    write_json(plain / "ettin.json", read_json(plain / "ettin.json") | {"measured": [1], "weights": "0"})
    (plain / "README.md").write_text("# Card\n")
    (plain / "pytorch_model.bin").write_bytes(b"x")
    out = quantise(plain, tmp_path / "out", "int8_weight_only", 32)
    assert not {"measured", "weights", "tensors"} & read_json(out / "ettin.json").keys()
    assert "before it was quantised" in (out / "README.md").read_text()
    assert not (out / "pytorch_model.bin").exists()


def test_a_folder_without_a_prediction_head_is_named(folders: dict[str, Path], tmp_path: Path) -> None:
    plain = Path(shutil.copytree(folders["bidirectional"], tmp_path / "plain"))
    tensors = {name: value for name, value in load_file(plain / "model.safetensors").items() if "head" not in name}
    save_file(tensors, plain / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match="lacks weights of its prediction model"):
        quantise(plain, tmp_path / "out", "int8_weight_only", 32)
    (plain / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(UserError, match="cannot be loaded"):
        quantise(plain, tmp_path / "out", "int8_weight_only", 32)
