"""Hashes of files are remembered for as long as a file is what it was, and no longer."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ettin_core.foundation import hashes
from ettin_core.foundation.hashes import hash_files
from ettin_core.foundation.storage import hash_file, read_json, write_json

HERE = Path(__file__).parent
OLD = sorted(HERE.glob("test_*.py"))  # files that nobody has just written


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A memory of this test's own."""
    monkeypatch.setenv("ETTIN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def memory(cache: Path) -> Path:
    """The one file of the memory."""
    (file,) = (cache / "hashes").glob("*.json")
    return file


def right(files: list[Path]) -> dict[Path, str]:
    """What each file's hash is."""
    return {file: hash_file(file) for file in files}


def test_what_has_not_changed_is_not_read_again(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashes, "SETTLED", 0)
    assert hash_files(HERE, OLD[:2], "tests") == right(OLD[:2])
    content = read_json(memory(cache))
    content["files"][OLD[0].name][1] = "as remembered"
    write_json(memory(cache), content)
    expected = right(OLD) | {OLD[0]: "as remembered"}
    assert hash_files(HERE, OLD, "tests") == expected == hash_files(HERE, OLD, "tests")
    assert hash_files(HERE, OLD, "tests", again=True) == right(OLD) == hash_files(HERE, OLD, "tests")


def test_a_changed_file_is_read_again_whatever_its_times_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashes, "SETTLED", -1)
    file = tmp_path / "file"
    file.write_bytes(b"one")
    before = file.stat()
    assert hash_files(tmp_path, [file], "x") == right([file])
    replacement = tmp_path / "replacement"
    replacement.write_bytes(b"two")
    replacement.replace(file)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert hash_files(tmp_path, [file], "x") == right([file])


def test_a_file_that_was_just_written_is_not_remembered(tmp_path: Path) -> None:
    """It could change again under the same times: clocks of file systems tick slowly."""
    file = tmp_path / "file"
    for content in (b"one", b"two", b"six"):
        file.write_bytes(content)
        os.utime(file, ns=(10**18, 10**18))
        assert hash_files(tmp_path, [file], "x") == right([file])


@pytest.mark.parametrize("damage", [b"", b"{}", b"[1]", b'{"files": {"a": 3}}', b"\xff"])
def test_a_damaged_memory_is_no_memory(damage: bytes, cache: Path) -> None:
    hash_files(HERE, OLD, "tests")
    memory(cache).write_bytes(damage)
    assert hash_files(HERE, OLD, "tests") == right(OLD)


def test_no_memory_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("ETTIN_CACHE", str(tmp_path / "file"))
    assert hash_files(HERE, OLD, "tests") == right(OLD)


def test_two_at_once_agree(cache: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _: hash_files(HERE, OLD, "tests"), range(8)))
    assert results == [right(OLD)] * 8 and set(read_json(memory(cache))["files"]) == {file.name for file in OLD}


def test_reading_much_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    files = [tmp_path / name for name in "ab"]
    for file in files:
        file.write_bytes(os.urandom(2**20 + 3))
    assert hash_files(tmp_path, files, "corpus x") == right(files) and not capsys.readouterr().err
    monkeypatch.setattr(hashes, "SHOWN", 2**20)
    assert hash_files(tmp_path, files, "corpus x") == right(files)
    assert "read 2 files of corpus x to hash them" in capsys.readouterr().err
