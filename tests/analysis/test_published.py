"""The published tables and figures: each that a pair study can fill is filled from records, the others say why not."""

import csv
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from analysis import estimates
from analysis.kinds import as_published
from analysis.load import load
from analysis.published import Measure, coverage, coverage_table, plain_task, published
from analysis.published_values import FILE as VALUES
from analysis.published_values import beside, beside_table, nearest
from ettin_core.records.folders import RunFolder, append
from ettin_core.records.schema import Measurement
from tests.analysis.conftest import KINDS

FACTS = Path(__file__).resolve().parents[2].parent / "shared" / "reference" / "ettin_results.csv"
FILLABLE = [item for item in published() if not item.cannot]


def parts(measure: Measure) -> list[Measure]:
    """The scores that a measure is made of."""
    return [score for part in measure.parts for score in parts(part)] or [measure]


def protocol(measure: Measure, kind: str) -> str:
    """The protocol by which a kind is asked for a measure."""
    causal = KINDS[kind][0] == "causal"
    return {
        "finetune": ".".join(filter(None, ["finetune", measure.task, "bidirectional_mean", measure.start])),
        "mteb.contrastive": f"mteb.contrastive.{'lasttoken' if causal else 'mean'}",
        "lm_eval": f"lm_eval.{'conditional' if causal else 'masked_left_to_right'}",
        "winogender": f"winogender@published_{'decoder' if causal else 'encoder'}",
    }[measure.question]


def measure_all(folder: RunFolder, kind: str, without: str = "") -> None:
    """Every score that the paper shows of any kind, but for one task: 0.25 each."""
    wanted = {
        (protocol(part, kind), part.task, part.metric)
        for item in FILLABLE
        for measure in item.measures
        for part in parts(measure)
        if not part.run and part.task != without
    }
    shutil.rmtree(folder.path / "evaluations")
    for name, task, metric in sorted(wanted):
        row = Measurement(
            folder.name, kind, "nano", 0, name, 1, task, metric, 0.25, 100, None, "step400", True
        )  # fmt: skip
        append(folder.evaluation_folder(name, 1) / "measurements.jsonl", [row])
    for path in folder.path.glob("evaluations/*"):
        append(path / "items.jsonl", [])


def listed(filled: pd.DataFrame) -> dict[str, list[str]]:
    """The rows of the list by the published name."""
    return {row[0]: row for _, rows in coverage_table(filled).sections for row in rows}


@pytest.fixture
def complete(synthetic: Any) -> Any:
    """A study of the four kinds with every score of the paper."""
    for kind in KINDS:
        measure_all(synthetic.add(kind), kind)
    return synthetic


def test_every_table_and_figure_that_can_be_filled_is(complete: Any) -> None:
    recorded = load(complete.root)
    filled = coverage(recorded, estimates.cells(recorded))
    rows = listed(filled)
    tables = {item.table.name for item in as_published.tables(filled)}
    figures = {figure.name: figure for figure in as_published.drawn(filled, recorded)}
    for item in published():
        assert rows[item.name][2] == ("cannot be filled" if item.cannot else "filled"), rows[item.name]
        assert item.slug in (figures if item.drawn else tables) or item.cannot
    head_to_head = figures["published-figure-1"]
    measures = ["MNLI", "MS MARCO dev", "Generative average"]
    titles = [f"{name}{whose} ↑" for whose in ("", ", published") for name in measures]
    assert [panel.get_title("left") for panel in head_to_head.figure.axes] == titles
    ours, theirs = (head_to_head.data[head_to_head.data["published"] == whose] for whose in (False, True))
    assert (len(ours), len(theirs)) == (12, 72) and set(ours["value"]) == {0.25} and theirs["block"].isna().all()
    values = filled.set_index(["exhibit", "block", "kind", "measure"])["value"]
    assert values["Table 6", "nano on world", "encoder", "Mean over types"] == pytest.approx(0.25)
    assert values["Figure 1", "nano on world", "dec-from-enc", "Generative average"] == pytest.approx(0.25)


