"""Files of evaluation sets as other tools write them: what is read as it is, and errors that name file and line."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from ettin_core.evaluation.datasets import WINOBIAS
from ettin_core.evaluation.finetuning.rows import read
from ettin_core.evaluation.finetuning.tasks import task_of
from ettin_core.evaluation.lines import find, need, rows_of
from ettin_core.evaluation.retrieval.rows import read_rows as read_split
from ettin_core.evaluation.retrieval.sets import local_sets, named, read_retrieval
from ettin_core.evaluation.suite import applicable, check_items
from ettin_core.evaluation.suite_config import SuiteConfig
from ettin_core.foundation.errors import UserError
from ettin_core.records.readout import KNOWN
from tests.evaluation.small_sets import winobias_rows

PLAIN = "".join(json.dumps(row) + "\n" for row in winobias_rows()).encode()
SHAPES = {
    "plain": PLAIN,
    "byte order mark": b"\xef\xbb\xbf" + PLAIN,
    "blank last lines": PLAIN + b"\n \r\n",
    "blank line between": PLAIN.replace(b"\n", b"\n\n", 1),
    "CRLF": PLAIN.replace(b"\n", b"\r\n"),
    "CR": PLAIN.replace(b"\n", b"\r"),
    "no end of the last line": PLAIN.rstrip(),
    "a field nobody asks for": PLAIN.replace(b"{", b'{"note": "x", ', 1),
    "a separator of lines within a text": PLAIN.replace(b"met the judge", b"met the\xe2\x80\xa8judge"),
}


@pytest.mark.parametrize("suffix", [".jsonl.gz", ".jsonl"])
@pytest.mark.parametrize("content", SHAPES.values(), ids=SHAPES.keys())
def test_what_other_tools_write_is_read(content: bytes, suffix: str, tmp_path: Path) -> None:
    file = tmp_path / f"bias/winobias{suffix}"
    file.parent.mkdir()
    file.write_bytes(gzip.compress(content) if suffix.endswith("gz") else content)
    suite = SuiteConfig(1, 1, 1, str(tmp_path), 1, None, ("winobias",))
    check_items(applicable(KNOWN["mlm"], suite), suite)
    assert [row["id"] for row in WINOBIAS.rows(tmp_path)] == [row["id"] for row in winobias_rows()]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"{", "is not JSON"),
        (b"[1]", "is not an object but a list; give one object per line"),
        (b'{"id": "b", "x": NaN}', "holds NaN"),
        (b'{"id": "b", "x": 1e999}', "holds 1e999"),
        (b'{"id": "a"}', "of .*:1; give every row a different id"),
        (b'{"id": "\\ud800"}', "half a surrogate pair"),
        (b'{"id": "\xff"}', "is not UTF-8"),
        (b"[" * 100_000, "nested too deeply"),
    ],
)
def test_a_line_that_is_not_a_row_is_named(line: bytes, message: str, tmp_path: Path) -> None:
    file = tmp_path / "set.jsonl"
    file.write_bytes(b'{"id": "a"}\n\n' + line + b"\n")
    with pytest.raises(UserError, match=message) as caught:
        list(rows_of(file))
    assert "\n" not in str(caught.value) and (f"{file}:3" in str(caught.value) or "UTF-8" in message)


def test_a_set_is_found_once(tmp_path: Path) -> None:
    assert find(tmp_path, "mine") is None
    with pytest.raises(UserError, match="lacks mine"):
        need(tmp_path, "mine")
    for content in (b"", b"\n\n", b"\xef\xbb\xbf"):
        (tmp_path / "mine.jsonl").write_bytes(content)
        with pytest.raises(UserError, match="holds no rows"):
            list(rows_of(need(tmp_path, "mine.jsonl.gz")))
    (tmp_path / "mine.jsonl.gz").write_bytes(b"")
    with pytest.raises(UserError, match="a second time"):
        need(tmp_path, "mine")


def test_every_reader_of_sets_is_this_one(tmp_path: Path) -> None:
    marked = b"\xef\xbb\xbf"
    rows = [{"id": str(n), "split": split, "text": "a", "label": n % 2, "mood": n} for n, split in enumerate(
        ["train"] * 40 + ["validation", "test"])]  # fmt: skip
    (tmp_path / "cls").mkdir()
    (tmp_path / "cls/sst2.jsonl").write_bytes(marked + "\r\n".join(map(json.dumps, rows)).encode() + b"\r\n\r\n")
    assert len(read(task_of("sst2"), str(tmp_path)).train) == 40
    assert len(read_split(local_sets(tmp_path)["sst2"], "train")) == 40


@pytest.fixture
def beir(tmp_path: Path) -> Path:
    """A folder with retrieval/mine of three documents and two queries, as BEIR's own files are: plain."""
    folder = tmp_path / "retrieval/mine"
    (folder / "qrels").mkdir(parents=True)
    corpus = [{"_id": f"d{n}", "title": "", "text": f"text {n}", "metadata": {}} for n in range(3)]
    (folder / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in corpus))
    queries = [{"_id": f"q{n}", "text": f"query {n}"} for n in range(2)]
    (folder / "queries.jsonl").write_text("".join(json.dumps(row) + "\n" for row in queries))
    (folder / "qrels/test.tsv").write_text("query-id\tcorpus-id\tscore\nq0\td0\t1\nq1\td1\t1\n")
    return tmp_path


