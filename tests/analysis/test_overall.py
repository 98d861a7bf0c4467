"""What is said over all studies: published claims, sign changes, hours; and what a lost record does to it."""

import io
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from analysis import claims, findings, flips, hours, learning_rates, results, verdicts
from analysis.records_archive import pack
from ettin_core.foundation.storage import read_json, write_json
from ettin_core.records.predictions import Prediction, stated

STUDIES = Path(__file__).parents[2] / "conf" / "study"
NOT_STUDIED = {"demo.yaml", "published.yaml"}  # of no finding: what one would expect of the four kinds


def test_every_prediction_with_a_source_tests_a_published_claim() -> None:
    """And every test is about a prediction that its study states, at the claim's source."""
    named = [(claim, test) for claim in claims.read() for test in claim["tests"] if "statement" in test]
    for file in sorted(path for path in STUDIES.glob("*.yaml") if path.name not in NOT_STUDIED):
        stated_there = yaml.safe_load(file.read_text()).get("predictions", [])
        sources = {item["statement"]: item.get("source") for item in stated_there}
        for claim, test in named:
            if test["study"].rstrip("*") == file.stem:
                assert sources[test["statement"]] == claim["source"]
    assert len({claim["claim"] for claim in claims.read()}) >= 12


def judged(**columns: list[Any]) -> pd.DataFrame:
    """Rows of verdicts."""
    return pd.DataFrame(columns).reindex(columns=verdicts.COLUMNS).assign(figure="", records="")


def test_a_claim_has_its_tests_and_what_was_not_run_is_a_hole() -> None:
    rows = judged(
        study=["one", "one_nano", "two"],
        statement=["A", "A", "B"],
        source=["S", "S", "T"],
        measured=["heldout_clm::loss"] * 3,
        verdict=["confirmed", "not distinguishable", "confirmed"],
    )
    tests = [{"study": "one*", "statement": "A"}, {"study": "three", "statement": "C"}, {"study": "two", "left": "x"}]
    found = claims.collect(rows, {"one", "one_nano", "two"}, [{"claim": "It is", "source": "S", "tests": tests}])
    assert list(found["claim"]) == ["It is"] * 4 + ["B"]  # what no claim names is one in its own words
    assert list(found["hole"].dropna()) == ["its study was not run", "its study states no such prediction"]
    titles = [title for title, _ in claims.table(found).sections]
    assert titles[0] == "It is. S: confirmed in 1, not distinguishable in 1, not measured in 2 of 4"
    assert claims.counts(found) == {"claims": 2, "claims/tested": 2}


def test_a_sign_changes_where_both_sides_win() -> None:
    assert flips.changed(["a better", "b better", "not distinguishable"]) == "yes"
    assert flips.changed(["a better", "not distinguishable after correction"]) == "in part"
    assert flips.changed(["a better", "a higher"]) == "no" and flips.changed(["not distinguishable"]) == "no winner"


def differences(block: str, words: tuple[str, str], values: tuple[float, float]) -> bytes:
    """A study's comparisons of one question, scored in two ways."""
    ways = ["minimal_pairs.left_to_right", "minimal_pairs.own_scoring"]
    rows = {"block": block, "left": "encoder", "right": "decoder", "protocol": ways, "task": "t", "metric": "accuracy"}
    rows |= {"higher_is_better": True, "value": values, "low": -0.3, "high": 0.3, "words": words}
    return pd.DataFrame(rows).to_csv(index=False).encode()


def test_sizes_and_scorings_are_compared_and_the_rest_is_a_hole() -> None:
    here = Path("results")
    reported = {
        here / "small" / "differences.csv": differences(
            "pico on t-1", ("decoder better", "encoder better"), (-0.2, 0.1)
        ),
        here / "large" / "differences.csv": differences(
            "nano on t-1", ("encoder better", "encoder better"), (0.3, 0.4)
        ),
    }
    rows = flips.collect(here, reported)
    of = rows.drop_duplicates(flips.KEY).set_index(["varies", "study"])
    assert of.loc[("scoring", "small"), "changes"] == "yes" and of.loc[("scoring", "large"), "changes"] == "no"
    assert set(rows[rows["varies"] == "size"]["changes"]) == {"yes", "no"}
    assert set(rows[rows["hole"].notna()]["varies"]) == {"ruler", "mask rate", "text", "learning rate"}


def test_members_trained_as_long_by_each_ruler_are_one_conclusion() -> None:
    words = ["tokens, encoder better", "not distinguishable", "flops, decoder better"]
    sides = {"left": ["tokens, decoder", "loss tokens, decoder", "flops, decoder"], "right": "tokens, encoder"}
    rows: dict[str, Any] = sides | {"protocol": "facts.own_scoring", "task": "t", "metric": "accuracy", "words": words}
    rows |= {"higher_is_better": True, "value": [-0.1, 0.0, 0.1], "low": -0.3, "high": 0.3}
    path = Path("results") / "rulers" / "differences.csv"
    found = flips.collect(Path("results"), {path: pd.DataFrame(rows).to_csv(index=False).encode()})
    of = found[found["varies"] == "ruler"]
    assert list(of["condition"]) == ["tokens", "loss-bearing tokens", "FLOPs"] and set(of["changes"]) == {"yes"}
    assert set(of["left"]) == {"decoder − encoder"} and list(of["words"])[::2] == ["encoder better", "decoder better"]


