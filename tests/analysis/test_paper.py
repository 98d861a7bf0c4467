"""The paper from packed records: every study is in it, it is the same each time, and its text can be read and copied."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from pypdf import PdfReader

from analysis import paper, results
from analysis.findings import BEGIN, END
from analysis.records_archive import pack
from ettin_core.records.predictions import Prediction, stated

ROOT = Path(__file__).parents[2]
CLAIM = "The efficient effect of ΔΩ on 中 is confirmed"


@pytest.fixture(scope="module")
def checkout(four_kinds: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one packed study that states predictions, its findings and its paper."""
    folder = tmp_path_factory.mktemp("checkout")
    sides = {"left": "decoder", "right": "encoder", "reason": "why"}
    measure = "minimal_pairs.left_to_right:syntax:accuracy"
    predictions = tuple(Prediction(f"It is {sign}", measure, sign=sign, **sides) for sign in ("better", "worse"))
    study = json.loads(four_kinds.study().read_text()) | {"name": "planted", "claim": CLAIM}
    (folder / "study.json").write_text(json.dumps(study | {"predictions": stated(predictions, [])}))
    pack(folder / "study.json", four_kinds.root, folder / "results")
    (folder / "results" / "findings.yaml").write_text(
        "figure:\n  - {study: planted, figure: comparison, protocol: minimal_pairs.left_to_right, task: syntax,\n"
        "     metric: accuracy, title: Syntax}\nfindings: []\nlimits: {planted: It is planted.}\n"
    )
    (folder / "README.md").write_text(f"{BEGIN}\n{END}\n")
    (folder / "paper").mkdir()
    (folder / "paper" / "main.typ").write_bytes((ROOT / "paper" / "main.typ").read_bytes())
    return folder


@pytest.fixture
def command(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Calls the command in the folder."""

    def call(*arguments: str) -> None:
        monkeypatch.chdir(checkout)
        monkeypatch.setattr(sys, "argv", ["results", "results=results", "paper=paper", *arguments])
        results.main()

    return call


def fonts(pdf: Path) -> set[str]:
    """The kinds of all fonts in a PDF, those of its figures included."""
    reader = PdfReader(pdf)
    objects = [reader.get_object(number) for number in range(1, int(reader.trailer["/Size"]))]
    return {str(each["/Subtype"]) for each in objects if isinstance(each, dict) and each.get("/Type") == "/Font"}


def test_the_paper_has_every_verdict_and_edits_are_never_typeset(
    checkout: Path, command: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    command()
    pdf = checkout / "paper" / "main.pdf"
    first = pdf.read_bytes()
    text = " ".join(page.extract_text() for page in PdfReader(pdf).pages)
    assert "efficient effect of ΔΩ on" in text and "confirmed" in text  # ligatures and Greek are copied as letters
    assert "planted" in text and "2 stated predictions, 1 are confirmed, 1 contradicted" in " ".join(text.split())
    assert "enc\nfrom dec" in text and "It is planted." in text  # the panel of the members, and the limits
    assert fonts(pdf) <= {"/Type0", "/CIDFontType0", "/CIDFontType2"}  # outlines, no bitmaps
    assert PdfReader(pdf).metadata.get("/CreationDate") is None
    assert (checkout / "results" / "verdicts.csv").read_text().count("planted") >= 2
    assert "[figure](./planted/comparison.png)" in (checkout / "results" / "README.md").read_text()
    assert paper.typeset(checkout / "paper" / "main.typ") == first

    said = checkout / "paper" / "generated" / "paper.json"
    said.write_text(said.read_text().replace("contradicted", "confirmed"))
    with pytest.raises(SystemExit):
        command()
    assert "paper.json was edited by hand; undo the edit or delete it" in capsys.readouterr().err
    assert pdf.read_bytes() == first
    said.unlink()


def test_a_key_without_a_record_is_a_dash_and_a_fault_is_one_line(tmp_path: Path) -> None:
    source = (ROOT / "paper" / "main.typ").read_text()
    (tmp_path / "generated").mkdir()
    (tmp_path / "generated" / "paper.json").write_text('{"numbers": {}, "studies": [], "overall": {}}')
    file = tmp_path / "main.typ"
    file.write_text(source)
    document = tmp_path / "main.pdf"
    document.write_bytes(paper.typeset(file))
    assert "reports — studies." in " ".join(PdfReader(document).pages[0].extract_text().split())
    file.write_text("#nothing")
    with pytest.raises(ValueError, match=r"main.typ is not typeset: unknown variable: nothing"):
        paper.typeset(file)
