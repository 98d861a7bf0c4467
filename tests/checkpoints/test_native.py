"""Checkpoints are exact, complete or absent; damaged ones are reported by name, and the one before is used."""

import multiprocessing
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from ettin_core.checkpoints import native
from ettin_core.checkpoints.native import FILES, hash_tensors
from ettin_core.checkpoints.retention import prune

MODEL = {
    "weight": torch.randn(5, 3, generator=torch.Generator().manual_seed(1)),
    "low": torch.arange(4, dtype=torch.bfloat16),
    "odd": torch.tensor([float("nan"), float("inf"), -0.0, 1e-45]),
    "empty": torch.empty(0, 3),
}
OPTIMIZER = {"weight/step": torch.tensor(7), "weight/first": torch.randn(5, 3)}
STATE = {"global_step": 4, "loss": 0.1 + 0.2, "hash": "ünï", "none": None, "big": 2**70}


def save(folder: Path, step: int, identity: str = "run") -> Path:
    """Write a checkpoint of that step."""
    model = MODEL | {"weight": torch.full((5, 3), float(step))}
    return native.save(folder, f"step{step}", model, OPTIMIZER, STATE | {"global_step": step}, identity)


def same_bytes(left: torch.Tensor, right: torch.Tensor) -> bool:
    """Equal in type, shape and every bit."""
    return (
        left.dtype == right.dtype
        and left.shape == right.shape
        and hash_tensors({"": left}) == hash_tensors({"": right})
    )


def flip(file: Path, place: int) -> None:
    """Change one bit of a file."""
    content = bytearray(file.read_bytes())
    content[place] ^= 1
    file.write_bytes(content)


def truncate(file: Path) -> None:
    """Cut the last two bytes off."""
    file.write_bytes(file.read_bytes()[:-2])


def empty(file: Path) -> None:
    """Leave nothing but the name."""
    file.write_bytes(b"")


def flip_first(file: Path) -> None:
    """Change the first byte."""
    flip(file, 0)


def flip_last(file: Path) -> None:
    """Change the last byte."""
    flip(file, -1)


DAMAGES = [truncate, empty, flip_first, flip_last, Path.unlink]


def test_everything_comes_back_exactly(tmp_path: Path) -> None:
    path = native.save(tmp_path, "step4", MODEL, OPTIMIZER, STATE, "run")
    checkpoint = native.load(path, "run")
    assert checkpoint.name == "step4" and checkpoint.state == STATE
    for given, got in ((MODEL, checkpoint.model), (OPTIMIZER, checkpoint.optimizer)):
        assert got.keys() == given.keys()
        assert all(same_bytes(given[name], got[name]) for name in given)


def test_views_and_non_contiguous_tensors_come_back(tmp_path: Path) -> None:
    base = torch.arange(12.0).reshape(3, 4)
    path = native.save(tmp_path, "step1", {"t": base.T, "row": base[1]}, {}, {"global_step": 1}, "run")
    tensors = native.load(path).model
    assert torch.equal(tensors["t"], base.T) and torch.equal(tensors["row"], base[1])


def test_the_same_state_gives_the_same_bytes(tmp_path: Path) -> None:
    first, second = save(tmp_path / "a", 3), save(tmp_path / "b", 3)
    assert sorted(file.name for file in first.iterdir()) == sorted([*FILES, "index.json"])
    assert all(file.read_bytes() == (second / file.name).read_bytes() for file in first.iterdir())


def test_saving_again_replaces(tmp_path: Path) -> None:
    save(tmp_path, 3)
    native.save(tmp_path, "step3", {"other": torch.ones(1)}, {}, {"global_step": 3}, "run")
    assert list(native.load(tmp_path / "step3").model) == ["other"]
    assert [path.name for path in tmp_path.iterdir()] == ["step3"]


