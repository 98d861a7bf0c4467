"""Evaluation sets: errors, in one line that names file, line and field, before anything is measured."""

import gzip
from pathlib import Path
from typing import Any

import pytest

from ettin_core.evaluation.datasets import BLIMP, CROWS_PAIRS, STEREOSET, WINOBIAS, WINOGENDER, every
from ettin_core.evaluation.protocol import mean_result
from ettin_core.evaluation.registry import BY_NAME
from ettin_core.evaluation.suite import applicable, check_items
from ettin_core.evaluation.suite_config import SuiteConfig
from ettin_core.records.readout import KNOWN
from tests.evaluation.small_sets import crows_rows, write_rows, write_sets


def suite_of(folder: Path, *protocols: str) -> SuiteConfig:
    """A suite of some protocols (none named: all) over a folder."""
    return SuiteConfig(1, 1, 1, str(folder), 1, None, protocols or None)


def test_all_sets_of_the_real_folder_are_read(real_data: Path) -> None:
    counts = {item.file: sum(1 for _ in item.rows(real_data / "eval")) for item in (WINOGENDER, WINOBIAS, CROWS_PAIRS)}
    assert list(counts.values()) == [720, 3168, 1508]
    assert sum(1 for _ in STEREOSET.rows(real_data / "eval")) == 2093
    assert sum(1 for _ in BLIMP.rows(real_data / "eval")) == 67000
    uneven = [item.uneven_rows(real_data / "eval") for item in (WINOGENDER, WINOBIAS, CROWS_PAIRS, STEREOSET)]
    assert uneven == [0, 1, 15, 21]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bias_type": None}, ":2' lacks a value of the field 'bias_type'"),
        ({"direction": ""}, ":2' lacks a value of the field 'direction'"),
        ({"sent_more": 3}, ":2' has a int in the field 'sent_more'"),
        ({"sent_more": "\u00a0\n"}, ":2' has only white space in the field 'sent_more'"),
    ],
)
def test_a_row_that_cannot_be_measured_is_named(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    folder = write_sets(tmp_path)
    rows = crows_rows()
    write_rows(folder / CROWS_PAIRS.file, [rows[0], rows[1] | change])
    suite = suite_of(folder, "crows_pairs.sentence")
    with pytest.raises(ValueError, match=r"crows_pairs\.jsonl\.gz") as caught:
        check_items(applicable(KNOWN["mlm"], suite), suite)
    assert message in str(caught.value) and "\n" not in str(caught.value)
    check_items(
        applicable(KNOWN["mlm"], suite_of(folder, "stereoset")), suite_of(folder, "stereoset")
    )  # which reads another


def test_an_empty_set_is_an_error_and_the_mean_of_nothing_is_nothing(tmp_path: Path) -> None:
    folder = write_sets(tmp_path)
    write_rows(folder / STEREOSET.file, [])
    suite = suite_of(folder, "stereoset")
    with pytest.raises(ValueError, match="stereoset_intrasentence.* holds no rows"):
        check_items(applicable(KNOWN["mlm"], suite), suite)
    assert mean_result("task", "metric", []).value is None


def test_a_row_without_a_field_is_named(tmp_path: Path) -> None:
    rows = crows_rows()
    del rows[0]["sent_less"]
    write_rows(tmp_path / CROWS_PAIRS.file, rows)
    with pytest.raises(ValueError, match=r":1' lacks a value of the field 'sent_less'"):
        list(CROWS_PAIRS.rows(tmp_path))


DAMAGED = {  # the names are the tests' own: gzip writes the time of day into its header
    "no gzip": b"no gzip",
    "half an object": gzip.compress(b'{"id": "0"'),
    "half a file": gzip.compress(b"[1]\n")[:-6],
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED.keys())
def test_a_damaged_file_is_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "bias").mkdir()
    (tmp_path / CROWS_PAIRS.file).write_bytes(content)
    with pytest.raises(ValueError, match=r"crows_pairs\.jsonl\.gz:1' (is cut short or damaged|is not)"):
        list(CROWS_PAIRS.rows(tmp_path))


@pytest.mark.parametrize("name", [name for name, row in BY_NAME.items() if row.datasets])
def test_only_the_sets_of_the_chosen_protocols_are_needed(name: str, tmp_path: Path) -> None:
    files = [item.file for item in BY_NAME[name].datasets]
    with pytest.raises(ValueError, match=f"lacks {files[0]}"):
        suite_of(tmp_path, name)
    for file in files:
        write_rows(tmp_path / file, [{}])
    assert [item.file for item in suite_of(tmp_path, name).sets] == files


def test_a_protocol_that_only_reads_sets_needs_the_folder() -> None:
    with pytest.raises(ValueError, match="reads an evaluation set; give suite.eval_data"):
        SuiteConfig(1, 1, 1, None, 1, None, ("stereoset",))
    SuiteConfig(1, 1, 1, None, 1, None, ("pronouns",))  # has the world, too


def test_unknown_protocols_are_errors() -> None:
    with pytest.raises(ValueError, match="suite.protocols='blimp' is not a protocol; use one of heldout_clm"):
        SuiteConfig(1, 1, 1, None, 1, None, ("blimp",))
    with pytest.raises(ValueError, match="measures nothing"):
        SuiteConfig(1, 1, 1, None, 1, None, ())


def test_what_applies_depends_on_sets_and_corpus(tmp_path: Path) -> None:
    alone = SuiteConfig(1, 1, 1, None, 1)
    assert not [item.name for item in applicable(KNOWN["clm"], alone) if not item.corpus]
    folder = suite_of(write_sets(tmp_path))
    without = {item.name for item in applicable(KNOWN["mlm"], folder, corpus=False)}
    assert not {"heldout_mlm", "facts.left_to_right"} & without
    assert {"stereoset", "pronouns", "minimal_pairs.pseudo_likelihood", "winogender@published_encoder"} <= without
    assert applicable(KNOWN["clm"], alone, corpus=False) == []
    assert "minimal_pairs.token_pseudo_likelihood" not in without
    [asked] = applicable(KNOWN["mlm"], suite_of(tmp_path, "minimal_pairs.token_pseudo_likelihood"))
    assert asked.name == "minimal_pairs.token_pseudo_likelihood"


def test_some_rows_are_evenly_spaced() -> None:
    assert every(list(range(10)), 5) == [0, 2, 4, 6, 8]
    assert every([1, 2], None) == every([1, 2], 7) == [1, 2]
