"""A real full disk: the error names the path and the remedy, and everything saved before is still there."""

import errno
import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from ettin_core.checkpoints import native
from ettin_core.data.config import DataConfig
from ettin_core.data.preparation.prepare import prepare
from ettin_core.foundation.errors import DiskFullError
from ettin_core.foundation.storage import append_json_lines, read_json_lines, write_bytes

MIB = 2**20


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    try:
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True)
    except OSError:
        pytest.skip("there is no mount command")
    if mounted.returncode != 0:
        pytest.skip("mounting a small disk needs the CAP_SYS_ADMIN capability")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def check_message(error: OSError, path: Path) -> None:
    """The error is a full disk's, names the path and says what to do."""
    assert error.errno == errno.ENOSPC
    assert f"disk full while writing {path}" in str(error)
    assert "free some space" in str(error) and "nothing saved before is lost" in str(error)


def test_a_file_that_does_not_fit_leaves_the_old_one(small_disk: Path) -> None:
    write_bytes(small_disk / "file", b"old")
    with pytest.raises(OSError) as caught:
        write_bytes(small_disk / "file", bytes(2 * MIB))
    check_message(caught.value, small_disk / "file")
    assert (small_disk / "file").read_bytes() == b"old" and os.listdir(small_disk) == ["file"]


def test_rows_that_do_not_fit_leave_the_rows_before(small_disk: Path) -> None:
    file = small_disk / "rows.jsonl"
    append_json_lines(file, [{"a": 1}])
    with pytest.raises(OSError) as caught:
        append_json_lines(file, [{"a": "x" * 2 * MIB}])
    check_message(caught.value, file)
    assert read_json_lines(file) == [{"a": 1}]
    append_json_lines(file, [{"a": 2}])
    assert read_json_lines(file) == [{"a": 1}, {"a": 2}]


def test_a_checkpoint_that_does_not_fit_leaves_the_one_before(small_disk: Path) -> None:
    small, large = {"w": torch.ones(8)}, {"w": torch.ones(MIB // 2)}
    native.save(small_disk, "step1", small, {}, {"global_step": 1}, "run")
    with pytest.raises(OSError) as caught:
        native.save(small_disk, "step2", large, {}, {"global_step": 2}, "run")
    check_message(caught.value, small_disk / "step2")
    assert os.listdir(small_disk) == ["step1"]
    checkpoint = native.latest(small_disk, "run", report=pytest.fail)
    assert checkpoint is not None and checkpoint.name == "step1" and torch.equal(checkpoint.model["w"], small["w"])


@pytest.mark.parametrize("workers", [1, 2])
def test_a_corpus_that_does_not_fit_keeps_what_is_finished(workers: int, small_disk: Path, tmp_path: Path) -> None:
    draw = random.Random(0)
    words = ["".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=9)) for _ in range(2000)]
    (tmp_path / "in").mkdir()
    for name, letters in (("a.train", 380_000), ("b.train", 250_000), ("b.validation", 100)):  # one of the two fits
        (tmp_path / "in" / f"{name}.txt").write_text(" ".join(draw.choices(words, k=letters // 10)))
    config = DataConfig(kind="text", name="mine", path=str(tmp_path / "in"), vocab_size=300, tokenizer_sample_mb=0.01)
    with pytest.raises(DiskFullError) as caught:
        prepare(config, small_disk, workers)
    assert "disk full while writing" in str(caught.value) and str(small_disk) in str(caught.value)
    assert "start the same command again; nothing saved before is lost" in str(caught.value)
    (building,) = (file for file in small_disk.iterdir() if file.name != ".locks")
    assert building.name.startswith(".mine-") and building.name.endswith(".building")
    assert [*building.rglob("*.tmp")] == []
    finished = {file.name: file.stat().st_mtime_ns for file in building.glob("*.bin")}
    assert [*building.glob("parts/*.json")] and finished
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    corpus = prepare(config, small_disk, workers)
    corpus.verify()
    assert {name: (corpus.folder / name).stat().st_mtime_ns for name in finished} == finished
    assert corpus.fingerprint == prepare(config, tmp_path / "elsewhere", 1).fingerprint
    assert sorted(os.listdir(small_disk)) == sorted([".locks", corpus.name])


def test_a_corpus_on_a_read_only_disk_is_opened(small_disk: Path) -> None:
    config = DataConfig(kind="world", name="world", documents=100, vocab_size=300)
    corpus = prepare(config, small_disk, 1)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    again = prepare(config, small_disk)
    assert again.fingerprint == corpus.fingerprint
