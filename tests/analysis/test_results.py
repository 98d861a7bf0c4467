"""Findings that are committed: made from records alone, found when stale or edited, and published without a machine's paths."""

import json
import shutil
import subprocess
import sys
import tarfile
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from pandas.testing import assert_frame_equal

from analysis import estimates, findings, results
from analysis.load import load
from analysis.records_archive import ARCHIVE, pack, unpacked

ROOT = Path(__file__).parents[2]
HERE = Path("paper/results")
README = Path("README.md")


def committed() -> dict[Path, bytes]:
    """The files of every packed study's report as they are on the disk."""
    return {path: path.read_bytes() for path in sorted(HERE.glob("*/[!.]*")) if path.name != ARCHIVE}


def problems() -> list[str]:
    """What the command would name, with the reports on the disk as those that the records make."""
    reported = committed()
    files = reported | results.listed(HERE, README, findings.make(HERE, README, reported))
    return [*results.edits(HERE), *results.stale(HERE, files)]


@pytest.fixture
def copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The committed findings and the README in a folder that a test may change."""
    shutil.copytree(ROOT / HERE, tmp_path / HERE)
    shutil.copy(ROOT / README, tmp_path / README)
    monkeypatch.chdir(tmp_path)
    return tmp_path / HERE


def test_the_readme_and_the_list_are_those_of_the_committed_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert problems() == []


def test_a_number_edited_by_hand_is_found_wherever_it_is(
    copied: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And nothing is made anew over an edit."""
    table = copied / "factorial" / "effects.csv"
    table.write_text(table.read_text().replace("0.7", "0.8", 1))
    README.write_text(README.read_text().replace("+0.", "+1.", 1))
    lines = problems()
    assert f"{HERE / 'factorial' / 'effects.csv'} was edited by hand" in lines
    assert f"{README} is stale" in lines
    before = table.read_bytes()
    monkeypatch.setattr(sys, "argv", ["results"])
    with pytest.raises(SystemExit) as ended:
        results.main()
    assert ended.value.code == 2 and "effects.csv was edited by hand; undo the edit" in capsys.readouterr().err
    assert table.read_bytes() == before


def test_files_that_no_record_makes_and_that_are_missing_are_named(copied: Path) -> None:
    reported = committed()
    (copied / "factorial" / "more.csv").write_text("a,b\n")
    (copied / "factorial" / "effects.md").unlink()
    lines = results.stale(HERE, reported)
    assert f"{HERE / 'factorial' / 'more.csv'} is not made from any record (delete it, or move it elsewhere)" in lines
    assert f"{HERE / 'factorial' / 'effects.md'} is missing" in lines


def test_what_a_kill_leaves_half_written_is_no_edit(copied: Path) -> None:
    files = committed()
    table = HERE / "factorial" / "effects.md"
    with pytest.raises(OSError):
        results.write(HERE, README, files | {table: b"newer", table / "below a file": b""})
    assert results.edits(HERE) == []
    lines = results.stale(HERE, files)
    assert (
        lines[0] == f"{HERE / 'manifest.json'} is missing" and f"{HERE / 'factorial' / 'effects.md'} is stale" in lines
    )


def test_only_files_of_the_manifest_are_removed(copied: Path) -> None:
    """Notes beside a report, and a folder that is not packed yet, stay; what no record makes any more goes."""
    reported = committed()
    gone = HERE / "factorial" / "effects.md"
    (copied / "factorial" / "notes.md").write_text("mine\n")
    (copied / "factorial" / ".ipynb_checkpoints").mkdir()
    results.write(HERE, README, {path: content for path, content in reported.items() if path != gone})
    assert (copied / "factorial" / "notes.md").exists() and not gone.exists()


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (('term: "Direction: causal', 'term: "Directions: causal'), "is answered by 0 rows of"),
        (("protocol: heldout_mlm, metric: loss, ", ""), r"is answered by \d\d rows of"),
        (("metric: loss,", "measure: loss,"), "are not columns of"),
        (("table: effects", "table: effect"), "is not made from any record"),
        (("    question: ", "    asked: "), "does not have the fields"),
        (("figure: interaction,", "figure: interactions,"), "is not a figure that can be shown here"),
    ],
)
def test_an_entry_of_the_list_that_no_row_answers_is_named(copied: Path, edit: tuple[str, str], message: str) -> None:
    entries = copied / findings.LIST
    assert edit[0] in entries.read_text()
    entries.write_text(entries.read_text().replace(*edit, 1))
    with pytest.raises(ValueError, match=message):
        findings.make(HERE, README, committed())


