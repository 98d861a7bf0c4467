"""Files are whole or absent: after an exception, a kill, a cut line."""

import os
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ettin_core.foundation import storage
from ettin_core.foundation.storage import (
    append_json_lines,
    canonical_json,
    content_name,
    hash_file,
    hash_text,
    read_json,
    read_json_lines,
    write_bytes,
    write_json,
    write_text,
)


def test_write_replaces_the_file_and_leaves_no_other(tmp_path: Path) -> None:
    write_text(tmp_path / "deep" / "file", "one")
    write_text(tmp_path / "deep" / "file", "zwei ü")
    assert (tmp_path / "deep" / "file").read_bytes() == "zwei ü".encode()
    assert os.listdir(tmp_path / "deep") == ["file"]


@pytest.mark.parametrize("culprit", ["fsync", "replace"])
def test_an_exception_while_writing_leaves_the_old_file(
    culprit: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_bytes(tmp_path / "file", b"old")

    def fail(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(storage.os, culprit, fail)
    with pytest.raises(KeyboardInterrupt):
        write_bytes(tmp_path / "file", b"new")
    monkeypatch.undo()
    assert (tmp_path / "file").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_json_that_cannot_be_written_leaves_the_old_file(tmp_path: Path) -> None:
    write_json(tmp_path / "file", {"a": 1})
    with pytest.raises(TypeError):
        write_json(tmp_path / "file", {"a": object()})
    assert read_json(tmp_path / "file") == {"a": 1}


@pytest.mark.parametrize("content", [b"", b'{"a": 1', b"\xff\xfe\xfa"])
def test_damaged_json_is_refused_by_name(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "state.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"file='.*state\.json' is not valid JSON .*; restore it or delete it"):
        read_json(tmp_path / "state.json")


def test_canonical_json_has_one_text_per_value() -> None:
    assert canonical_json({"b": 1, "a": ["ü", None]}) == '{"a":["ü",null],"b":1}'
    with pytest.raises(ValueError):
        canonical_json(float("nan"))


def test_content_name_follows_content_and_not_key_order() -> None:
    assert content_name("run", {"a": 1, "b": 2}) == content_name("run", {"b": 2, "a": 1})
    assert content_name("run", {"a": 1}) != content_name("run", {"a": 1.0})
    assert content_name("run", {"a": 1}) == "run-015abd7f5c"


def test_hashes_are_sha256(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert hash_file(tmp_path / "file") == hash_text("abc") == known


def test_json_lines_accumulate(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "rows.jsonl"
    assert read_json_lines(file) == []
    append_json_lines(file, [{"a": 1}, {"a": "ü\n\u2028"}])
    append_json_lines(file, [])
    append_json_lines(file, [{"a": None}])
    assert read_json_lines(file) == [{"a": 1}, {"a": "ü\n\u2028"}, {"a": None}]
    assert file.read_bytes().count(b"\n") == 3


@pytest.mark.parametrize("cut", range(1, len('{"a": "ü"}\n'.encode())))
def test_a_line_cut_anywhere_is_left_out_and_does_not_spoil_the_next(cut: int, tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    append_json_lines(file, [{"a": 1}, {"a": "ü"}])
    file.write_bytes(file.read_bytes()[:-cut])
    assert read_json_lines(file) == [{"a": 1}]
    append_json_lines(file, [{"a": 3}])
    assert read_json_lines(file) == [{"a": 1}, {"a": 3}]


def test_a_file_that_is_one_cut_line_starts_again(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_bytes(b'{"a"')
    append_json_lines(file, [{"a": 3}])
    assert read_json_lines(file) == [{"a": 3}]


@pytest.mark.parametrize("bad", [b"{", b"\xff", b""])
def test_a_bad_line_in_the_middle_is_named(bad: bytes, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_bytes(b'{"a": 1}\n' + bad + b'\n{"a": 2}\n')
    with pytest.raises(ValueError, match=r"rows\.jsonl:2' is not a JSON line"):
        read_json_lines(tmp_path / "rows.jsonl")


rows = st.lists(st.dictionaries(st.text(), st.none() | st.booleans() | st.integers() | st.text(), max_size=4))


@given(rows)
def test_json_lines_survive_the_round_trip(written: list[dict[str, Any]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        append_json_lines(Path(folder) / "rows.jsonl", written)
        assert read_json_lines(Path(folder) / "rows.jsonl") == written
