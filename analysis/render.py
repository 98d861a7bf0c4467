"""A table in the four dresses it is read in: Markdown, LaTeX, terminal text; and its numbers as CSV."""

import pandas as pd
from tabulate import tabulate

from analysis.families import is_part
from analysis.figures import Picture
from analysis.flags import with_flags
from analysis.load import MEASURE, rows_of
from analysis.tables import Table

LATEX_ROWS = 45  # about one page; a longer table continues in a second tabular

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
    **{mark: rf"\textsuperscript{{{digit}}}" for digit, mark in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")},
}


def escape(text: str) -> str:
    """Text that LaTeX prints as it is."""
    return "".join(_LATEX.get(character, character) for character in text)


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
    return f"{bodies}{notes}\n"


def latex_figures(pictures: list[Picture]) -> str:
    """A figure environment per picture, so that the paper shows exactly the figures that exist."""
    return "\n".join(
        f"\\begin{{figure}}[htbp]\n\\centering\n\\includegraphics[width=\\linewidth,height=0.85\\textheight,keepaspectratio]{{generated/{picture.name}.pdf}}\n"
        f"\\caption{{{escape(f'{picture.title}. {picture.caption}')}}}\n\\label{{fig:{picture.name}}}\n\\end{{figure}}\n"
        for picture in pictures
    )


def latex_tables(tables: list[Table]) -> str:
    """A titled paragraph per table, so that the paper shows exactly the tables that exist."""
    return "\n".join(
        f"\\subsection*{{{escape(table.title)}}}\\label{{tab:{table.name}}}\n\\input{{generated/{table.name}}}\n"
        for table in tables
    )


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
    return "\n".join([with_spaces_kept, *table.notes])


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
    return frame.to_csv(index=False, lineterminator="\n")


def _tabular(header: list[str], lines: list[str]) -> str:
    columns = "l" + "r" * (len(header) - 2) + "l"
    body = "\n".join(lines)
    return (
        "\\noindent\\resizebox{\\ifdim\\width>\\linewidth\\linewidth\\else\\width\\fi}{!}{%\n"
        f"\\begin{{tabular}}{{@{{}}{columns}@{{}}}}\n\\toprule\n"
        f"{' & '.join(map(escape, header))} \\\\\n\\midrule\n{body}\n\\bottomrule\n\\end{{tabular}}}}"
    )
