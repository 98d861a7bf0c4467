"""Comparing any two models: files that lm-eval's own writer wrote, our records, MTEB's results; and what raises an error."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.compare import compare, mcnemar
from ettin_core.foundation.storage import append_json_lines
from ettin_core.records.schema import Item, Measurement, to_row

REPOSITORY = Path(__file__).resolve().parents[2]


def write_lm_eval(folder: Path, task: str, values: list[float], doc: Any = None, edited: int | None = None) -> Path:
    """The samples of a task as lm-eval's tracker writes them."""
    tracker = pytest.importorskip("lm_eval.loggers.evaluation_tracker").EvaluationTracker(str(folder))
    tracker.general_config_tracker.model_name_sanitized = "model"
    tracker.date_id = "2026-11-28T10-00-00.000000"
    tracker.save_results_samples(
        task,
        [
            {
                "doc_id": number,
                "doc": doc(number) if doc else {"query": f"q{number}"},
                "target": 0,
                "arguments": [("q", " a"), ("q", " b")],
                "resps": [[(-1.0, False)], [(-1.0 - (number > 3), False)]],
                "filtered_resps": [(-1.0, False), (-1.0 - (number > 3), False)],
                "filter": "none",
                "metrics": ["acc"],
                "doc_hash": f"{number}{'x' if number == edited else ''}",
                "prompt_hash": "p",
                "target_hash": "t",
                "acc": value,
            }
            for number, value in enumerate(values)
        ],
    )
    return folder


def only(frame: pd.DataFrame) -> dict[str, Any]:
    """The only row."""
    [row] = frame.to_dict("records")
    return row


# 220 items: 80 right left, 98 right, 12 of them on the left alone and 30 on the right alone
LEFT = [1.0] * 68 + [1.0] * 12 + [0.0] * 30 + [0.0] * 110
RIGHT = [1.0] * 68 + [0.0] * 12 + [1.0] * 30 + [0.0] * 110


