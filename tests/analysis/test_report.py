"""The whole report: what it writes, what raises an error, and that the same records give the same bytes."""

import hashlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from analysis import artifacts, estimates
from analysis.load import load
from analysis.report import build
from analysis.tables import comparison_table
from ettin_core.foundation.folders import MARK
from ettin_core.records.folders import RunFolder, append
from ettin_core.records.schema import Measurement
from tests.kills import killed_at_every_change

REPOSITORY = Path(__file__).resolve().parents[2]


def test_every_promised_file_is_there_and_in_the_manifest(report: Path) -> None:
    tables = {f"{name}.{kind}" for name in ("comparison", "differences", "rulers") for kind in ("csv", "md", "tex")}
    figures = {
        f"{name}.{kind}" for name in ("loss", "comparison", "pronouns", "occupations") for kind in ("pdf", "png")
    }
    present = {path.name for path in report.iterdir()}
    assert tables | figures | {"index.html", "numbers.tex", "report.json", "manifest.json"} <= present
    manifest = json.loads((report / "manifest.json").read_text())
    assert set(manifest) == present - {MARK, "manifest.json"}
    for name, entry in manifest.items():
        assert entry["sha256"] == hashlib.sha256((report / name).read_bytes()).hexdigest()
        assert entry["made_by"].startswith("analysis.") and len(entry["inputs"]) == 64


def test_same_records_same_bytes(report: Path, four_kinds: Any) -> None:
    again = report.with_name("again")
    build(four_kinds.root, again, four_kinds.study())
    first, second = ({path.name: path.read_bytes() for path in folder.iterdir()} for folder in (report, again))
    assert first.keys() == second.keys()
    assert [name for name in first if first[name] != second[name]] == []


def test_page_leads_with_the_answer_then_tables_then_control(report: Path) -> None:
    page = (report / "index.html").read_text()
    order = [
        'class="verdicts"',
        "1 pair of runs compared, matched in full",
        "<figure",
        'id="comparison"',
        'id="control"',
    ]
    order += ["<details", "matched except", 'id="records"']
    assert sorted(order, key=page.index) == order and page.count("matched except") == 1
    assert "encoder − decoder</a></dt>" in page and "decoder better in " in page
    assert page.count("data:image/png;base64,") == 4 and "demo_100%" in page
    assert "3.100 bits per token" in page and "1.265 times" in page


def test_a_hole_stays_a_hole(four_kinds: Any, report: Path) -> None:
    rows = pd.read_csv(report / "comparison.csv").set_index(["protocol", "task", "metric"])
    bits = rows.loc[("heldout_clm", "world", "bits_per_token")]
    assert pd.isna(bits["encoder"]) and pd.isna(bits["encoder_n"]) and bits["decoder"] == 3.1
    assert "encoder: not defined for this member" in bits["holes"]
    assert "0.000" not in (report / "comparison.md").read_text()


def test_a_missing_run_is_named(synthetic: Any, tmp_path: Path) -> None:
    synthetic.add("encoder")
    recorded = load(synthetic.root, synthetic.study(extra_runs=("nano-decoder-lost",)))
    cells = estimates.cells(recorded)
    assert set(cells[cells["member"] == "decoder"]["hole"]) == {"missing run"}
    assert cells[cells["member"] == "decoder"]["value"].isna().all()
    assert any("missing run" in note for note in comparison_table(cells).notes)
    build(synthetic.root, tmp_path / "out", synthetic.root.parent / "study.json")
    assert "\nMissing run: nano-decoder-lost\n" in (tmp_path / "out" / "rulers.md").read_text()


def test_a_value_that_could_not_be_measured_is_not_a_zero(synthetic: Any) -> None:
    folder = synthetic.add("encoder")
    record = Measurement(folder.name, "encoder", "nano", 0, "tasks", 1, "t", "accuracy", None, 0, None, "c", True)
    append(folder.evaluation_folder("tasks", 1) / "measurements.jsonl", [record])
    cells = estimates.cells(load(synthetic.root)).set_index(["protocol", "member"])
    assert cells.loc[("tasks", "encoder"), "hole"] == "could not be measured"


def test_runs_without_evaluations_still_make_a_report(synthetic: Any, tmp_path: Path) -> None:
    _forget_evaluations(synthetic.add("encoder"))
    files = build(synthetic.root, tmp_path / "out")
    assert {"index.html", "loss.png", "numbers.tex"} <= {file.name for file in files if file.stat().st_size}