def test_a_state_that_cannot_be_written_leaves_what_was_there(tmp_path: Path) -> None:
    save(tmp_path, 3)
    with pytest.raises(TypeError):
        native.save(tmp_path, "step3", MODEL, OPTIMIZER, {"global_step": 3, "bad": object()}, "run")
    with pytest.raises(TypeError):
        native.save(tmp_path, "step4", MODEL, OPTIMIZER, {"global_step": 4, "bad": object()}, "run")
    assert [path.name for path in tmp_path.iterdir()] == ["step3"]
    assert native.load(tmp_path / "step3", "run").state["global_step"] == 3


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", [*FILES, "index.json"])
def test_a_damaged_file_is_refused_by_name_and_the_checkpoint_before_is_used(
    tmp_path: Path, name: str, damage: Callable[[Path], None]
) -> None:
    save(tmp_path, 3)
    damage(save(tmp_path, 5) / name)
    with pytest.raises(ValueError) as caught:
        native.load(tmp_path / "step5", "run")
    assert str(tmp_path / "step5") in str(caught.value) and name in str(caught.value)
    messages: list[str] = []
    checkpoint = native.latest(tmp_path, "run", messages.append)
    assert checkpoint is not None and checkpoint.name == "step3" and checkpoint.state["global_step"] == 3
    assert len(messages) == 1 and str(tmp_path / "step5") in messages[0]


@pytest.mark.parametrize("name", [*FILES, "index.json"])
def test_every_single_flipped_bit_is_noticed(tmp_path: Path, name: str) -> None:
    file = save(tmp_path, 5) / name
    whole = file.read_bytes()
    for place in range(0, len(whole), 1 if name == "index.json" else 7):
        flip(file, place)
        with pytest.raises(ValueError):
            native.load(file.parent, "run")
        file.write_bytes(whole)
    assert native.load(file.parent, "run").state["global_step"] == 5


def test_a_flipped_identity_is_damage_and_not_another_run(tmp_path: Path) -> None:
    save(tmp_path, 3)
    index = save(tmp_path, 5) / "index.json"
    index.write_text(index.read_text().replace('"identity": "run"', '"identity": "rum"'))
    messages: list[str] = []
    checkpoint = native.latest(tmp_path, "run", messages.append)
    assert checkpoint is not None and checkpoint.name == "step3"
    assert "index.json' is damaged" in messages[0] and messages[0].endswith("Trying the checkpoint before it.")


def test_files_swapped_between_checkpoints_are_refused(tmp_path: Path) -> None:
    first, second = save(tmp_path, 3), save(tmp_path, 5)
    shutil.copy(first / "model.safetensors", second / "model.safetensors")
    with pytest.raises(ValueError, match=r"step5/model\.safetensors' is damaged"):
        native.load(second)


def test_another_runs_checkpoint_is_an_error_and_not_passed_over(tmp_path: Path) -> None:
    save(tmp_path, 3)
    save(tmp_path, 5, identity="run-b")
    with pytest.raises(ValueError, match=r"step5' belongs to run-b, not to run; resume it with its own configuration"):
        native.load(tmp_path / "step5", "run")
    with pytest.raises(ValueError, match="belongs to run-b"):
        native.latest(tmp_path, "run", pytest.fail)
    assert native.load(tmp_path / "step5").name == "step5"  # whoever asks for no identity gets it


def test_another_format_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "WHOLE", 99)
    path = save(tmp_path, 3)
    monkeypatch.undo()
    with pytest.raises(ValueError, match="has format 99; use one of 1 or 2"):
        native.load(path)


