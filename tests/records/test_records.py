"""Records: every kind survives the round trip, and what is not understood is an error."""

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from ettin_core.records.folders import RunFolder, append, run_folders
from ettin_core.records.item_tables import columns, read_item_tables, tables
from ettin_core.records.schema import (
    RECORD_KINDS,
    SCHEMA_VERSION,
    Item,
    Measurement,
    TimingRecord,
    TrainingRecord,
    from_row,
    to_row,
)

TRAINING = TrainingRecord("pretrain", 3, 2**40, 7, 1.5e21, 0.1 + 0.2, 3e-3, 1.25, "abc")
TIMING = TimingRecord(3, 1.5, 1000.0)
MEASURED = Measurement(
    "run-1", "encoder", "nano", 21, "heldout", 1, "wörld", "loss", 1.25, 100, 0.5, "step9", False, 2.0, {"a": {"b": 1}}
)
HOLE = Measurement("run-1", "encoder", "nano", 21, "heldout", 1, "world", "loss", None, 0, None, "step9", True)
ITEM = Item("run-1", "heldout", "world", "doc-1", 2.5, {"tokens": 7})
OTHER = replace(ITEM, item="doc-2")
ALL = [TRAINING, TIMING, MEASURED, HOLE, ITEM]


def refusal(row: dict[str, Any]) -> str:
    """The message of the error that a row raises."""
    with pytest.raises(ValueError) as caught:
        from_row(row)
    return str(caught.value)


@pytest.mark.parametrize("record", ALL, ids=lambda record: record.kind)
def test_a_record_survives_the_round_trip_through_json(record: Any) -> None:
    again = from_row(json.loads(json.dumps(to_row(record))))
    assert again == record and type(again) is type(record)


def test_every_kind_is_tested_here_and_says_its_kind() -> None:
    assert {type(record) for record in ALL} == set(RECORD_KINDS.values())
    assert all(RECORD_KINDS[record.kind] is type(record) and record.schema == SCHEMA_VERSION for record in ALL)


def test_a_hole_stays_a_hole() -> None:
    row = to_row(HOLE)
    assert row["value"] is None and from_row(row).value is None


@pytest.mark.parametrize("schema", [None, 0, 2, "1"])
def test_another_schema_is_an_error(schema: Any) -> None:
    message = refusal(to_row(TIMING) | {"schema": schema})
    assert message == f"schema={schema!r} is not readable here; use records of schema 1."


def test_a_row_without_a_schema_is_an_error() -> None:
    assert "schema=None is not readable here" in refusal({"kind": "timing"})


@pytest.mark.parametrize("kind", [None, "metric", 3])
def test_an_unknown_kind_is_an_error(kind: Any) -> None:
    message = refusal(to_row(TIMING) | {"kind": kind})
    assert message == f"kind={kind!r} is not a record kind; use one of training, timing, measurement, item."


@pytest.mark.parametrize("record", ALL, ids=lambda record: record.kind)
def test_unknown_fields_are_errors_by_name(record: Any) -> None:
    assert "row=['extra', 'more'] holds unknown fields" in refusal(to_row(record) | {"more": 1, "extra": 2})


@pytest.mark.parametrize("record", ALL, ids=lambda record: record.kind)
def test_missing_fields_are_errors_by_name(record: Any) -> None:
    row = to_row(record)
    first, second = (field.name for field in fields(record)[:2])
    del row[first], row[second]
    assert f"row={sorted([first, second])} are fields it lacks" in refusal(row)


def test_a_run_folder_gives_back_what_was_appended(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "nano-encoder-s21-0123456789")
    later = replace(TRAINING, step=4)
    append(run.metrics_file, [TRAINING])
    append(run.metrics_file, [later])
    append(run.timing_file, [TIMING])
    assert run.training() == [TRAINING, later] and run.timing() == [TIMING]
    assert run.name == "nano-encoder-s21-0123456789"