def relevant(folder: Path) -> dict[str, Any]:
    """The judgements of the set's test split."""
    return read_retrieval(local_sets(folder)["mine"], "test")[2]


def test_retrieval_sets_as_other_tools_write_them(beir: Path) -> None:
    table, corpus = beir / "retrieval/mine/qrels/test.tsv", beir / "retrieval/mine/corpus.jsonl"
    expected, plain = {"q0": {"d0": 1}, "q1": {"d1": 1}}, table.read_bytes()
    for content in (
        plain,
        b"\xef\xbb\xbf" + plain,
        plain.replace(b"\n", b"\r\n"),
        plain + b"\n\n",
        plain.replace(b"\t1\n", b"\t1.0\n"),
    ):
        table.write_bytes(content)
        assert relevant(beir) == expected
    with corpus.open("a") as file:
        file.write('{"_id": "d3", "title": null, "text": ""}\n{"_id": "d4", "text": "no title"}\n')
    assert [row["title"] for row in read_retrieval(local_sets(beir)["mine"], "test")[0]] == [""] * 5


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("qrels/test.tsv", "q0\td0\t1\nq1\td1\t1\n", "test.tsv:1' is a judgement where the header belongs"),
        ("qrels/test.tsv", "query-id\tcorpus-id\tscore\nq0\td0\t1\nq0\td0\t0\n", "test.tsv:3' judges 'd0' for 'q0'"),
        ("qrels/test.tsv", "query-id\tcorpus-id\tscore\nq0\td0\t0.5\n", "test.tsv:2' is not a judgement"),
        ("qrels/test.tsv", "query-id\tcorpus-id\tscore\nq0\td0\t0\n", "q0.* has no document with a score above 0"),
        ("qrels/test.tsv", "query-id\tcorpus-id\tscore\n", "holds no judgements"),
        (
            "corpus.jsonl",
            '{"_id": "d0", "text": "a"}\n{"_id": "d0", "text": "b"}\n',
            "corpus.jsonl:2' has the _id='d0'",
        ),
        ("queries.jsonl", '{"_id": "q0", "text": "a"}\n{"_id": "q0", "text": "a"}\n', "queries.jsonl:2' has the _id"),
        ("queries.jsonl", '{"_id": "q0", "text": ""}\n', "queries.jsonl:1' lacks a value of the field 'text'"),
        ("corpus.jsonl", '{"_id": "d0", "title": 3, "text": "a"}\n', "a int in the field 'title'"),
    ],
)
def test_a_retrieval_set_that_would_be_scored_wrongly_is_an_error(
    file: str, content: str, message: str, beir: Path
) -> None:
    (beir / "retrieval/mine" / file).write_text(content)
    with pytest.raises(UserError, match=message):
        relevant(beir)


def test_two_sets_of_one_name_are_both_there(beir: Path) -> None:
    (beir / "sts").mkdir()
    (beir / "sts/mine.jsonl").write_text('{"split": "test", "text1": "a", "text2": "b", "score": 1}\n')
    sets = local_sets(beir)
    assert {name: item.kind for name, item in sets.items()} == {"retrieval.mine": "Retrieval", "sts.mine": "STS"}
    assert named(sets, "sts.mine") is sets["sts.mine"] and named(sets, "none") is None
    with pytest.raises(UserError, match=r"task='mine' is the name of 2 sets .* retrieval\.mine or sts\.mine"):
        named(sets, "mine")