def test_mixed_protocol_versions_are_errors(synthetic: Any) -> None:
    synthetic.add("encoder", version=1)
    synthetic.add("decoder", version=2)
    with pytest.raises(ValueError, match=r"task=.* has versions 1, 2 in one comparison"):
        load(synthetic.root)


def test_two_runs_of_one_cell_are_errors(synthetic: Any) -> None:
    folder = synthetic.add("encoder")
    twin = folder.path.with_name("nano-encoder-other")
    twin.mkdir()
    for name in ("config.yaml", "COMPLETE", "metrics.jsonl"):
        (twin / name).write_bytes((folder.path / name).read_bytes())
    with pytest.raises(ValueError, match=rf"runs='{folder.name}' is in .*{twin.name} and "):  # a copy
        load(synthetic.root)
    RunFolder(twin).finish(folder.summary() | {"run": twin.name})  # another run
    with pytest.raises(ValueError, match="have the same settings and seed; move one of them elsewhere"):
        load(synthetic.root)


def test_an_empty_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no complete run"):
        load(tmp_path)


def test_differences_pair_items_and_say_so_in_words(four_kinds: Any) -> None:
    differences = estimates.differences(load(four_kinds.root))
    pairs = set(zip(differences["left"], differences["right"], strict=True))
    assert pairs == {("encoder", "decoder"), ("enc-from-dec", "encoder"), ("dec-from-enc", "decoder")}
    named = differences.set_index(["left", "right", "protocol", "task"])
    left_to_right = named.loc[("encoder", "decoder", "minimal_pairs.left_to_right", "syntax")]
    assert left_to_right["words"] == "decoder better" and left_to_right["n"] == 400 and left_to_right["high"] < 0
    assert named.loc[("encoder", "decoder", "minimal_pairs.own_scoring", "all"), "n"] == 1150
    tested = differences[differences["family"] != ""]
    inside = (tested["low"] <= 0) & (tested["high"] >= 0)
    assert inside.any() and set(tested[inside]["words"]) == {"not distinguishable"}
    assert (tested["p_corrected"] >= tested["p"])[tested["p"].notna()].all()
    assert set(tested["family"]) >= {"minimal_pairs", "facts", "pronouns"}


def test_several_seeds_average_runs_first(synthetic: Any) -> None:
    for seed in (0, 1, 2):
        synthetic.add("encoder", seed)
        synthetic.add("decoder", seed)
    recorded = load(synthetic.root)
    cells = estimates.cells(recorded).set_index(["protocol", "task", "metric", "member"])
    cell = cells.loc[("minimal_pairs.left_to_right", "syntax", "accuracy", "encoder")]
    runs = recorded.measurements.query("protocol == 'minimal_pairs.left_to_right' and task == 'syntax'")
    assert cell["value"] == pytest.approx(runs[runs["member"] == "encoder"]["value"].mean())
    assert cell["over"] == "3 seeds and items"
    over = estimates.differences(recorded).groupby("protocol")["over"].agg(set)
    assert over["facts.left_to_right"] == {"3 seeds and items"}


def test_blocks_and_other_members_keep_apart(synthetic: Any, tmp_path: Path) -> None:
    for size in ("nano", "micro"):
        synthetic.add("encoder", size=size)
        synthetic.add("decoder", size=size)
    synthetic.add("decoder", size="nano", named="causal & masked")
    cells = estimates.cells(load(synthetic.root))
    assert set(cells["block"]) == {"micro on world", "nano on world"}
    assert set(cells[cells["block"] == "micro on world"]["member"]) == {"encoder", "decoder"}
    assert "causal & masked" in set(cells["member"]) and "causal & masked" in comparison_table(cells).header
    names = {path.name for path in build(synthetic.root, tmp_path / "out")}
    assert {"loss-nano-on-world.png", "comparison-micro-on-world.pdf"} <= names and "loss.png" not in names
    assert r"\csname result@micro on world/encoder/tokens\endcsname" in (tmp_path / "out" / "numbers.tex").read_text()
    assert r"causal \& masked" in (tmp_path / "out" / "comparison.tex").read_text()


