"""Divided checkpoints: every process writes its part, any number reads it back; complete or absent, whoever dies."""

import errno
import multiprocessing
import random
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from safetensors import safe_open
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from ettin_core.checkpoints import native
from ettin_core.checkpoints.retention import prune
from ettin_core.foundation.distributed import ProcessGroup
from ettin_core.foundation.errors import DiskFullError

Task = Callable[[ProcessGroup, Path], None]


def member(rank: int, count: int, store: Path, task: Task, folder: Path) -> None:
    """What a forked process does."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=count)
    task(ProcessGroup(rank, count), folder)
    dist.destroy_process_group()


def start(count: int, task: Task, folder: Path) -> list[BaseProcess]:
    """Start `count` processes that do a task as one group."""
    store = folder.with_name(f"{folder.name}.{task.__name__}.{count}.{time.monotonic_ns()}")
    fork = multiprocessing.get_context("fork")
    processes = [fork.Process(target=member, args=(rank, count, store, task, folder)) for rank in range(count)]
    for process in processes:
        process.start()
    return list(processes)


def on(count: int, task: Task, folder: Path) -> None:
    """Do a task on `count` processes."""
    processes = start(count, task, folder)
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * count


def trained_model(seed: int, group: ProcessGroup) -> tuple[nn.Module, torch.optim.Optimizer]:
    """A model of odd sizes, one tensor smaller than the number of processes, after one step; divided in a group."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(7, 5), nn.Linear(5, 1))
    if group.world_size > 1:
        fully_shard(model, mesh=init_device_mesh("cpu", (group.world_size,)))
    optimizer = torch.optim.AdamW(model.parameters(), 0.1)
    model(torch.ones(2, 7)).sum().backward()
    optimizer.step()
    return model, optimizer


def hashes(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, str]:
    """Hashes of weights and of optimiser state, gathered."""
    moments = native.optimizer_tensors(optimizer, model)
    return {"weights": native.hash_tensors(model.state_dict()), "moments": native.hash_tensors(moments)}


def save_steps(group: ProcessGroup, folder: Path) -> None:
    """Checkpoints of steps 1 and 2, each with the hashes of what it must hold; nothing is gathered to write them."""
    for step in (1, 2):
        model, optimizer = trained_model(step, group)
        state = {"global_step": step} | hashes(model, optimizer)
        moments = native.optimizer_tensors(optimizer, model)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(DTensor, "full_tensor", pytest.fail)
            native.save(folder, f"step{step}", model.state_dict(), moments, state, "run", group)
    group.barrier()


