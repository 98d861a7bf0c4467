"""A table in the four dresses it is read in: Markdown, LaTeX, terminal text; and its numbers as CSV."""

import unicodedata

import pandas as pd
from tabulate import tabulate

from analysis.families import is_part
from analysis.flags import with_flags
from analysis.study_records import MEASURE, rows_of
from analysis.tables import Table
from ettin_core.foundation.spreadsheet import csv_text
from ettin_core.foundation.terminal import printable

LATEX_ROWS = 45  # about one page; a longer table continues in a second tabular

_ACCENTS = dict(
    zip("\u0300\u0301\u0302\u0303\u0304\u0306\u0307\u0308\u030a\u030b\u030c\u0327\u0328", "`'^~=u.\"rHvck", strict=True)
)
_GREEK_CAPITALS = ("GAMMA", "DELTA", "THETA", "LAMBDA", "XI", "PI", "SIGMA", "UPSILON", "PHI", "PSI", "OMEGA")
_GREEK = (
    *_GREEK_CAPITALS,
    *("ALPHA", "BETA", "EPSILON", "ZETA", "ETA", "IOTA", "KAPPA", "MU", "NU", "RHO", "TAU", "CHI"),
)  # as Unicode calls them, and LaTeX too
_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "[": "{[}",  # a bracket after a row's end would be read as its optional argument
    "]": "{]}",
    "—": "---",
    "–": "--",
    "−": "$-$",
    "×": r"$\times$",
    "±": r"$\pm$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "·": r"$\cdot$",
    "⁻": r"\textsuperscript{$-$}",
    "…": r"\dots{}",
    "‘": "`",
    "’": "'",
    "“": "``",
    "”": "''",
    "€": r"\texteuro{}",
    "Ł": r"\L{}",
    "ł": r"\l{}",
    "ı": r"\i{}",
    **{mark: rf"\textsuperscript{{{digit}}}" for digit, mark in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")},
}


_OTHER_LETTER = "otherletter"  # the macro of a letter that pdfLaTeX's fonts lack
_DEFINITION = (
    rf"\ifdefined\{_OTHER_LETTER}\else\DeclareRobustCommand\{_OTHER_LETTER}[1]"
    '{\\ifdefined\\Uchar\\iffontchar\\font"#1 \\Uchar"#1 \\else U+#1\\fi\\else U+#1\\fi}\\fi\n'
)


def escape(text: str) -> str:
    """Text that LaTeX prints as it is; what the fonts of an engine lack as U+XXXX."""
    whole = unicodedata.normalize("NFC", text)
    return "".join(_LATEX.get(character) or _in_latex(character) for character in whole)


def _in_latex(character: str) -> str:
    """A character that is not special to LaTeX: ASCII and western letters as they are, Greek as mathematics, else a macro."""
    code = ord(character)
    if not character.isprintable():
        return f"U+{code:04X}"
    if code < 127 or 0xC0 <= code <= 0xFF:
        return character
    base, *marks = list(unicodedata.normalize("NFD", character))
    if len(marks) == 1 and base.isascii() and marks[0] in _ACCENTS:
        return rf"\{_ACCENTS[marks[0]]}{{{base}}}"
    kind, _, name = unicodedata.name(character, "").replace("LAMDA", "LAMBDA").rpartition(" LETTER ")
    if kind == "GREEK SMALL" and name in _GREEK:
        return rf"\ensuremath{{\{name.lower()}}}"
    if kind == "GREEK CAPITAL" and name in _GREEK_CAPITALS:
        return rf"\ensuremath{{\{name.capitalize()}}}"
    return rf"\{_OTHER_LETTER}{{{code:04X}}}"


def with_letters(source: str) -> str:
    """LaTeX with the macro that it may need for letters of other scripts."""
    return (_DEFINITION if rf"\{_OTHER_LETTER}{{" in source else "") + source


