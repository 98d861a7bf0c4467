"""Texts survive their dresses: LaTeX prints what was meant, Markdown keeps its columns, macros never break."""

from dataclasses import replace
from typing import Any

import pandas as pd

from analysis import estimates
from analysis.control import in_words, verdict
from analysis.load import load
from analysis.numbers import by_key, macros, of_pair
from analysis.render import LATEX_ROWS, csv, escape, latex, markdown, text
from analysis.tables import Table, number, power, probability, signed

TABLE = Table("t", "Title", ["A_1", "B"], [("first & last", [["50%", "a|b"], ["—¹", "[0.1, 0.2]"]])], ["¹ why_not"])


def test_every_special_character_is_escaped() -> None:
    assert escape("50% of A_B & C#{x}~^\\$") == (
        r"50\% of A\_B \& C\#\{x\}\textasciitilde{}\textasciicircum{}\textbackslash{}\$"
    )
    assert escape("—¹ −0.1 ↑ ×") == r"---\textsuperscript{1} $-$0.1 $\uparrow$ $\times$"
    assert escape("e") == "e"


def test_letters_of_other_scripts_need_no_package() -> None:
    """Compiled with pdfLaTeX (T1) and XeLaTeX when this was written; neither has a Chinese font of its own."""
    assert escape("é č Łę") == r"é \v{c} \L{}\k{e}" and escape("e\u0301") == "é"
    assert escape("αΩλ") == r"\ensuremath{\alpha}\ensuremath{\Omega}\ensuremath{\lambda}"
    assert escape("中") == r"\otherletter{4E2D}" and escape("\x1b\u202e") == "U+001BU+202E"
    source = latex(Table("t", "Title", ["中", "B"], [("", [["x", "y"]])]))
    assert source.index(r"\DeclareRobustCommand\otherletter") < source.index(r"\otherletter{4E2D}")
    assert all(letter.isascii() for letter in source) and "otherletter" not in latex(TABLE)


def test_cells_of_text_are_no_formulas_and_numbers_stay_numbers() -> None:
    frame = pd.DataFrame(
        {"=name": ["=cmd|' /C calc'!A0", "+1+1", "-x", "@sum", "\tx", "-0.5"], "value": [-0.5, 1e-9, 3, None, 2, 1]}
    )
    lines = csv(frame).splitlines()
    assert lines == [
        "'=name,value",
        "'=cmd|' /C calc'!A0,-0.5",
        "'+1+1,1e-09",
        "'-x,3.0",
        "'@sum,",
        "'\tx,2.0",
        "-0.5,1.0",
    ]


def test_latex_table_has_one_row_per_line_and_no_raw_bracket_after_a_row_end() -> None:
    source = latex(TABLE)
    assert r"\multicolumn{2}{l}{\textit{first \& last}} \\" in source
    assert r"50\% & a\textbar{}b \\" in source and "\\\\\n[" not in source
    assert source.count(r"\begin{tabular}") == 1 and r"why\_not" in source


def test_a_long_latex_table_continues_in_a_second_tabular() -> None:
    long = Table("t", "Title", ["A", "B"], [("", [["x", "y"]] * (LATEX_ROWS + 1))])
    assert latex(long).count(r"\begin{tabular}") == 2


def test_markdown_keeps_its_columns() -> None:
    lines = [line for line in markdown(TABLE).splitlines() if line.startswith("|")]
    assert {line.replace("\\|", "").count("|") for line in lines} == {3}
    assert "  50%" in text(TABLE)


def test_numbers_are_spelled_consistently() -> None:
    assert (number(0.1234), number(12.346), number(123.46)) == ("0.123", "12.35", "123.5")
    assert signed(-0.5) == "−0.500" and signed(0.5) == "+0.500"
    assert power(2.163e13) == "2.16×10¹³" and probability(0.0001) == "<0.001"


def test_a_broken_contract_is_said_aloud(four_kinds: Any) -> None:
    difference = {"field": "lr", "left": 1, "right": 2, "allowed": False, "under": None, "reason": None}
    evidence = {"data_hash": {"left": "x", "right": "y", "equal": False, "required": True}}
    certificate = {"pair": "p", "left": "a", "right": "b", "verdict": "not matched", "evidence": evidence}
    broken = certificate | {"differences": [difference]}
    assert verdict(broken) == "p: not matched: lr (1 / 2; NOT ALLOWED), data_hash (x / y; NOT EQUAL) [a | b]"
    study = load(four_kinds.root, four_kinds.study())
    study = replace(study, certificates=[*study.certificates, broken])
    assert in_words(study) == "NOT MATCHED: 1 of 2 pairs of runs, which also differ in lr, data_hash."


def test_allowed_differences_are_named_as_the_contract_names_them() -> None:
    fields = ("recipe.tokens", "recipe.phases")
    differences = [
        {"field": field, "left": 1, "right": 2, "allowed": True, "under": "recipe", "reason": "r"} for field in fields
    ]
    certificate = {"pair": "p", "left": "a", "right": "b", "verdict": "matched except", "evidence": {}}
    assert verdict(certificate | {"differences": differences}) == "p: matched except: recipe [a | b]"


def test_macros_look_up_by_key(four_kinds: Any) -> None:
    recorded = load(four_kinds.root, four_kinds.root.parent / "study.json")
    found = of_pair(recorded, estimates.cells(recorded), estimates.differences(recorded))
    source = macros(by_key(recorded, found))
    assert r"\csname result@heldout_clm/world/bits_per_token/decoder\endcsname{3.100}" in source
    assert r"\csname result@study\endcsname{demo\_100\%}" in source
    assert "nan" not in source and r"result@decoder/entropy ratio\endcsname{1.265}" in source
