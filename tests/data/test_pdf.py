"""PDF: the words that were put in come out, and files without words, whole or readable, are distinguished."""

import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import pytest
from matplotlib.backends.backend_pdf import PdfPages
from matplotlib.figure import Figure
from pypdf import PdfWriter

from ettin_core.data.config import SourceConfig
from ettin_core.data.documents import Document, Skipped
from ettin_core.data.importers import pdf
from ettin_core.foundation.errors import UserError

PAGES = ["The keys near the\ncabinet are dusty.", "A second page, hyphen-\nated: façade."]


def written(path: Path, pages: Sequence[str | None]) -> Path:
    """A PDF with these pages; None is a page that only holds a picture, as a scan does."""
    content = io.BytesIO()
    with matplotlib.rc_context({"pdf.fonttype": 42}), PdfPages(content) as file:
        for page in pages:
            figure = Figure(figsize=(6, 4))
            if page is None:
                figure.figimage([[0.0, 1.0], [1.0, 0.0]])
            else:
                figure.text(0.1, 0.5, page)
            file.savefig(figure)
    path.write_bytes(content.getvalue())
    return path


def by_hand(path: Path, meanings: dict[int, str]) -> Path:
    """A PDF of one line that shows some codes, and says in hexadecimal UTF-16 what they mean."""
    pairs = "\n".join(f"<{code:02x}> <{meaning}>" for code, meaning in meanings.items())
    table = f"1 begincodespacerange <00> <ff> endcodespacerange\n{len(meanings)} beginbfchar\n{pairs}\nendbfchar"
    line = f"BT /F 12 Tf 20 50 Td <{bytes(meanings).hex()}> Tj ET"
    objects = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        "<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 300 100] /Contents 4 0 R /Resources << /Font << /F 5 0 R >> >> >>",
        f"<< /Length {len(line)} >>\nstream\n{line}\nendstream",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /ToUnicode 6 0 R >>",
        f"<< /Length {len(table)} >>\nstream\n{table}\nendstream",
    ]
    content, places = "%PDF-1.4\n", []
    for number, written_object in enumerate(objects, start=1):
        places.append(len(content))
        content += f"{number} 0 obj\n{written_object}\nendobj\n"
    entries = "".join(f"{place:010d} 00000 n \n" for place in places)
    trailer = f"trailer << /Size 7 /Root 1 0 R >>\nstartxref\n{len(content)}\n%%EOF\n"
    path.write_text(f"{content}xref\n0 7\n0000000000 65535 f \n{entries}{trailer}")
    return path


def documents(path: Path, **options: Any) -> list[Document | Skipped]:
    """What a file gives."""
    (piece,) = pdf.pieces(path, None)
    assert (piece.place, piece.size) == (str(path), path.stat().st_size)
    return list(pdf.read(SourceConfig(kind="text", path=str(path), **options), piece))


def refusal(path: Path, **options: Any) -> str:
    """The message with which reading fails."""
    with pytest.raises(UserError) as caught:
        documents(path, **options)
    return str(caught.value)


def damaged(path: Path) -> None:
    """Check that a file is an error that names it, and counted once when errors are skipped."""
    message = refusal(path)
    assert str(path) in message and "\n" not in message and "on_bad=skip" in message
    (counted,) = documents(path, on_bad="skip")
    assert isinstance(counted, Skipped) and (counted.id, counted.reason) == (path.name, "damaged_file")


def test_a_file_is_one_document_with_blank_lines_between_pages(tmp_path: Path) -> None:
    assert documents(written(tmp_path / "a.pdf", PAGES)) == [Document("a.pdf", "\n\n".join(PAGES))]


def test_a_page_without_words_leaves_no_gap(tmp_path: Path) -> None:
    (document,) = documents(written(tmp_path / "a.pdf", [PAGES[0], None, PAGES[1]]))
    assert isinstance(document, Document) and document.text == "\n\n".join(PAGES)


@pytest.mark.parametrize("on_bad", ["error", "skip"])
def test_a_scan_is_counted(on_bad: str, tmp_path: Path) -> None:
    assert documents(written(tmp_path / "a.pdf", [None]), on_bad=on_bad) == [Skipped("a.pdf", "no_text")]


def test_a_page_of_blanks_holds_no_words(tmp_path: Path) -> None:
    assert documents(by_hand(tmp_path / "a.pdf", {0x20: "0020", 0x21: "0020"})) == [Skipped("a.pdf", "no_text")]


def test_half_characters_of_a_font_are_marked_and_whole_ones_kept(tmp_path: Path) -> None:
    path = by_hand(tmp_path / "a.pdf", {0x41: "0041", 0x42: "D835DC00", 0x43: "D835", 0x44: "0044"})
    assert documents(path) == [Document("a.pdf", "A\U0001d400\ufffdD")]


def test_an_encrypted_file_is_named_or_counted(tmp_path: Path) -> None:
    writer = PdfWriter(written(tmp_path / "a.pdf", PAGES))
    writer.encrypt("secret", algorithm="RC4-128")
    writer.write(tmp_path / "locked.pdf")
    damaged(tmp_path / "locked.pdf")
    assert "encrypted" in refusal(tmp_path / "locked.pdf")


@pytest.mark.parametrize("keep", [20, 0.5, 0.97])
def test_a_file_that_is_cut_short_is_named_or_counted(keep: float, tmp_path: Path) -> None:
    path = written(tmp_path / "a.pdf", PAGES)
    content = path.read_bytes()
    path.write_bytes(content[: int(keep if keep > 1 else keep * len(content))])
    damaged(path)


def test_a_file_that_grew_is_not_read_up_to_its_old_end(tmp_path: Path) -> None:
    path = written(tmp_path / "a.pdf", PAGES)
    path.write_bytes(path.read_bytes() + b"5 0 obj <<" + b" " * 2000)
    damaged(path)


def test_what_is_no_pdf_is_named_or_counted(tmp_path: Path) -> None:
    (tmp_path / "a.pdf").write_bytes(b"<html>not found</html>" * 100 + b"%%EOF")
    damaged(tmp_path / "a.pdf")


def test_a_pdf_holds_no_tokens_and_no_numbers(tmp_path: Path) -> None:
    path = written(tmp_path / "a.pdf", PAGES)
    assert "data.token_field='input_ids'" in refusal(path, token_field="input_ids")
    assert "data.at_least='q'" in refusal(path, at_least={"q": 1})


def test_without_pypdf_the_package_to_install_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path / "a.pdf", PAGES)
    monkeypatch.setitem(sys.modules, "pypdf", None)
    assert 'pip install -c constraints.txt -e ".[pdf]"' in refusal(path, on_bad="skip")
