"""Numbers to readable tables: the comparison, the paired differences and the rulers."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any

import pandas as pd

from analysis import wording
from analysis.families import described, is_part, redundant
from analysis.flags import left_out_note, with_flags
from analysis.sources import Cell
from analysis.stale import stale_lines
from analysis.study_records import MEASURE, StudyRecords, rows_of
from analysis.ways import OWN, split, way_name

SUPERSCRIPTS = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")
HOLE = "—"


@dataclass(frozen=True)
class Table:
    """A table of texts: rows grouped into titled sections, with notes below."""

    name: str
    title: str
    header: list[str]
    sections: list[tuple[str, list[list[str]]]]
    notes: list[str] = field(default_factory=list)


@dataclass
class Footnotes:
    """Numbers each distinct reason for a hole in order of appearance."""

    reasons: list[str] = field(default_factory=list)

    def hole(self, reason: str) -> str:
        """The mark of a hole, pointing to its reason."""
        return HOLE + self.mark(reason)

    def mark(self, reason: str) -> str:
        """The number of a note."""
        if reason not in self.reasons:
            self.reasons.append(reason)
        return str(self.reasons.index(reason) + 1).translate(SUPERSCRIPTS)

    def notes(self) -> list[str]:
        """The reasons, as notes below the table."""
        return [f"{str(place).translate(SUPERSCRIPTS)} {reason}" for place, reason in enumerate(self.reasons, start=1)]


def comparison_table(cells: pd.DataFrame) -> Table:
    """Rows are measurements that can carry a comparison (`flags`), columns are members; sub-tasks have a table of their own."""
    members = wording.members_first(set(cells["member"]))
    flagged = with_flags(cells[~is_part(cells)])
    table = members_table("comparison", "The members side by side", flagged[flagged["left_out"] == ""], members)
    left_out = left_out_note(flagged)
    return replace(table, notes=[*table.notes, left_out]) if left_out else table


def left_out_table(cells: pd.DataFrame) -> Table | None:
    """The measurements that the main table leaves out, with the reason; None where it has all."""
    flagged = with_flags(cells[~is_part(cells)])
    without = flagged[flagged["left_out"] != ""]
    if without.empty:
        return None
    members = wording.members_first(set(cells["member"]))
    return members_table("left_out", "Left out of the main table", without, members)


def subtasks_table(cells: pd.DataFrame) -> Table:
    """The parts of tasks: phenomena of minimal pairs, relations of facts."""
    members = wording.members_first(set(cells[is_part(cells)]["member"]))
    return members_table("subtasks", "Parts of the tasks", cells[is_part(cells)], members)


def members_table(name: str, title: str, cells: pd.DataFrame, members: list[str]) -> Table:
    """Rows are questions (task and metric), one line for each way in which they were asked; columns are members."""
    footnotes = Footnotes()
    cells = cells.assign(question=[split(protocol)[0] for protocol in cells["protocol"]])
    cells = cells.assign(way=[split(protocol)[1] for protocol in cells["protocol"]])
    ways, tied = bool((cells["way"] != "").any()), bool((cells["ties"] > 0).any())
    explained = "left_out" in cells and bool((cells["left_out"] != "").any())

    def row(group: pd.DataFrame) -> list[str]:
        by_member = group.set_index("member")
        first = group.iloc[0]
        key = key_of(first)
        shown = [
            Cell(estimated(by_member.loc[member], footnotes), key, member)
            if member in by_member.index
            else footnotes.hole("missing run")
            for member in members
        ]
        asked = [way_name(first["way"])] if ways else []
        rates = [_rates(group["ties"])] if tied else []
        beside = [*rates, *([first["left_out"]] if explained else [])]
        return [
            Cell(measure(first), key),
            *asked,
            *shown,
            _or_blank(first["reference"], number),
            _counts(group["n"]),
            *beside,
        ]

    rows = []
    for _, question in cells.groupby(["block", "question"], sort=False):
        for _, of_measure in question.groupby(["task", "metric"], sort=False):
            asked = [group for _, group in of_measure.groupby("protocol", sort=False)]
            asked.sort(key=lambda group: group["way"].iloc[0] not in OWN)
            rows += [(_section(group.iloc[0], cells), row(group)) for group in asked]
    bases = sorted(set(cells["over"].dropna()) - {"none"})
    basis = f"Brackets: 95% interval over {' or '.join(bases)}" if bases else "No interval could be computed"
    caveat = ". With one seed, the interval leaves out the noise of training" if "items" in bases else ""
    legend = "↑ higher is better, ↓ lower is better. Reference: the known truth, chance or baseline."
    legend += " Ties: share of choices that were ties, each counted as a guess." if tied else ""
    notes = [*footnotes.notes(), f"{basis}{caveat}. {legend}"]
    header = ["Measurement", *(["Way"] if ways else []), *members, "Reference", "n"]
    header += [*(["Ties"] if tied else []), *(["Why"] if explained else [])]
    return Table(name, title, header, grouped(rows), notes)


def differences_table(differences: pd.DataFrame, stated: dict[str, list[str]] | None = None) -> Table:
    """Rows are whole tasks within each pair of members, one line for each way in which both were asked."""
    whole = differences[~is_part(differences) & ~redundant(differences)]
    rows = []
    for row in rows_of(_ways_together(whole)):
        single = differences["block"].nunique() == 1
        section = f"{row.left} − {row.right}" + ("" if single else f" ({row.block})")
        name = f"{wording.question_name(str(row.question))}: {measure(row._asdict())}"
        asked = [Cell(name, key_of(row._asdict())), way_name(str(row.way))]
        rows.append((section, [*asked, *tested(row), f"{row.n:,}", str(row.over), str(row.words)]))
    notes = [
        "Brackets: 95% interval of the paired difference over seeds and items together, with items in their clusters. With one "
        "seed it is over items alone, which leaves out the noise of training.",
        f"p: t-test of the same difference, {described(stated)}.",
        "Cannot be told: neither runs nor items differ, or none are known. No verdict: a part of a task, or a metric that "
        "repeats another one.",
    ]
    header = ["Measurement", "Way", "Difference", "p (Holm)", "n", "Over", "In words"]
    return Table("differences", "Paired differences", header, grouped(rows), notes)


def _ways_together(differences: pd.DataFrame) -> pd.DataFrame:
    """Rows with their question and way, the ways of a question's task side by side, the own way first."""
    asked = [split(protocol) for protocol in differences["protocol"]]
    frame = differences.assign(question=[question for question, _ in asked], way=[way for _, way in asked])
    order = ["block", "left", "right", "question", "task", "metric"]
    places = {key: place for place, key in enumerate(dict.fromkeys(zip(*(frame[name] for name in order), strict=True)))}
    keys = zip(*(frame[name] for name in order), strict=True)
    frame = frame.assign(place=[places[key] for key in keys], common=~frame["way"].isin(OWN))
    return frame.sort_values(["place", "common"], kind="stable")


