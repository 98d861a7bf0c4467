"""What prepare, preview and the data report say about what is left out, from the command line's configuration on."""

import json
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir

from analysis.data_report import report
from ettin_core.foundation.manual import CONFIGURATIONS
from ettin_core.foundation.storage import write_json
from ettin_core.foundation.strict_config import build
from ettin_core.requests.compose import to_plain
from experiments import prepare, preview
from experiments.data_report import DataReportRequest, record


def composed(command: str, kind: Any, folder: Path, *options: str) -> Any:
    """The request of a command about the text in a folder."""
    overrides = ["data=text", f"data.path={folder / 'in'}", "data.vocab_size=300", *options]
    if command != "preview":
        overrides.append(f"corpora_dir={folder / 'corpora'}")
    with initialize_config_dir(str(CONFIGURATIONS), version_base="1.3"):
        return build(kind, to_plain(compose(command, overrides)))


def prepared(folder: Path, *options: str) -> str:
    """What `python -m experiments.prepare` prints."""
    request = composed("prepare", prepare.PrepareRequest, folder, *options)
    return prepare.describe(prepare.prepared(request.data, request.corpora_dir, 1))


def previewed(folder: Path, *options: str) -> str:
    """What `python -m experiments.preview` prints."""
    request = composed("preview", preview.PreviewRequest, folder, *options)
    return preview.describe(request.data, request.count)


def reported(folder: Path, *options: str) -> tuple[dict[str, Any], str]:
    """The record of `python -m experiments.data_report`, and its table of what was left out."""
    contents = record(
        composed("data_report", DataReportRequest, folder, "recipe=smoke", "recipe.max_epochs=1000", *options)
    )
    write_json(folder / "report" / "data_report.json", contents)
    report.build(folder / "report" / "data_report.json", folder / "report")
    return contents, (folder / "report" / "left_out.md").read_text()


def write(file: Path, texts: list[str]) -> None:
    """Texts as JSON lines."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))


def test_what_is_not_read_is_reported_by_every_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "in" / "train" / "a.jsonl", [f"words of text {number} and more of them" for number in range(200)])
    write(tmp_path / "in" / "dev" / "a.jsonl", ["held out"])
    for name in (".checkpoints", "b.json"):
        write(tmp_path / "in" / name / "a.jsonl" if name.startswith(".") else tmp_path / "in" / name, ["x"])
    line = "not read: hidden 1 (.checkpoints), suffix .json 1 (b.json)"
    assert line in prepared(tmp_path).splitlines() and line in previewed(tmp_path).splitlines()
    contents, table = reported(tmp_path)
    assert contents["not_read"]["suffix .json"] == {"count": 1, "examples": ["b.json"]}
    assert "| suffix .json: b.json | 1 |" in table and "(not read)" in table


def test_copies_of_held_out_text_are_reported_by_every_command(tmp_path: Path) -> None:
    texts = [f"words of text {number} and more of them" for number in range(200)]
    write(tmp_path / "in" / "books.train.jsonl", texts)
    write(tmp_path / "in" / "web.train.jsonl", ["WORDS of  text 7 and more of them", "other words"])
    write(tmp_path / "in" / "web.validation.jsonl", [texts[7], "held out"])
    write(tmp_path / "in" / "books.test.jsonl", [texts[7], texts[8]])
    assert "held out: 3 of 202 training documents are copies of 3 held-out texts" in previewed(tmp_path).splitlines()
    lines = prepared(tmp_path).splitlines()
    assert "books: left out held_out_copy 2" in lines and "web: left out held_out_copy 1" in lines
    assert "held out: 1 texts are in validation and test both" in lines
    contents, table = reported(tmp_path)
    assert contents["held_out"] == {"documents": 4, "texts_in_both": 1}
    assert "| held_out_copy | 2 | 0.99% | document |" in table and "| held_out_copy | 1 | 25.0% | document |" in table
