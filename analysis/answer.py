"""The answer of a report in words: what became of each prediction, or what each comparison of the analysis says."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from analysis.estimates import NO_VERDICT
from analysis.study_records import rows_of
from analysis.tables import measurement

NAMED = 3  # measurements that a verdict names
_WITHOUT = ("not ", "no ", "cannot", "one repetition")  # how a verdict begins that decides nothing


@dataclass(frozen=True)
class Verdict:
    """A verdict in words."""

    words: str

    @property
    def decides(self) -> bool:
        """Whether it says more than that the data cannot tell."""
        return not self.words.startswith(_WITHOUT)


@dataclass(frozen=True)
class Answer:
    """A question, the verdicts about it, those that decide first, and the table that they are from."""

    question: str
    verdicts: list[Verdict]
    table: str


def counted(
    frame: pd.DataFrame,
    by: Sequence[str],
    table: str,
    spell: Callable[[tuple[str, ...]], str] = " − ".join,
    words: Callable[[Any], str] = lambda row: str(row.words),
    name: Callable[[Any], str] = lambda row: measurement(row._asdict()),
) -> list[Answer]:
    """For each group of rows, how many measurements have which verdict, and which those are that decide something."""
    answers = []
    for key, group in frame.groupby(list(by), sort=False):
        names: dict[str, list[str]] = {}
        for row in rows_of(group):
            if words(row) != NO_VERDICT:
                names.setdefault(words(row), []).append(name(row))
        count = sum(map(len, names.values()))
        verdicts = [
            Verdict(f"{text} in {len(of)} of {count}" + (f": {named(of)}" if Verdict(text).decides else ""))
            for text, of in names.items()
        ]
        if verdicts:
            verdicts.sort(key=lambda verdict: not verdict.decides)
            answers.append(Answer(spell(tuple(map(str, key))), verdicts, table))
    return answers


def named(names: list[str]) -> str:
    """The first of some names, and how many more there are."""
    more = f"; and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return "; ".join(names[:NAMED]) + more