def rulers_table(study: StudyRecords) -> Table:
    """What each run cost by every ruler."""
    runs = study.runs.assign(place=study.runs["member"].map(wording.members_first(set(study.runs["member"])).index))
    rows = []
    for run in rows_of(runs.sort_values(["block", "place", "seed"])):
        name = Cell(str(run.Index), run=str(run.Index))
        cells = [name, str(run.member), str(run.seed), f"{run.tokens:,}", f"{run.loss_tokens:,}"]
        parent = run.parent if isinstance(run.parent, str) else "from scratch"
        rows.append((str(run.block), [*cells, power(run.flops), f"{run.seconds:,.1f}", *_parameters(run), parent]))
    header = [
        "Run",
        "Member",
        "Seed",
        "Tokens",
        "Loss-bearing tokens",
        "FLOPs",
        "Seconds",
        "Embedding parameters",
        "Other parameters",
        "Parent",
    ]
    notes = ["A conversion's numbers exclude its parent's.", *stale_lines(study.cells)]
    return Table("rulers", "What each run cost", header, grouped(rows), notes)


def _parameters(run: Any) -> list[str]:
    """Embedding and other parameters; all as others where the shape is not known."""
    embedding = 0 if math.isnan(run.embedding) else int(run.embedding)
    return [f"{embedding:,}" if embedding else HOLE, f"{run.parameters - embedding:,}"]