def rated(rates: dict[str, list[float]]) -> pd.DataFrame:
    """Scores of three seeds of encoders and decoders at learning rates; the decoder gains most by its own."""
    gains = {("mlm", 0.01): 0.05, ("clm", 0.02): 0.4}
    rows = [
        {"run": f"{objective}{rate}{seed}", "protocol": "facts.own_scoring", "task": "t", "metric": "accuracy"}
        | {"value": (0.5 if objective == "mlm" else 0.3) + gains.get((objective, rate), 0) + seed * 1e-3}
        | {"standard_error": None, "n": 9, "higher_is_better": True, "seed": seed, "objective": objective}
        | {"readout": objective, "direction": "causal", "learning_rate": rate, "parent": None}
        for objective, levels in rates.items()
        for rate in levels
        for seed in (1, 2, 3)
    ]
    noise = np.random.default_rng(0).normal(0, 1e-3, len(rows))
    return pd.DataFrame(rows).assign(value=lambda frame: frame["value"] + noise)


def test_the_sign_at_rates_of_their_own_is_beside_that_at_the_preset_one() -> None:
    tables = {("rates", "scores.csv"): rated({"mlm": [0.003, 0.01], "clm": [0.003, 0.02]})}
    rows = list(learning_rates.compared(tables, "none"))
    assert [row["condition"] for row in rows] == ["preset rate, 0.003", "own tuned rate, 0.01 and 0.02"]
    assert [row["words"] for row in rows] == ["encoder better", "decoder better"]
    alone = {("rates", "scores.csv"): rated({"mlm": [0.003, 0.01], "clm": [0.003]})}
    assert list(learning_rates.compared(alone, "none"))[1]["condition"] == "own tuned rate, 0.01 and 0.003"
    several = {("rates", "scores.csv"): rated({"mlm": [0.003, 0.01, 0.02], "clm": [0.003, 0.01]})}
    assert list(learning_rates.compared(several, "none")) == [{"varies": "learning rate", "hole": "none"}]


def test_a_run_of_two_studies_is_counted_once() -> None:
    runs = {
        "run": ["a", "b"],
        "tokens": 1e6,
        "loss_tokens": 1,
        "flops": 1,
        "seconds": 1800,
        "cores": [1, 2],
        "device": "cpu",
    }
    file = pd.DataFrame(runs).to_csv(index=False).encode()
    here = Path("results")
    rows = hours.collect(here, {here / name / "rulers.csv": file for name in ("one", "two")}).set_index("study")
    assert list(rows["core_hours"]) == [1.5, 1.5, 1.5] and list(rows["runs"]) == [2, 2, 2]
    assert hours.table(rows.reset_index()).sections[0][1][-1][0] == hours.ALL_STUDIES


@pytest.mark.parametrize("lost", ["evaluations/minimal_pairs.left_to_right@1", ""])
def test_a_lost_record_is_a_hole_everywhere(four_kinds: Any, tmp_path: Path, lost: str) -> None:
    """A measurement of the decoder, or all of its run: verdicts, findings, tables and page name the hole."""
    runs = tmp_path / "runs"
    shutil.copytree(four_kinds.root, runs)
    measure = "minimal_pairs.left_to_right:syntax:accuracy"
    prediction = Prediction("It is better", measure, left="decoder", right="encoder", sign="better", reason="why")
    study = read_json(four_kinds.study()) | {"name": "planted", "predictions": stated((prediction,), [])}
    write_json(tmp_path / "study.json", study)
    place = pack(tmp_path / "study.json", runs, tmp_path / "results").parent
    (place.parent / "findings.yaml").write_text(
        "figure: []\nfindings:\n  - {study: planted, question: Q, table: predictions, where: {statement: It is better}}\n"
    )
    decoder = next(name for name in study["runs"] if "-decoder-" in name)
    shutil.rmtree(runs / decoder / lost)
    made = results.report.build(runs, tmp_path / "report", tmp_path / "study.json")
    files = {place / path.name: path.read_bytes() for path in made}
    listing = findings.make(place.parent, tmp_path / "README.md", results.kept(files))
    assert list(listing.judged["verdict"]) == ["not measured"] and list(listing.answers["words"]) == ["not measured"]
    cells = pd.read_csv(io.BytesIO(files[place / "comparison.csv"]))
    rows = cells[(cells["protocol"] == "minimal_pairs.left_to_right") & (cells["task"] == "syntax")]
    assert rows["decoder"].isna().all()
    reason = "decoder: not measured" if lost else "decoder: missing run"
    assert (
        rows["holes"].str.contains(reason).all() and reason.partition(": ")[2] in files[place / "index.html"].decode()
    )
