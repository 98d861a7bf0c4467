"""Which checkpoints are written and kept."""

from pathlib import Path

import pytest

from ettin_core.checkpoints.retention import CheckpointConfig, prune


def folders(root: Path, names: list[str]) -> list[Path]:
    """Checkpoint folders with something in them."""
    for name in names:
        (root / name).mkdir()
        (root / name / "file").write_text("x")
    return [root / name for name in names]


def kept(rule: CheckpointConfig, steps: int) -> tuple[list[int], list[int]]:
    """Steps of a phase after which a checkpoint is written, and those whose checkpoint is kept permanently."""
    due = [step for step in range(1, steps + 1) if rule.due(step, steps, consumed)]
    kept_steps = [step for step in due if rule.is_kept(step, steps, consumed)]
    assert kept_steps == rule.kept_steps(steps, consumed)
    return due, kept_steps


def consumed(step: int) -> int:
    """Tokens after a number of steps: 5 of each of the first two, then 10."""
    return 5 * min(step, 2) + 10 * max(0, step - 2)


@pytest.mark.parametrize(
    ("rule", "due", "kept_steps"),
    [
        (CheckpointConfig(every_steps=4), [4, 8, 10], [10]),
        (CheckpointConfig(every_steps=5), [5, 10], [10]),
        (CheckpointConfig(every_steps=100), [10], [10]),
        (CheckpointConfig(every_steps=4, keep_every_tokens=30), [4, 7, 8, 10], [4, 7, 10]),
        (CheckpointConfig(every_steps=2, keep_every_tokens=25), [2, 4, 6, 8, 9, 10], [4, 6, 9, 10]),
        (
            CheckpointConfig(every_steps=20, keep_every_tokens=7),
            [2, 3, 4, 5, 6, 7, 8, 9, 10],
            [2, 3, 4, 5, 6, 7, 8, 9, 10],
        ),
    ],
)
def test_due_and_kept_steps(rule: CheckpointConfig, due: list[int], kept_steps: list[int]) -> None:
    assert kept(rule, 10) == (due, kept_steps)


def test_prune_keeps_the_newest(tmp_path: Path) -> None:
    temporary = folders(tmp_path, ["step1", "step2", "step3", "step4"])
    assert prune(temporary, 2) == temporary[2:]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step3", "step4"]


@pytest.mark.parametrize("count", [0, 1, 2])
def test_prune_keeps_all_when_there_are_few(tmp_path: Path, count: int) -> None:
    temporary = folders(tmp_path, ["step1", "step2"][:count])
    assert prune(temporary, 2) == temporary
    assert len(list(tmp_path.iterdir())) == count


def test_prune_touches_nothing_else(tmp_path: Path) -> None:
    temporary = folders(tmp_path, ["step1", "step2", "step3"])
    folders(tmp_path, ["step0", "decay9"])
    prune(temporary, 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["decay9", "step0", "step2", "step3"]


def test_a_checkpoint_written_again_counts_once(tmp_path: Path) -> None:
    first, second, third = folders(tmp_path, ["step1", "step2", "step3"])
    assert prune([first, second, second], 2) == [first, second]
    assert prune([first, second, third, second], 2) == [third, second]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step2", "step3"]


def test_a_checkpoint_that_is_already_gone_is_no_error(tmp_path: Path) -> None:
    temporary = [tmp_path / "gone", *folders(tmp_path, ["step2", "step3"])]
    assert prune(temporary, 2) == temporary[1:]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"every_steps": 0}, "checkpoint.every_steps=0 is not positive"),
        ({"keep_last": 1}, "checkpoint.keep_last=1 leaves no spare when the newest is damaged"),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(arguments: dict, problem: str) -> None:
    with pytest.raises(ValueError) as caught:
        CheckpointConfig(**arguments)
    assert str(caught.value).startswith(problem)