def test_values_are_set_beside_the_nearest_published_size(complete: Any) -> None:
    recorded = load(complete.root)
    rows = beside(coverage(recorded, estimates.cells(recorded)), recorded)
    assert set(rows["exhibit"]) == {item.name for item in FILLABLE} - {"Figure 1", "Figure 2"}
    assert set(rows["size"]) == {"17m"} and nearest(100) == "150m"
    row = rows[(rows["exhibit"] == "Table 9") & (rows["kind"] == "encoder") & (rows["measure"] == "MNLI")].iloc[0]
    assert (row["published"], row["deviation"]) == (pytest.approx(0.795), pytest.approx(0.25 - 0.795))
    shown = dict(beside_table(rows).sections)["Table 9 (nano on world)"][0]
    assert shown == ["encoder", "MNLI", "0.250", "17m", "0.795", "−0.545"]


def test_a_hole_says_what_is_lacking_and_which_command_measures_it(synthetic: Any) -> None:
    for kind in ("encoder", "decoder"):
        measure_all(synthetic.add(kind), kind, without="cola")
    recorded = load(synthetic.root)
    rows = listed(coverage(recorded, estimates.cells(recorded)))
    assert rows["Table 7"][2] == "7 of 9"
    assert rows["Table 7"][4] == "not measured (experiments.finetune): encoder CoLA; lacks 1 of 8: encoder GLUE average"
    assert (
        rows["Figure 2"][2] == "filled" and rows["Figure 3"][4] == "not part of this study: enc-from-dec, dec-from-enc"
    )


def test_a_study_of_none_of_it_has_the_list_alone(four_kinds: Any) -> None:
    recorded = load(four_kinds.root)
    filled = coverage(recorded, estimates.cells(recorded))
    assert [item.table.name for item in as_published.tables(filled)] == [
        "published",
        "published-table-11",
    ]  # what every run tells of itself


def test_the_published_way_is_taken_of_several(synthetic: Any) -> None:
    folder = synthetic.add("decoder")
    measure_all(folder, "decoder")
    record = Measurement(
        folder.name, "decoder", "nano", 0, "mteb.contrastive.mean", 1, "MSMARCO", "ndcg_at_10", 0.9, 9, None, "x", True
    )
    append(folder.evaluation_folder("mteb.contrastive.mean", 1) / "measurements.jsonl", [record])
    append(folder.evaluation_folder("mteb.contrastive.mean", 1) / "items.jsonl", [])
    recorded = load(synthetic.root)
    data = coverage(recorded, estimates.cells(recorded))
    row = data[(data["exhibit"] == "Figure 1") & (data["kind"] == "decoder") & (data["measure"] == "MS MARCO dev")]
    assert list(row["way"]) == ["mteb.contrastive.lasttoken"] and list(row["value"]) == [0.25]


def test_the_values_are_those_of_the_reference() -> None:
    if not FACTS.exists():
        pytest.skip("the reference facts are not beside the project")
    reference = pd.read_csv(FACTS)
    reference = reference[reference["family"].str.startswith("ettin")]
    for exhibit, rows in pd.read_csv(VALUES).groupby("exhibit"):
        names = [exhibit.replace("able ", ""), exhibit.replace("able ", "") + " (Figure 1)", "Figure 2 and 3"]
        kept = reference[reference["table"].isin(names if exhibit == "Figure 3" else names[:2])]
        assert sorted(kept["value"]) == sorted(rows["value"]), exhibit


def test_no_published_result_is_left_out() -> None:
    if not FACTS.exists():
        pytest.skip("the reference facts are not beside the project")
    with FACTS.open() as file:
        names = {row["table"] for row in csv.DictReader(file)}
    known = {item.name for item in published()}
    for name in names - {"Figure 1 draft of 2025-07-03 (superseded)"}:
        short = name.partition(" (")[0].partition(" and ")[0]
        assert (f"Table {short[1:]}" if short[0] == "T" else short) in known, name


def test_a_task_is_the_same_read_offline() -> None:
    assert plain_task("offline_social_iqa") == "siqa" and plain_task("arc_challenge") == "arc_challenge"