def test_a_run_folder_without_evidence_has_none(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    assert (run.training(), run.timing(), run.measurements(), run.items("heldout")) == ([], [], [], [])


def test_measurements_of_every_protocol_of_the_last_checkpoint(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run-1")
    append(run.evaluation_folder("heldout", 1) / "measurements.jsonl", [MEASURED])
    append(run.evaluation_folder("pronouns", 2) / "measurements.jsonl", [HOLE])
    append(run.evaluation_folder("heldout", 1, "step5") / "measurements.jsonl", [HOLE])
    (run.path / "evaluations" / ".heldout@3.building").mkdir()
    append(run.path / "evaluations" / ".heldout@3.building" / "measurements.jsonl", [HOLE])
    assert run.measurements() == [MEASURED, HOLE]
    assert run.measurements("step5") == [HOLE]
    assert run.measurements("step6") == []


def test_items_of_one_protocol(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run-1")
    append(run.evaluation_folder("heldout", 1) / "items.jsonl", [ITEM, OTHER])
    append(run.evaluation_folder("heldout", 1) / "measurements.jsonl", [MEASURED])
    append(run.evaluation_folder("heldout_mlm", 1) / "items.jsonl", [ITEM])
    assert run.items("heldout") == [ITEM, OTHER]


def test_items_by_columns_are_the_same_items_and_damage_is_named(tmp_path: Path) -> None:
    rows = [ITEM, OTHER, replace(ITEM, task="other", details={}), replace(ITEM, task="third", details={"a": None})]
    whole = columns(tables(rows))
    file = tmp_path / "items.json"
    file.write_text(whole)
    assert [row for table in read_item_tables(tmp_path, "run-1") for row in table.rows()] == rows
    for before, after, message in (
        (whole, whole[:-9], "is not valid JSON"),
        ('"schema":1', '"schema":2', "use records of schema 1"),
        ('"doc-1","doc-2"', '"doc-1","doc-1"', "holds an item of task world twice"),
        ('"task":"other"', '"task":"world"', "holds an item of task world twice"),
        ("[2.5,2.5]", "[2.5]", "columns of different lengths"),
        ("[2.5,2.5]", '[2.5,"2.5"]', "values that are not numbers"),
        ("[2.5,2.5]", "[2.5,NaN]", "not finite"),
        ('"tokens":[7,7]', '"tokens":7', "not lists"),
        ('"run":"run-1"', '"run":"run-2"', "items of run run-2, not of run-1"),
        ('"protocol":"heldout",', "", "lacks tables.0 protocol"),
    ):
        assert before in whole
        file.write_text(whole.replace(before, after, 1))
        with pytest.raises(ValueError, match=message) as caught:
            read_item_tables(tmp_path, "run-1")
        assert str(file) in str(caught.value)


def test_a_run_is_complete_once_it_is_finished(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    assert not run.complete
    with pytest.raises(ValueError, match="run='run' is not complete; start its command again"):
        run.summary()
    run.finish({"tokens": 7})
    assert run.complete and run.summary() == {"tokens": 7}


def test_the_configuration_is_read_as_plain_data(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    run.path.mkdir()
    run.config_file.write_text("size: nano\nseeds: {order: 1}\n")
    assert run.config() == {"size": "nano", "seeds": {"order": 1}}


def test_run_folders_are_those_with_a_configuration(tmp_path: Path) -> None:
    for name in ("b", "a", "c", ".hidden"):
        (tmp_path / name).mkdir()
    for name in ("b", "a", ".hidden"):
        (tmp_path / name / "config.yaml").write_text("{}")
    assert [run.name for run in run_folders(tmp_path)] == ["a", "b"]
    with pytest.raises(ValueError, match=r"runs='.*/nowhere' is not a folder; train something first"):
        run_folders(tmp_path / "nowhere")


@pytest.mark.parametrize(
    "record", [replace(MEASURED, value=float("nan")), replace(ITEM, details={"a": [float("inf")]})]
)
def test_what_is_not_a_number_is_never_written(record: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not finite|not a finite number"):
        append(tmp_path / "rows.jsonl", [record])
    assert not (tmp_path / "rows.jsonl").exists()


def test_steps_that_a_continued_run_logged_again_count_once(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    rows = [TimingRecord(step, seconds, 1.0) for step, seconds in ((1, 1.0), (2, 5.0), (3, 9.0), (2, 1.5), (4, 2.5))]
    append(run.timing_file, rows)
    assert [(row.step, row.seconds) for row in run.timing()] == [(1, 1.0), (2, 1.5), (4, 2.5)]