def restore_all(group: ProcessGroup, folder: Path) -> None:
    """Put every checkpoint of a folder into another model."""
    for path in native.ordered(folder, pytest.fail):
        model, optimizer = trained_model(9, group)
        checkpoint = native.load(path, "run")
        assert hashes(model, optimizer)["weights"] != checkpoint.state["weights"]
        checkpoint.restore(model, optimizer)
        expected = {name: checkpoint.state[name] for name in ("weights", "moments")}
        assert hashes(model, optimizer) == expected


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A folder of two checkpoints written by two processes."""
    on(2, save_steps, tmp_path / "run")
    return tmp_path / "run"


def test_each_process_writes_its_part_and_nothing_is_pickled(saved: Path) -> None:
    names = [f"shard-0000{rank}-model-00001-of-00001.safetensors" for rank in (1, 2)]
    assert sorted(file.name for file in (saved / "step2").iterdir()) == ["index.json", *names, "state.json"]
    assert set(native.check(saved / "step2", "run")["files"]) == {*names, "state.json"}
    rows = []
    for name in names:
        with safe_open(saved / "step2" / name, "pt") as file:
            rows.append(file.get_slice("0.weight").get_shape()[0])
    assert rows == [3, 2]


def test_one_process_loads_it_whole(saved: Path) -> None:
    for step in (1, 2):
        checkpoint = native.load(saved / f"step{step}", "run")
        assert native.hash_tensors(checkpoint.model) == checkpoint.state["weights"]
        assert native.hash_tensors(checkpoint.optimizer) == checkpoint.state["moments"]
        assert checkpoint.model["0.weight"].shape == (5, 7) and checkpoint.optimizer["0.weight/step"] == 1


def test_another_number_of_processes_restores_it(saved: Path) -> None:
    restore_all(ProcessGroup(), saved)
    save_steps(ProcessGroup(), saved.with_name("whole"))
    on(3, save_steps, saved.with_name("three"))
    for folder in (saved, saved.with_name("whole"), saved.with_name("three")):
        on(2, restore_all, folder)
    on(3, restore_all, saved)


def test_restoring_refuses_other_weights(saved: Path) -> None:
    model, optimizer = trained_model(1, ProcessGroup())
    with pytest.raises(KeyError, match=r"0\.0\.bias"):
        native.load(saved / "step1").restore(nn.Sequential(model), optimizer)
    wider = nn.Sequential(nn.Linear(8, 5), nn.Linear(5, 1))
    with pytest.raises(ValueError, match=r"0\.weight"):
        native.load(saved / "step1").restore(wider, torch.optim.AdamW(wider.parameters()))


@pytest.mark.parametrize("pattern", ["shard-00001*", "shard-00002*", "state.json", "index.json"])
def test_a_damaged_file_is_refused_by_name_and_the_checkpoint_before_is_used(saved: Path, pattern: str) -> None:
    (file,) = (saved / "step2").glob(pattern)
    content = file.read_bytes()
    for damaged in (content[:-2], content[:-2] + bytes([content[-2] ^ 1]) + content[-1:], b"", None):
        file.unlink(missing_ok=True)
        if damaged is not None:
            file.write_bytes(damaged)
        with pytest.raises(ValueError, match=file.name):
            native.load(file.parent, "run")
        checkpoint = native.latest(saved, "run", lambda message: None)
        assert checkpoint is not None and checkpoint.name == "step1"


def test_a_file_that_is_not_in_the_index_is_refused(saved: Path) -> None:
    (saved / "step2" / "shard-00003-model-00001-of-00001.safetensors").write_bytes(b"")
    with pytest.raises(ValueError, match="shard-00003.*is not part of it"):
        native.load(saved / "step2", "run")


def meet_a_full_disk(group: ProcessGroup, folder: Path) -> None:
    """One process cannot write; both must raise the error."""
    model, optimizer = trained_model(3, group)
    if group.rank == 1:

        def full(*arguments: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        pytest.MonkeyPatch().setattr(dcp.HuggingFaceStorageWriter, "write_data", full)
    moments = native.optimizer_tensors(optimizer, model)
    with pytest.raises(DiskFullError, match=r"disk full while writing .*step3"):
        native.save(folder, "step3", model.state_dict(), moments, {"global_step": 3}, "run", group)


def test_a_disk_that_is_full_for_one_process_leaves_what_was_there(saved: Path) -> None:
    on(2, meet_a_full_disk, saved)
    assert sorted(path.name for path in saved.iterdir()) == ["step1", "step2"]


def save_for_ever(group: ProcessGroup, folder: Path) -> None:
    """Save, save again and prune as fast as possible."""
    model, optimizer = trained_model(1, group)
    temporary: list[Path] = []
    for step in range(10**9):
        with torch.no_grad():
            for weight in model.parameters():
                weight.fill_(step)
        moments, state = native.optimizer_tensors(optimizer, model), {"global_step": step}
        temporary.append(native.save(folder, f"step{step % 7}", model.state_dict(), moments, state, "run", group))
        if group.is_main:
            temporary = prune(temporary, keep_last=2)
        group.barrier()


@pytest.mark.parametrize("killed", [(0,), (1,), (0, 1)])
def test_a_kill_at_any_moment_leaves_whole_checkpoints_only(killed: tuple[int, ...], tmp_path: Path) -> None:
    moments = random.Random(str(killed))
    for number in range(3):
        folder = tmp_path / str(number)
        processes = start(2, save_for_ever, folder)
        while not (folder / "step3").exists():
            assert all(process.is_alive() for process in processes)
            time.sleep(0.001)
        time.sleep(moments.uniform(0, 0.1))
        for rank in killed:
            processes[rank].kill()
        for process in processes:
            process.join(30)
            assert process.exitcode, "nobody goes on alone"
        checkpoints = [native.load(path, "run") for path in native.ordered(folder, pytest.fail)]
        assert 1 <= len(checkpoints) <= 3
        for checkpoint in checkpoints:
            assert all((weight == checkpoint.state["global_step"]).all() for weight in checkpoint.model.values())
        on(2, save_again, folder)


def save_again(group: ProcessGroup, folder: Path) -> None:
    """What a restart writes goes over whatever a kill left."""
    model, optimizer = trained_model(1, group)
    for number in range(7):
        moments = native.optimizer_tensors(optimizer, model)
        native.save(folder, f"step{number}", model.state_dict(), moments, {"global_step": number}, "run", group)
    group.barrier()
    assert [path.name for path in native.ordered(folder, pytest.fail)] == [f"step{number}" for number in range(7)]