def test_packed_records_are_the_same_bytes_and_give_no_path(tmp_path: Path) -> None:
    """A study of one run is packed the same twice; a lost run, and a record that holds a path of the machine, are reported."""
    with unpacked(ROOT / HERE / "factorial" / ARCHIVE) as folder:
        study, runs = folder / "study.json", folder / "runs"
        record = json.loads(study.read_text())
        record["cells"], record["runs"] = record["cells"][:1], [record["cells"][0]["run"]]
        study.write_text(json.dumps(record))
        first, again = (pack(study, runs, tmp_path / name).read_bytes() for name in ("first", "again"))
        assert first == again
        origin = runs / record["runs"][0] / "provenance.json"
        origin.write_text(origin.read_text().replace("{", '{"at": "' + str(folder.resolve()) + '/x",', 1))
        with pytest.raises(ValueError, match="holds a path of this machine"):
            pack(study, runs, tmp_path)
        shutil.rmtree(origin.parent)
        with pytest.raises(ValueError, match="lacks 1 of its 1 runs"):
            pack(study, runs, tmp_path)


def test_tables_of_packed_records_are_those_of_the_runs(synthetic: Any, tmp_path: Path) -> None:
    """Up to the fifth digit; and what was unpacked is packed to the same bytes."""
    for kind, seed in product(("encoder", "decoder"), (1, 2)):
        synthetic.add(kind, seed)
    study = synthetic.study()
    archive = pack(study, synthetic.root, tmp_path / "results")
    with unpacked(archive) as folder:
        assert not list(folder.rglob("items.jsonl"))
        again = pack(folder / "study.json", folder / "runs", tmp_path / "again")
        assert again.read_bytes() == archive.read_bytes()
        whole, packed = load(synthetic.root, study), load(folder / "runs", folder / "study.json")
    for table in (estimates.cells, estimates.differences):
        assert_frame_equal(table(packed), table(whole), rtol=1e-4, atol=2e-4)
    assert_frame_equal(packed.measurements, whole.measurements)
    kept = ["run", "step", "tokens", "flops", "seconds"]
    assert_frame_equal(packed.training[kept], whole.training[kept])
    assert_frame_equal(packed.training[["loss"]], whole.training[["loss"]], rtol=1e-4)


def test_a_damaged_archive_is_one_line(tmp_path: Path) -> None:
    damaged = tmp_path / ARCHIVE
    damaged.write_bytes((ROOT / HERE / "factorial" / ARCHIVE).read_bytes()[:-4000])
    with pytest.raises(ValueError, match="is damaged"), unpacked(damaged):
        pass


@pytest.mark.parametrize(
    ("name", "message"), [("../../study.json", "is damaged"), ("runs.json", "holds no study.json")]
)
def test_an_archive_of_something_else_is_named_and_writes_nothing(name: str, message: str, tmp_path: Path) -> None:
    archive = tmp_path / "results" / "a" / ARCHIVE
    archive.parent.mkdir(parents=True)
    with tarfile.open(archive, "w:xz") as packed:
        packed.addfile(tarfile.TarInfo(name))
    with pytest.raises(ValueError, match=message) as caught:
        results.reports(tmp_path / "results")
    assert str(archive) in str(caught.value)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [archive]


def test_what_is_wrong_with_packed_records_is_named_with_their_archive(synthetic: Any, tmp_path: Path) -> None:
    """A number that was edited after packing, and two runs of one member and seed."""
    synthetic.add("decoder")
    archive = pack(synthetic.study(), synthetic.root, tmp_path / "results")
    with pytest.raises(ValueError, match="others than were written") as caught, unpacked(archive) as folder:
        file = next(folder.rglob("measurements.jsonl"))
        file.write_text(file.read_text().replace('"value": ', '"value": 1', 1))
        load(folder / "runs", folder / "study.json")
    assert str(archive) in str(caught.value) and str(folder) not in str(caught.value)
    with pytest.raises(ValueError, match="averaging them would hide") as caught, unpacked(archive) as folder:
        (summary,) = folder.rglob("COMPLETE")
        shutil.copytree(summary.parent, folder / "runs" / "again", ignore=shutil.ignore_patterns("evaluations"))
        again = folder / "runs" / "again" / "COMPLETE"
        again.write_text(json.dumps(json.loads(again.read_text()) | {"run": "again"}))
        study = folder / "study.json"
        study.write_text(json.dumps(json.loads(study.read_text()) | {"runs": [summary.parent.name, "again"]}))
        load(folder / "runs", study)
    assert str(archive) in str(caught.value)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_committed_file_is_made_from_the_records_without_torch() -> None:
    """What only training has is not in the environment of `make paper`."""
    training = ("torch", "transformers", "tokenizers", "safetensors", "tensorboard", "zstandard")
    code = f"import sys; from analysis.results import main; main(); assert not {{*sys.modules}} & {{*{training}}}"
    ended = subprocess.run(
        [sys.executable, "-c", code, "check=true"], cwd=ROOT, capture_output=True, text=True, timeout=900
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "nothing stale" in ended.stdout
