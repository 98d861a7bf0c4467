"""DDP and FSDP2 over NCCL, on one GPU and on two, give the run that one plain process gives; checkpoints fit either."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ettin_core.checkpoints import native
from ettin_core.data.corpus import Corpus
from ettin_core.records.folders import RunFolder
from ettin_core.training.config import PARALLEL
from tests.gpu.cases import distance
from tests.runs import PLACEMENT, tiny_run, train_tiny

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA: NCCL")]

ROOT = Path(__file__).resolve().parents[2]
MEMBERS = ("encoder", "decoder")
CHILD = """
import sys
from dataclasses import replace
from pathlib import Path
from ettin_core.data.corpus import Corpus
from ettin_core.foundation.distributed import join, leave
from ettin_core.records.folders import RunFolder
from ettin_core.training.loop import train
from tests.gpu.cases import distance
from tests.runs import PLACEMENT, tiny_run

class Several(int):
    '''A number of processes that is never taken for one, so that one process too is wrapped and talks over NCCL.'''
    def __eq__(self, other):
        return False
    __hash__ = int.__hash__

if __name__ == "__main__":
    corpus, root, parallel, device, stop = Corpus(Path(sys.argv[1])), Path(sys.argv[2]), *sys.argv[3:]
    group = join()
    group = replace(group, world_size=Several(group.world_size))
    for member in ("encoder", "decoder"):
        run, compiled = tiny_run(corpus, member), member == "decoder" and device == "cuda"
        placement = replace(
            PLACEMENT, device=device, parallel=parallel, micro_rows=2, recompute=not compiled, compile=compiled
        )
        train(run, RunFolder(root / run.name), corpus, placement, group, stop_after=int(stop) or None)
    leave()
"""


@pytest.fixture(scope="module")
def alone(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> dict[str, RunFolder]:
    """Both members trained by one process on the CPU."""
    root = tmp_path_factory.mktemp("alone")
    return {member: train_tiny(tiny_run(corpus, member), root, corpus) for member in MEMBERS}


def under_torchrun(
    processes: int, corpus: Corpus, root: Path, parallel: str, device: torch.device, stop_after: int
) -> None:
    """Train encoder (recomputing) and decoder (compiled) with so many processes, a GPU each."""
    script = root / "child.py"
    script.write_text(CHILD)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    arguments = [script, corpus.folder, root, parallel, device.type, stop_after]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*command, *map(str, arguments)], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize("parallel", PARALLEL)
@pytest.mark.parametrize("processes", [1, 2])
def test_a_group_trains_what_one_process_trains(
    processes: int, parallel: str, device: torch.device, corpus: Corpus, alone: dict[str, RunFolder], tmp_path: Path
) -> None:
    """Stopped in the first phase, the group's checkpoint is continued without a group."""
    if processes > torch.cuda.device_count():
        pytest.skip(f"needs {processes} GPUs")
    under_torchrun(processes, corpus, tmp_path, parallel, device, stop_after=8)
    for member, expected in alone.items():
        folder = RunFolder(tmp_path / expected.name)
        written = native.SHARDED if parallel == "fsdp" else native.WHOLE
        assert native.check(folder.checkpoints / "step8")["format"] == written
        starts = [native.load(one.checkpoints / "step0").model for one in (folder, expected)]
        assert native.hash_tensors(starts[0]) == native.hash_tensors(starts[1]), "the same start, bit for bit"
        placement = replace(PLACEMENT, device=device.type)
        assert_same_run(train_tiny(tiny_run(corpus, member), tmp_path, corpus, placement=placement), expected)


def assert_same_run(left: RunFolder, right: RunFolder) -> None:
    """The same data, and the same losses, gradients and weights but for rounding."""
    for one, other in zip(left.training(), right.training(), strict=True):
        assert (one.data_hash, one.loss_tokens) == (other.data_hash, other.loss_tokens)
        assert one.loss == pytest.approx(other.loss, rel=1e-4)
        assert one.gradient_norm == pytest.approx(other.gradient_norm, rel=1e-3)
    assert distance(movement(left), movement(right)) < 1e-3


def movement(folder: RunFolder) -> torch.Tensor:
    """Final minus initial weights of a run, as one vector."""
    names = ("step0", str(folder.summary()["final_checkpoint"]))
    start, end = (native.load(folder.checkpoints / name).model for name in names)
    return torch.cat([(end[name] - start[name]).flatten() for name in sorted(start)])