def latex(table: Table) -> str:
    """One or more booktabs tabulars, shrunk to the line where they are wider, with the notes below."""
    width = len(table.header)
    lines: list[str] = []
    for title, rows in table.sections:
        if title:
            lines.append(rf"\multicolumn{{{width}}}{{l}}{{\textit{{{escape(title)}}}}} \\")
        lines += [" & ".join(map(escape, row)) + r" \\" for row in rows]
    parts = [lines[start : start + LATEX_ROWS] for start in range(0, len(lines), LATEX_ROWS)] or [[]]
    bodies = "\n\n\\medskip\n\n".join(_tabular(table.header, part) for part in parts)
    notes = "".join(f"\n\n\\smallskip\\noindent{{\\footnotesize {escape(note)}\\par}}" for note in table.notes)
    return with_letters(f"{bodies}{notes}\n")


def markdown(table: Table) -> str:
    """A GitHub table: section titles in bold rows, notes as paragraphs."""
    blanks = [""] * (len(table.header) - 1)
    rows = []
    for title, members in table.sections:
        rows += [[f"**{title}**", *blanks]] if title else []
        rows += members
    lines = [table.header, ["---"] * len(table.header), *rows]
    body = "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
    return f"## {table.title}\n\n{body}\n" + "".join(f"\n{note}\n" for note in table.notes)


def text(table: Table) -> str:
    """The table for a terminal."""
    rows = []
    for title, members in table.sections:
        rows += [[title]] if title else []
        rows += [[f"  {row[0]}", *row[1:]] if title else row for row in members]
    padded = [row + [""] * (len(table.header) - len(row)) for row in rows]
    with_spaces_kept = tabulate(
        padded, table.header, tablefmt="simple", disable_numparse=True, preserve_whitespace=True
    )
    return printable("\n".join([with_spaces_kept, *table.notes]))


def comparison_data(cells: pd.DataFrame) -> pd.DataFrame:
    """A row per measurement; per member its value, interval and items; an empty field is a hole, named in `holes`.

    `left_out` is why the main table does not have it.
    """
    parts = is_part(cells)
    whole = with_flags(cells[~parts])
    cells = pd.concat([whole, cells[parts].assign(signal_to_noise=float("nan"), left_out="a part")]).sort_index()
    shared = ["block", *MEASURE, "version", "higher_is_better", "reference"]
    rows = []
    for _, group in cells.groupby(["block", *MEASURE], sort=False):
        row = {name: group[name].iloc[0] for name in shared}
        for cell in rows_of(group):
            row |= {f"{cell.member}": cell.value, f"{cell.member}_low": cell.low, f"{cell.member}_high": cell.high}
            row |= {f"{cell.member}_n": "" if pd.isna(cell.n) else int(cell.n)}
        row |= {"signal_to_noise": group["signal_to_noise"].iloc[0], "left_out": group["left_out"].iloc[0]}
        holes = group[group["hole"].notna()]
        row["holes"] = "; ".join(
            f"{member}: {hole}" for member, hole in zip(holes["member"], holes["hole"], strict=True)
        )
        rows.append(row)
    return pd.DataFrame(rows)


def csv(frame: pd.DataFrame) -> str:
    """Comma-separated values with full precision."""
    return csv_text(list(frame.columns), frame.to_dict("split", index=False)["data"])


def _tabular(header: list[str], lines: list[str]) -> str:
    columns = "l" + "r" * (len(header) - 2) + "l"
    body = "\n".join(lines)
    return (
        "\\noindent\\resizebox{\\ifdim\\width>\\linewidth\\linewidth\\else\\width\\fi}{!}{%\n"
        f"\\begin{{tabular}}{{@{{}}{columns}@{{}}}}\n\\toprule\n"
        f"{' & '.join(map(escape, header))} \\\\\n\\midrule\n{body}\n\\bottomrule\n\\end{{tabular}}}}"
    )