def number(value: float) -> str:
    """Four significant places at most, three decimals for numbers around one."""
    return f"{value:.{3 if abs(value) < 10 else 2 if abs(value) < 100 else 1}f}"


def signed(value: float) -> str:
    """A difference: always with its sign, and a typographic minus."""
    return ("−" if value < 0 else "+") + number(abs(value))


def probability(value: float) -> str:
    """A p-value."""
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def tested(row: Any) -> list[str]:
    """An estimate with its interval, and its corrected p; without an error term the estimate alone."""
    if math.isnan(row.p):
        return [signed(row.value), HOLE]
    corrected = HOLE if math.isnan(row.p_corrected) else probability(row.p_corrected)
    return [f"{signed(row.value)} [{signed(row.low)}, {signed(row.high)}]", corrected]


def power(value: float) -> str:
    """A large number in powers of ten."""
    mantissa, exponent = f"{value:.2e}".split("e")
    return f"{mantissa}×10{str(int(exponent)).translate(SUPERSCRIPTS)}"


def estimated(cell: pd.Series, footnotes: Footnotes) -> str:
    """A value with its interval and the mark of seeds that it lacks, or the mark of a hole."""
    if isinstance(cell["hole"], str):
        return footnotes.hole(cell["hole"])
    bounds = "" if math.isnan(cell["low"]) else f" [{number(cell['low'])}, {number(cell['high'])}]"
    return (
        number(cell["value"]) + bounds + (footnotes.mark(cell["lacking"]) if isinstance(cell["lacking"], str) else "")
    )


def measure(row: Any) -> str:
    """A measurement as a row's name: task, metric and which way is better."""
    return f"{row['task']}, {wording.metric_name(row['metric'])}{wording.arrow(row['metric'], row['higher_is_better'])}"


def measurement(row: Any) -> Cell:
    """A measurement as a name that needs no section: protocol, task, metric and which way is better."""
    return Cell(f"{wording.protocol_name(str(row['protocol']))}: {measure(row)}", key_of(row))


def key_of(row: Any) -> tuple[str, str, str]:
    """The measurement that a row is of: protocol, task and metric."""
    protocol, task, metric = (str(row[name]) for name in MEASURE)
    return protocol, task, metric


def _section(row: pd.Series, cells: pd.DataFrame) -> str:
    name = wording.question_name(row["question"])
    return name if cells["block"].nunique() == 1 else f"{row['block']}: {name}"


def grouped(rows: list[tuple[str, list[str]]]) -> list[tuple[str, list[list[str]]]]:
    """Rows gathered into sections by their titles, in order."""
    return [(title, [row for _, row in group]) for title, group in groupby(rows, key=lambda pair: pair[0])]


def _counts(counts: pd.Series) -> str:
    present = counts.dropna().astype(int)
    if present.empty:
        return HOLE
    return f"{present.min():,}" if present.min() == present.max() else f"{present.min():,}–{present.max():,}"


def _rates(rates: pd.Series) -> str:
    """Shares of ties of the members, in percent."""
    present = 100 * rates.dropna()
    if present.empty:
        return ""
    low, high = f"{present.min():.0f}", f"{present.max():.0f}"
    return f"{low}%" if low == high else f"{low}–{high}%"


def _or_blank(value: float | None, spell: Callable[[float], str]) -> str:
    return "" if value is None or math.isnan(value) else spell(value)
