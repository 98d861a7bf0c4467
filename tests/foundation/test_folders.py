"""Folders are whole or absent, never those of others; and a lock holds between processes."""

import errno
import os
import select
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ettin_core.foundation import folders
from ettin_core.foundation.errors import BusyError, UserError
from ettin_core.foundation.folders import MARK, emptied_folder, folder_under_construction, locked, remove_folder
from tests.kills import killed_at_every_change

HOLDER = """
import sys
from pathlib import Path
from ettin_core.foundation.folders import locked
with locked(Path(sys.argv[1]), wait=True):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def lock_holder(folder: Path) -> Iterator[subprocess.Popen]:
    """Another process that asks for the lock of `folder` and keeps it until its input closes."""
    root = Path(__file__).resolve().parents[2]
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder)], cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def say(process: subprocess.Popen) -> str:
    """The next line the process prints."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


def written(folder: Path, text: str, maker: str | None = "report") -> None:
    """Write two files into a folder, the second name depending on the text."""
    with folder_under_construction(folder, maker) as building:
        (building / "page").write_text(text)
        (building / f"{text}.csv").write_text(text)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_constructed_folder_appears_whole(tmp_path: Path) -> None:
    target = tmp_path / "target"
    with folder_under_construction(target) as building:
        (building / "file").write_text("x")
        assert not target.exists()
    assert (target / "file").read_text() == "x" and os.listdir(tmp_path) == ["target"]


def test_a_constructed_folder_replaces_the_old_one(tmp_path: Path) -> None:
    target = tmp_path / "target"
    for name in ("old", "new"):
        with folder_under_construction(target) as building:
            (building / name).write_text(name)
    assert os.listdir(target) == ["new"] and os.listdir(tmp_path) == ["target"]


@pytest.mark.parametrize("existing", [False, True])
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_failed_construction_leaves_what_was_there(
    existing: bool, error: type[BaseException], tmp_path: Path
) -> None:
    target = tmp_path / "target"
    if existing:
        target.mkdir()
        (target / "file").write_text("old")
    with pytest.raises(error), folder_under_construction(target) as building:
        (building / "file").write_text("half")
        raise error
    assert os.listdir(tmp_path) == (["target"] if existing else [])
    assert not existing or (target / "file").read_text() == "old"


def test_leftovers_of_a_kill_do_not_get_into_the_next_folder(tmp_path: Path) -> None:
    (tmp_path / ".target.building").mkdir()
    (tmp_path / ".target.building" / "leftover").write_text("x")
    with folder_under_construction(tmp_path / "target") as building:
        (building / "file").write_text("x")
    assert os.listdir(tmp_path / "target") == ["file"] and os.listdir(tmp_path) == ["target"]


def test_a_kill_while_a_folder_is_deleted_leaves_no_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "target").mkdir()
    for name in ("one", "two"):
        (tmp_path / "target" / name).write_text("x")

    def delete_half(path: Path, **options: Any) -> None:
        if path.exists():
            (path / "one").unlink()
            raise KeyboardInterrupt

    monkeypatch.setattr(folders.shutil, "rmtree", delete_half)
    with pytest.raises(KeyboardInterrupt):
        remove_folder(tmp_path / "target")
    monkeypatch.undo()
    assert not (tmp_path / "target").exists()
    remove_folder(tmp_path / "target")
    assert os.listdir(tmp_path) == []


def test_a_lock_held_by_another_process_is_refused_by_name(tmp_path: Path) -> None:
    with lock_holder(tmp_path / "run") as holder:
        assert say(holder) == "held"
        with (
            pytest.raises(ValueError, match=r"folder='.*run' is being written by another process; wait for it"),
            locked(tmp_path / "run"),
        ):
            pass


def test_a_lock_goes_when_its_process_is_killed(tmp_path: Path) -> None:
    with lock_holder(tmp_path / "run") as holder:
        assert say(holder) == "held"
        holder.kill()
        holder.wait()
        with locked(tmp_path / "run"):
            held = True
    assert held


def test_another_process_waits_for_the_lock(tmp_path: Path) -> None:
    with locked(tmp_path / "run"), lock_holder(tmp_path / "run") as holder:
        assert select.select([holder.stdout], [], [], 1.0)[0] == []


def test_a_waiting_process_gets_the_lock_when_it_is_free(tmp_path: Path) -> None:
    with lock_holder(tmp_path / "run") as first:
        assert say(first) == "held"
        with lock_holder(tmp_path / "run") as second:
            first.kill()
            assert say(second) == "held"


