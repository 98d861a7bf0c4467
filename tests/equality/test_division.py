"""FSDP2 over two real processes, and recomputed activations, give the run that one process gives; checkpoints fit either."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ettin_core.checkpoints import native
from ettin_core.data.corpus import Corpus
from ettin_core.foundation.distributed import join, leave
from ettin_core.pairs.audit import TO_ROUNDING, certify
from ettin_core.pairs.contract import Contract
from ettin_core.pairs.rounding import measure
from ettin_core.records.folders import RunFolder
from ettin_core.training.loop import train
from tests.processes import run_group
from tests.runs import PLACEMENT, final_state, tiny_run, train_tiny

CONTRACT = Contract("placement", {}, "equal", ("fingerprint", "parameters", "flops", "data_hash", "sessions"), ())


def on_two_processes(corpus: Corpus, root: Path, stop_after: int | None = None, parallel: str = "fsdp") -> None:
    """Train encoder and decoder by a group of two."""

    def both() -> None:
        for member in ("encoder", "decoder"):
            run = tiny_run(corpus, member)
            placement = replace(PLACEMENT, parallel=parallel, micro_rows=2, recompute=member == "encoder")
            train(run, RunFolder(root / run.name), corpus, placement, join("gloo"), stop_after=stop_after)
        leave()

    root.mkdir(parents=True, exist_ok=True)
    run_group(root, both)


def weights(folder: RunFolder) -> dict[str, torch.Tensor]:
    """The final weights of a run."""
    return native.load(folder.checkpoints / str(folder.summary()["final_checkpoint"])).model


def assert_same_run(left: RunFolder, right: RunFolder) -> None:
    """The same data, the same losses and the same weights but for rounding."""
    rows = zip(left.training(), right.training(), strict=True)
    for one, other in rows:
        assert one.data_hash == other.data_hash and one.loss_tokens == other.loss_tokens
        assert one.loss == pytest.approx(other.loss, rel=1e-4)
        assert one.gradient_norm == pytest.approx(other.gradient_norm, rel=1e-3)
    ours, theirs = weights(left), weights(right)
    assert all((ours[name] - theirs[name]).abs().max() < 2e-4 for name in ours)


def formats(folder: RunFolder) -> dict[str, int]:
    """How each checkpoint of a run is written."""
    return {path.name: native.check(path)["format"] for path in native.ordered(folder.checkpoints)}


@pytest.fixture(scope="module")
def alone(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> dict[str, RunFolder]:
    """Both members trained by one process."""
    root = tmp_path_factory.mktemp("alone")
    return {member: train_tiny(tiny_run(corpus, member), root, corpus) for member in ("encoder", "decoder")}


def test_two_sharded_processes_are_one_run(corpus: Corpus, alone: dict[str, RunFolder], tmp_path: Path) -> None:
    on_two_processes(corpus, tmp_path)
    for member, folder in alone.items():
        sharded = RunFolder(tmp_path / folder.name)
        assert_same_run(folder, sharded)
        certificate = certify(CONTRACT, tiny_run(corpus, member), tiny_run(corpus, member), folder, sharded)
        assert certificate.verdict == TO_ROUNDING, certificate.violations
        assert "placement.processes 1 against 2" in certificate.sentence()
        measured = measure(folder, sharded)
        assert measured is not None and measured.loss < 1e-5 and measured.gradient_norm < 1e-4
        first = [native.load(item.checkpoints / "step0").model for item in (folder, sharded)]
        assert native.hash_tensors(first[0]) == native.hash_tensors(first[1]), "the same start, bit for bit"


def test_saved_on_two_resumed_on_one_and_the_reverse(
    corpus: Corpus, alone: dict[str, RunFolder], tmp_path: Path
) -> None:
    on_two_processes(corpus, tmp_path / "two-one", stop_after=8)
    shutil.copytree(tmp_path / "two-one", tmp_path / "two-two")
    for member, folder in alone.items():
        divided = RunFolder(tmp_path / "two-one" / folder.name)
        assert formats(divided) == {"step0": native.SHARDED, "step4": native.SHARDED, "step8": native.SHARDED}
        assert_same_run(folder, train_tiny(tiny_run(corpus, member), tmp_path / "two-one", corpus))
        assert formats(divided)["step12"] == native.WHOLE
    on_two_processes(corpus, tmp_path / "two-two", parallel="ddp")
    for member in alone:
        train_tiny(tiny_run(corpus, member), tmp_path / "one-two", corpus, stop_after=8)
    on_two_processes(corpus, tmp_path / "one-two")
    for folder in alone.values():
        assert_same_run(folder, RunFolder(tmp_path / "two-two" / folder.name))
        assert_same_run(folder, RunFolder(tmp_path / "one-two" / folder.name))


def test_recomputed_activations_change_nothing(corpus: Corpus, alone: dict[str, RunFolder], tmp_path: Path) -> None:
    for member, folder in alone.items():
        placement = replace(PLACEMENT, recompute=True)
        again = train_tiny(tiny_run(corpus, member), tmp_path, corpus, placement=placement)
        assert {key: value for key, value in final_state(again).items() if key != "state"} == {
            key: value for key, value in final_state(folder).items() if key != "state"
        }
