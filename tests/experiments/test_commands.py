"""The entry points as their users meet them: real processes, real output, and errors of one line."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.processes import Process
from tests.processes import run as run_command

ROOT = Path(__file__).resolve().parents[2]
SMOKE = ["recipe=smoke", "data.documents=1500", "data.vocab_size=1024"]


def run(folder: Path, module: str, *arguments: str) -> Process:
    """Run an entry point in a separate folder."""
    return run_command(folder, f"experiments.{module}", *arguments)


def run_anew(folder: Path, module: str, *arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    """Run an entry point in a new interpreter, with more environment variables that its libraries read at their start."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | variables
    command = [sys.executable, "-m", f"experiments.{module}", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=240)


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one trained smoke encoder."""
    folder = tmp_path_factory.mktemp("commands")
    done = run(folder, "train", "member=encoder", *SMOKE)
    assert done.returncode == 0, done.stderr
    return folder


def encoder(workplace: Path) -> str:
    """The trained encoder's folder."""
    return str(next(workplace.glob("runs/nano-encoder-*")))


def test_train_again_skips(workplace: Path) -> None:
    before = (Path(encoder(workplace)) / "COMPLETE").stat().st_mtime_ns
    done = run(workplace, "train", "member=encoder", *SMOKE)
    assert done.returncode == 0
    assert (Path(encoder(workplace)) / "COMPLETE").stat().st_mtime_ns == before


def test_dry_run_prints_the_plan_and_trains_nothing(workplace: Path) -> None:
    done = run(workplace, "train", "member=decoder", "dry_run=true", "machine.tokens_per_second=1000", *SMOKE)
    assert done.returncode == 0
    assert "parameters  " in done.stdout
    assert "total       19,968 tokens" in done.stdout
    assert not list(workplace.glob("runs/nano-decoder-*"))


def test_convert_evaluate_view_and_audit(workplace: Path) -> None:
    options = ["member=dec-from-enc", "budget=0.2", "start=before_decay", "adapter=lora", "recipe=smoke_conversion"]
    converted = run(workplace, "convert", f"parent={encoder(workplace)}", *options)
    assert converted.returncode == 0, converted.stderr
    child = next(workplace.glob("runs/nano-dec-from-enc-*"))
    measured = run(workplace, "evaluate", f"run={child}", "suite=smoke")
    assert measured.returncode == 0, measured.stderr
    assert "heldout_clm@2" in measured.stdout
    viewed = run(workplace, "view_batch", f"run={child}", "step=1")
    assert viewed.returncode == 0
    assert "conversion step 1" in viewed.stdout
    contract = run(workplace, "audit", "pair=conversion", f"left={encoder(workplace)}", f"right={child}")
    assert contract.returncode == 0, contract.stdout
    assert "matched except" in contract.stdout


def test_audit_sees_that_a_member_was_trained_by_other_kernels(workplace: Path) -> None:
    """The configurations are a pair's, and the start is the same: what differs is named."""
    kernels = {"ATEN_CPU_CAPABILITY": "default", "MKL_CBWR": "COMPATIBLE"}
    trained = run_anew(workplace, "train", "member=decoder", "recipe.tokens=5e3", "runs_dir=other", *SMOKE, **kernels)
    assert trained.returncode == 0, trained.stderr
    decoder = next(workplace.glob("other/nano-decoder-*"))
    done = run(workplace, "audit", f"left={encoder(workplace)}", f"right={decoder}")
    assert done.returncode == 1
    assert "numerics.MKL_CBWR: 'not set' against 'COMPATIBLE'" in done.stdout
    assert "initial_weights: equal" in done.stdout
    if torch.backends.cpu.get_cpu_capability() != "DEFAULT":
        assert "numerics.capability: " in done.stdout and "against 'DEFAULT'" in done.stdout


def test_audit_fails_with_its_own_status(workplace: Path) -> None:
    done = run(workplace, "audit", "left_member.objective.mask_share=0.5", "right_member.objective.mask_share=0.8")
    assert done.returncode == 1
    assert "not matched: objective.mask_share" in done.stdout


def test_multirun_trains_each_cell(workplace: Path) -> None:
    done = run(workplace, "train", "-m", "seed=1,2", "recipe.tokens=5e3", *SMOKE)
    assert done.returncode == 0, done.stderr
    assert {path.name.split("-")[2] for path in workplace.glob("runs/nano-encoder-*")} >= {"s1", "s2"}


BAD_INPUTS = {
    "an unknown key": ("train", ["sise=nano"], "sise"),
    "an unknown key below": (
        "train",
        ["+size.hiden_size=3"],
        "size.hiden_size=3 is an unknown key; did you mean 'size.hidden_size'",
    ),
    "an unknown value": ("train", ["size=17n"], "17n"),
    "a wrong type": (
        "train",
        ["size.num_layers=four"],
        "size.num_layers='four' has type str; give a value of type int",
    ),
    "layers that break the pattern": ("train", ["size.num_layers=5"], "model.num_layers=5 leaves the last layer local"),
    "heads that do not divide": ("train", ["size.num_heads=3"], "model.num_heads=3 does not split hidden_size=128"),
    "a path that does not exist": ("prepare", ["data=text", "data.path=nowhere"], "data.path='nowhere' does not exist"),
    "text without a path": ("prepare", ["data=text"], "data.path=None is missing"),
    "more tokens than there are": ("train", [*SMOKE, "recipe.tokens=4e6"], "more than recipe.max_epochs=4.0"),
    "an unfinished parent": (
        "convert",
        ["parent=nowhere", "member=dec-from-enc"],
        "parent='nowhere' is not a run folder",
    ),
    "a missing mandatory value": ("convert", ["member=decoder"], "parent=None is missing"),
    "a conversion to nothing": ("convert", ["parent=nowhere"], "member=None is missing"),
    "a leaking objective": ("train", ["member.direction=bidirectional", "member.objective.name=clm"], "leaks under"),
    "a missing evaluation folder": ("study", ["suite.eval_data=nowhere"], "suite.eval_data='nowhere' is not a folder"),
}


@pytest.mark.parametrize("case", BAD_INPUTS)
def test_bad_input_is_one_clear_line(case: str, tmp_path: Path) -> None:
    module, arguments, message = BAD_INPUTS[case]
    done = run(tmp_path, module, *arguments)
    assert done.returncode != 0
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.glob("runs/*"))
    assert list(tmp_path.glob("corpora/*")) == [] or case == "more tokens than there are", "prepared in vain"