def printed(*arguments: str) -> str:
    """What the command prints."""
    line = [sys.executable, "-m", "analysis.compare", *arguments]
    done = subprocess.run(line, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_paired_p_of_the_published_example(tmp_path: Path) -> None:
    """lm-eval's example: 0.080 by a z-test of independent errors, 0.008 by McNemar."""
    left = write_lm_eval(tmp_path / "left", "arc_easy", LEFT)
    right = write_lm_eval(tmp_path / "right", "arc_easy", RIGHT)
    row = only(compare([left], [right], None, None))
    assert round(row["p"], 3) == 0.008 and round(row["p_unpaired"], 3) == 0.080
    assert (row["left_only"], row["right_only"], row["n"]) == (12, 30, 220)
    assert row["words"] == "right better" and row["high"] < 0
    assert row["ties_left"] == pytest.approx(4 / 220)
    out = tmp_path / "out"
    shown = printed(f"left={left}", f"right={right}", "margin=0.2", f"out={out}")
    assert "0.008" in shown and "0.080" in shown and "right better, within 0.2" in shown
    assert (out / "compare.png").stat().st_size > 0 and "right better" in (out / "compare.md").read_text()


def test_mcnemar_by_hand() -> None:
    assert mcnemar(0, 0) == 1.0 and mcnemar(5, 5) == 1.0
    assert mcnemar(0, 5) == pytest.approx(2 / 32)
    assert mcnemar(30, 12) == pytest.approx(2 * stats.binom.cdf(12, 42, 0.5))


def test_rows_of_one_passage_are_clustered(tmp_path: Path) -> None:
    """Ten passages of ten questions each, all alike within: ten units, not a hundred."""
    right = np.repeat(np.arange(10) % 2, 10).astype(float)
    left = np.repeat([1, 1, 0, 1, 1, 1, 0, 1, 1, 1], 10).astype(float)
    folders = [
        write_lm_eval(tmp_path / name, "boolq", values.tolist(), lambda n: {"passage": f"p{n // 10}", "source": "all"})
        for name, values in (("left", left), ("right", right))
    ]
    row = only(compare([folders[0]], [folders[1]], None, None))
    steps = (left - right).reshape(10, 10).mean(1)
    assert row["test"] == "t, 10 clusters" and row["p"] > 0.05 > row["p_unpaired"]
    assert row["high"] - row["value"] > 0.9 * stats.t.ppf(0.975, 9) * steps.std(ddof=1) / 10**0.5
    assert only(compare([folders[0]], [folders[1]], None, "source"))["words"] == "cannot be told"


def test_equal_models_are_the_same_within_a_margin(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    values = generator.integers(0, 2, 4000).astype(float)
    right = values.copy()
    right[:10], right[10:20] = 1 - values[:10], 1 - values[10:20]
    folders = [
        write_lm_eval(tmp_path / name, "piqa", list(side)) for name, side in (("left", values), ("right", right))
    ]
    assert only(compare([folders[0]], [folders[1]], 0.01, None))["words"] == "same within 0.01"
    assert "could see" in only(compare([folders[0]], [folders[1]], 0.0001, None))["words"]


def write_records(folder: Path, run: str, right: list[float], tied: bool = False) -> Path:
    """A folder of our records with one protocol."""
    place = folder / "evaluations" / "minimal_pairs.left_to_right@1"
    named = (run, "encoder", "nano", 1, "minimal_pairs.left_to_right", 1, "blimp", "accuracy")
    measured = Measurement(*named, sum(right) / len(right), len(right), 0.1, "step1", True, 0.5)
    items = [
        Item(run, named[4], "blimp", f"p#{n}", value, {"cluster": f"c{n // 5}", "tied": tied})
        for n, value in enumerate(right)
    ]
    append_json_lines(place / "measurements.jsonl", [to_row(measured)])
    append_json_lines(place / "items.jsonl", [to_row(item) for item in items])
    return folder


def test_our_records_and_seeds(tmp_path: Path) -> None:
    generator = np.random.default_rng(1)
    sides = {}
    for name, chance in (("a", 0.6), ("b", 0.9)):
        sides[name] = [
            write_records(
                tmp_path / f"{name}{seed}", f"{name}{seed}", (generator.random(400) < chance).astype(float).tolist()
            )
            for seed in range(3)
        ]
    row = only(compare(sides["a"], sides["b"], None, None))
    assert row["test"] == "t, 80 clusters, 3 seeds" and row["words"] == "right better"
    assert row["value"] == pytest.approx(row["left"] - row["right"]) and row["ties_left"] == 0
    with pytest.raises(ValueError, match="left holds 3 folders and right 2"):
        compare(sides["a"], sides["b"][:2], None, None)


def write_mteb(folder: Path, scores: dict[str, float]) -> Path:
    """MTEB's result files, which keep no items."""
    (folder / "model" / "rev").mkdir(parents=True)
    for task, score in scores.items():
        row = {"main_score": score, "hf_subset": "default", "languages": ["eng-Latn"]}
        content = {"task_name": task, "dataset_revision": "1", "mteb_version": "2", "scores": {"test": [row]}}
        (folder / "model" / "rev" / f"{task}.json").write_text(json.dumps(content))
    (folder / "model" / "rev" / "model_meta.json").write_text("{}")
    return folder


def test_mteb_folders_are_compared_over_tasks(tmp_path: Path) -> None:
    left = write_mteb(tmp_path / "left", {f"Task{n}": 0.5 + n / 50 for n in range(6)})
    right = write_mteb(tmp_path / "right", {f"Task{n}": 0.4 + n / 50 + (n % 2) / 100 for n in range(6)})
    shown = printed(f"left={left}", f"right={right}")
    assert shown.count("cannot be told") == 6
    assert "main_score over 6 questions, weighted equally: +0.095 [+0.0" in shown


def test_results_without_samples_say_so(tmp_path: Path) -> None:
    for name, value in (("left", 0.5), ("right", 0.8)):
        (tmp_path / name).mkdir()
        content = {
            "results": {"piqa": {"alias": "piqa", "acc,none": value, "acc_stderr,none": 0.02, "acc_norm,none": "N/A"}},
            "n-samples": {"piqa": {"effective": 500}},
            "higher_is_better": {"piqa": {"acc": True}},
        }
        (tmp_path / name / "results_2026.json").write_text(json.dumps(content))
    row = only(compare([tmp_path / "left"], [tmp_path / "right"], None, None))
    assert row["test"] == "independent errors" and row["words"] == "right better" and row["n"] == 500


def test_what_cannot_be_compared_is_an_error(tmp_path: Path) -> None:
    left = write_lm_eval(tmp_path / "left", "piqa", LEFT)
    elsewhere = write_lm_eval(tmp_path / "other", "arc", LEFT)
    edited = write_lm_eval(tmp_path / "edited", "piqa", LEFT, edited=7)
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "samples_piqa_2026.jsonl").write_text('{"doc_id": 0, "acc"\n')
    for right, message in (
        (elsewhere, "share no question: piqa and arc"),
        (edited, "document 7 differs between the sides"),
        (tmp_path / "empty", "holds no scores"),
        (tmp_path / "gone", "does not exist"),
        (tmp_path / "bad", "samples_piqa_2026.jsonl:1 is damaged"),
        (tmp_path, "holds samples of several models"),
    ):
        with pytest.raises(ValueError, match=message):
            compare([left], [right], None, None)
    with pytest.raises(ValueError, match="margin=-1 is not positive"):
        compare([left], [left], -1, None)
    with pytest.raises(ValueError, match="cluster='nothing' is not a field of"):
        compare([left], [left], None, "nothing")