def test_several_damaged_ones_are_all_reported(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        save(tmp_path, step)
    for step in (2, 3):
        truncate(tmp_path / f"step{step}" / "optimizer.safetensors")
    messages: list[str] = []
    checkpoint = native.latest(tmp_path, "run", messages.append)
    assert checkpoint is not None and checkpoint.name == "step1"
    assert ["step3" in messages[0], "step2" in messages[1], len(messages)] == [True, True, 2]


def test_no_whole_checkpoint_is_none(tmp_path: Path) -> None:
    assert native.latest(tmp_path / "nowhere", "run", pytest.fail) is None
    truncate(save(tmp_path, 1) / "state.json")
    assert native.latest(tmp_path, "run", lambda message: None) is None


def test_checkpoints_are_ordered_by_step_and_not_by_name(tmp_path: Path) -> None:
    for name, step in (("step10", 10), ("decay2", 12), ("step9", 9), ("step0", 0)):
        native.save(tmp_path, name, MODEL, OPTIMIZER, {"global_step": step}, "run")
    (tmp_path / ".step11.building").mkdir()
    (tmp_path / "notes").mkdir()
    messages: list[str] = []
    checkpoints = native.ordered(tmp_path, messages.append)
    assert [path.name for path in checkpoints] == ["step0", "step9", "step10", "decay2"]
    assert len(messages) == 1 and "notes has no readable index.json" in messages[0]


def test_the_hash_of_weights_sees_name_shape_type_and_every_bit() -> None:
    weights = {"a": torch.zeros(2, 3), "b": torch.ones(2)}
    others = [
        {"a": torch.zeros(3, 2), "b": torch.ones(2)},
        {"a": torch.zeros(2, 3, dtype=torch.float64), "b": torch.ones(2)},
        {"a": -torch.zeros(2, 3), "b": torch.ones(2)},
        {"a": torch.zeros(2, 3), "c": torch.ones(2)},
        {"a": torch.zeros(2, 3)},
        {"b": torch.ones(2), "a": torch.zeros(2, 3)},
    ]
    hashes = [hash_tensors(item) for item in (weights, *others)]
    assert hashes[-1] == hashes[0]  # the order in the dictionary does not matter
    assert len(set(hashes)) == len(others)


def save_for_ever(folder: Path) -> None:
    """Save, save again and prune as fast as possible."""
    tensor = torch.zeros(40_000)
    temporary: list[Path] = []
    for step in range(10**9):
        name = f"step{step % 7}"
        state = {"global_step": step}
        temporary.append(native.save(folder, name, {"w": tensor + step}, {"m": tensor}, state, "run"))
        temporary = prune(temporary, keep_last=2)


def test_a_kill_at_any_moment_leaves_whole_checkpoints_only(tmp_path: Path) -> None:
    moments = random.Random(3)
    steps = []
    for number in range(10):
        folder = tmp_path / str(number)
        process = multiprocessing.get_context("fork").Process(target=save_for_ever, args=(folder,))
        process.start()
        while not (folder / "step3").exists():
            time.sleep(0.001)
        time.sleep(moments.uniform(0, 0.2))
        process.kill()
        process.join()
        assert process.exitcode == -9
        checkpoints = [native.load(path, "run") for path in native.ordered(folder, pytest.fail)]
        assert 1 <= len(checkpoints) <= 3
        for checkpoint in checkpoints:
            assert (checkpoint.model["w"] == checkpoint.state["global_step"]).all()
        steps.append(checkpoints[-1].state["global_step"])
    assert min(steps) >= 2 and len(set(steps)) > 1


def test_restoring_puts_weights_and_moments_back(tmp_path: Path) -> None:
    trained, restored = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
    optimizers = [torch.optim.AdamW(model.parameters()) for model in (trained, restored)]
    trained(torch.ones(1, 3)).sum().backward()
    optimizers[0].step()
    given = native.optimizer_tensors(optimizers[0], trained)
    native.save(tmp_path, "step1", trained.state_dict(), given, {"global_step": 1}, "run")
    native.load(tmp_path / "step1").restore(restored, optimizers[1])
    got = native.optimizer_tensors(optimizers[1], restored)
    assert got.keys() == given.keys() and all(same_bytes(got[name], given[name]) for name in given)
    assert hash_tensors(restored.state_dict()) == hash_tensors(trained.state_dict())