def test_items_of_another_mean_are_not_paired(synthetic: Any) -> None:
    synthetic.add("encoder")
    folder = synthetic.add("decoder")
    path = folder.evaluation_folder("facts.left_to_right", 1) / "measurements.jsonl"
    path.write_text(re.sub(r'"value": [\d.]+', '"value": 0.123', path.read_text()))
    differences = estimates.differences(load(synthetic.root))
    facts = differences[differences["protocol"] == "facts.left_to_right"]
    assert set(facts["over"]) == {"unpaired items"}


def test_command_line_imports_no_torch_and_reports_unknown_keys(synthetic: Any, tmp_path: Path) -> None:
    code = "import sys, analysis.report; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=REPOSITORY).returncode == 0
    _forget_evaluations(synthetic.add("encoder"))
    command = [sys.executable, "-m", "analysis.report", f"runs={synthetic.root}", f"out={tmp_path / 'out'}"]
    done = subprocess.run(command, check=False, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Training: mlm" in done.stdout and str(tmp_path / "out" / "index.html") in done.stdout
    wrong = subprocess.run([*command, "colour=red"], check=False, cwd=REPOSITORY, capture_output=True, text=True)
    assert wrong.returncode != 0 and "colour" in wrong.stderr


def _forget_evaluations(folder: RunFolder) -> None:
    for file in folder.path.glob("evaluations/*/*.jsonl"):
        file.unlink()


def test_a_kill_at_any_change_of_the_disk_leaves_the_old_report_or_the_new(tmp_path: Path) -> None:
    out = tmp_path / "report"

    def write(text: str) -> None:
        with artifacts.artifact_folder(out, text) as folder:
            folder.put("index.html", text, artifacts.artifact_folder)
            folder.put(f"{text}.csv", text, artifacts.artifact_folder)

    seen = set()

    def check(number: int) -> None:
        text = (out / "index.html").read_text()
        manifest = json.loads((out / "manifest.json").read_text())
        assert manifest.keys() == {"index.html", f"{text}.csv"} and (out / f"{text}.csv").read_text() == text
        seen.add(text)

    write("old")
    assert killed_at_every_change(lambda: write("new"), check) > 6
    assert seen == {"old", "new"}


@pytest.mark.parametrize("precious", ["manifest.json", "config.yaml", "notes.txt"])
def test_a_report_is_not_written_into_a_folder_of_others(precious: str, tmp_path: Path) -> None:
    (tmp_path / precious).write_text("{}")
    with (
        pytest.raises(ValueError, match=rf"holds {precious}, and report did not write it"),
        artifacts.artifact_folder(tmp_path, "x"),
    ):
        pytest.fail("nothing is written before the check")
    assert [path.name for path in tmp_path.iterdir()] == [precious]


def test_a_record_that_is_deleted_leaves_holes_with_their_reason_everywhere(synthetic: Any, tmp_path: Path) -> None:
    _, decoder = synthetic.add("encoder"), synthetic.add("decoder")
    plan = json.loads(synthetic.study().read_text())
    plan["suite"] = {decoder.name: {"facts.left_to_right@1": "any"}}
    (tmp_path / "study.json").write_text(json.dumps(plan))
    shutil.rmtree(decoder.evaluation_folder("facts.left_to_right", 1))
    out = tmp_path / "out"
    build(tmp_path / "runs", out, tmp_path / "study.json")
    missing = f"Missing record: facts.left_to_right@1 of {decoder.name}"
    holes = pd.read_csv(out / "comparison.csv").set_index(["protocol", "task"])["holes"]
    assert "decoder: not measured" in holes["facts.left_to_right", "once"]
    table, latex, page = ((out / f"{name}").read_text() for name in ("comparison.md", "comparison.tex", "index.html"))
    (row,) = (line for line in table.splitlines() if line.startswith("| once, accuracy ↑ | left to right"))
    mark = row.split("|")[4].strip().removeprefix("—")
    assert f"\n{mark} not measured" in table and missing in table
    assert "not measured" in latex and missing.replace("_", r"\_") in latex
    figures = json.loads((out / "report.json").read_text())["figures"]
    assert len(figures) > 3 and all(f"{missing}." in figure["caption"] for figure in figures)
    assert f"{missing}." in page and f'title="not measured">{mark}</a>' in page
    assert "decoder: not measured: Facts, left to right (once, accuracy)" in page