@pytest.mark.parametrize("exchanges", [True, False])
def test_a_kill_at_any_change_of_the_disk_leaves_the_old_folder_or_the_new(
    exchanges: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not exchanges:
        monkeypatch.setattr(folders, "_exchange", lambda new, old: False)
    target = tmp_path / "out"
    seen = set()

    def check(number: int) -> None:
        if not exchanges and not target.exists():
            assert [*tmp_path.glob(".out.*.replaced")]  # put back by the next call, which `written` below is
        else:
            assert names(target) in ([MARK, "old.csv", "page"], [MARK, "new.csv", "page"])
            seen.add((target / "page").read_text())
        written(target, "old")
        assert names(tmp_path) == ["out"] and (target / "page").read_text() == "old"

    written(target, "old")
    assert killed_at_every_change(lambda: written(target, "new"), check) > 6
    assert seen == {"old", "new"} and (target / "page").read_text() == "new"


def test_a_folder_that_was_being_replaced_by_two_renames_is_put_back(tmp_path: Path) -> None:
    written(tmp_path / "out", "old")
    (tmp_path / "out").rename(tmp_path / ".out.01234567.replaced")
    with pytest.raises(KeyboardInterrupt), folder_under_construction(tmp_path / "out", "report"):
        raise KeyboardInterrupt
    assert names(tmp_path) == ["out"] and (tmp_path / "out" / "page").read_text() == "old"


@pytest.mark.parametrize("kind", ["by nobody", "by another", "a file", "a link"])
def test_a_folder_of_others_is_never_replaced(kind: str, tmp_path: Path) -> None:
    target = tmp_path / "out"
    if kind == "by another":
        written(target, "corpus", "corpus")
    elif kind == "a file":
        target.write_text("precious")
    else:
        (tmp_path / "real").mkdir()
        (tmp_path / "real" / "precious").write_text("x")
        target.symlink_to(tmp_path / "real") if kind == "a link" else (tmp_path / "real").rename(target)
    before = sorted((path, path.read_bytes()) for path in tmp_path.rglob("*") if path.is_file())
    for call in (folder_under_construction, emptied_folder):
        with pytest.raises(ValueError, match=r"out='.*out' .*; name "), call(target, "report"):
            pytest.fail("nothing is written before the check")
    assert sorted((path, path.read_bytes()) for path in tmp_path.rglob("*") if path.is_file()) == before


def test_what_others_put_into_a_made_folder_stays(tmp_path: Path) -> None:
    target = tmp_path / "out"
    written(target, "old")
    (target / "notes.txt").write_text("mine")
    (target / "deep").mkdir()
    (target / "deep" / "file").write_text("mine too")
    written(target, "new")
    assert names(target) == [MARK, "deep", "new.csv", "notes.txt", "page"]
    assert (target / "deep" / "file").read_text() == "mine too"
    with (
        pytest.raises(ValueError, match="in the way of a file of that name"),
        folder_under_construction(target, "report") as building,
    ):
        (building / "notes.txt").write_text("generated")
    assert (target / "notes.txt").read_text() == "mine"
    with pytest.raises(UserError, match="did not write"), emptied_folder(target, "report"):
        pytest.fail("it holds what others made")


def test_an_empty_folder_and_one_with_expected_files_are_taken(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    written(tmp_path / "empty", "new")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "record.json").write_text("{}")
    with folder_under_construction(tmp_path / "out", "report", ("record.json",)) as building:
        (building / "page").write_text("x")
    assert names(tmp_path / "out") == [MARK, "page", "record.json"]
    written(tmp_path / "empty", "again")
    assert names(tmp_path / "empty") == [MARK, "again.csv", "page"]


def test_two_writers_of_one_folder_do_not_meet(tmp_path: Path) -> None:
    with folder_under_construction(tmp_path / "out", "report") as building:
        (building / "page").write_text("first")
        with pytest.raises(BusyError, match="is being written by another process"):
            written(tmp_path / "out", "second")
        assert building.exists()
        written(tmp_path / "out.b", "neighbour")  # whose name begins alike
    assert (tmp_path / "out" / "page").read_text() == "first" and names(tmp_path) == ["out", "out.b"]


def test_leftovers_of_a_neighbour_are_left_alone(tmp_path: Path) -> None:
    with folder_under_construction(tmp_path / "out.b", "report") as building:
        written(tmp_path / "out", "x")
        assert building.exists()
    assert names(tmp_path) == ["out", "out.b"]


def test_an_emptied_folder_is_this_makers_again(tmp_path: Path) -> None:
    for text in ("one", "two"):
        with emptied_folder(tmp_path / "faults", "fault campaign") as folder:
            assert names(folder) == [MARK]
            (folder / text).write_text(text)
    assert names(tmp_path / "faults") == [MARK, "two"]


def test_a_disk_that_cannot_exchange_is_distinguished_from_an_error(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    if not folders._exchange(tmp_path / "one", tmp_path / "one"):
        pytest.skip("this file system cannot exchange two names")
    with pytest.raises(OSError) as caught:
        folders._exchange(tmp_path / "one", tmp_path / "absent")
    assert caught.value.errno == errno.ENOENT
