"""The values that "Seq vs Seq" (arXiv 2507.11412, second version) prints, beside a study's: never mixed with them, nor averaged.

`published_values.csv` has the printed numbers of the four kinds at six sizes: percent, or millions of parameters (Table 11,
where all kinds are alike). They have one seed and no interval. A study is set beside the published size that is nearest.
"""

import functools
import math
from pathlib import Path

import pandas as pd

from analysis.study_records import StudyRecords, rows_of
from analysis.tables import Table, grouped, number, signed

FILE = Path(__file__).with_name("published_values.csv")
SAME = {"Figure 1": "Table 9", "Figure 2": "Figure 3"}  # exhibits whose numbers another prints
PARAMETERS, EVERY_KIND = "Table 11", "all"
NAME = "published-values"


@functools.cache
def values() -> pd.DataFrame:
    """A row per exhibit, kind, size and measure; scores as shares, parameters in millions."""
    frame = pd.read_csv(FILE)
    scores = frame["exhibit"] != PARAMETERS
    return frame.assign(value=frame["value"].where(~scores, frame["value"] / 100))


def of(exhibit: str) -> pd.DataFrame:
    """What an exhibit prints, with the parameters besides the embedding (millions) of each row's size as x."""
    frame = values()
    others = frame[(frame["exhibit"] == PARAMETERS) & (frame["measure"] == "other")].set_index("size")["value"]
    rows = frame[frame["exhibit"] == SAME.get(exhibit, exhibit)]
    return rows.assign(x=rows["size"].map(others))


def nearest(millions: float) -> str:
    """The published size whose models have most nearly as many parameters besides the embedding, in proportion."""
    sizes = of(PARAMETERS)[["size", "x"]].drop_duplicates()
    return min(rows_of(sizes), key=lambda row: abs(math.log(row.x / millions))).size


def beside(filled: pd.DataFrame, study: StudyRecords) -> pd.DataFrame:
    """The rows that have a value here and in print, with `size` (the published one), `published` and `deviation`."""
    others = study.runs["parameters"] - study.runs["embedding"].fillna(0)
    millions = others.groupby([study.runs["block"], study.runs["member"]]).first() / 1e6
    frame, rows = values().set_index(["exhibit", "kind", "size", "measure"])["value"], []
    for row in rows_of(filled[filled["value"].notna() & ~filled["exhibit"].isin(SAME)]):
        size = nearest(float(millions[row.block, row.member]))
        kind = EVERY_KIND if row.exhibit == PARAMETERS else row.kind
        published = frame.get((row.exhibit, kind, size, row.measure))
        if published is not None:
            ours = {
                name: getattr(row, name)
                for name in ("exhibit", "block", "kind", "member", "measure", "value", "low", "high")
            }
            rows.append(ours | {"size": size, "published": published, "deviation": row.value - published})
    return pd.DataFrame(rows)


def beside_table(rows: pd.DataFrame) -> Table:
    """A line for each value that is both here and in print."""
    lines = []
    for row in rows_of(rows):
        bounds = "" if math.isnan(row.low) else f" [{number(row.low)}, {number(row.high)}]"
        shown = [
            row.member,
            row.measure,
            number(row.value) + bounds,
            row.size,
            number(row.published),
            signed(row.deviation),
        ]
        lines.append((f"{row.exhibit} ({row.block})", shown))
    notes = [
        'Published: "Seq vs Seq" (arXiv 2507.11412, second version) at the nearest published size; one seed, no intervals. '
        "Scores are shares, parameters millions.",
        "Less published: ours minus theirs. The models differ in size, text and tokens: this compares systems and is no "
        "error of either. No published value enters a mean, an interval or a test.",
    ]
    header = ["Model", "Measure", "Ours [95%]", "Published size", "Published", "Less published"]
    return Table(NAME, "Beside the published values", header, grouped(lines), notes)
