"""What one would expect of the four kinds, stated before looking, and whether the differences bear it out."""

from dataclasses import dataclass

import pandas as pd

from analysis.estimates import distinguishable
from analysis.load import ALL, LEFT_TO_RIGHT, OWN_SCORING, PSEUDO_LIKELIHOOD, rows_of


@dataclass(frozen=True)
class Expectation:
    """`better` should beat `worse` at every task of the protocols."""

    statement: str
    better: str
    worse: str
    protocols: tuple[str, ...]


@dataclass(frozen=True)
class Finding:
    """An expectation, the word for what the data says of it, and the counts behind the word."""

    statement: str
    verdict: str
    evidence: str


SCORES = ("accuracy", "loss")
_BOTH_LEFT_TO_RIGHT = (f"minimal_pairs.{LEFT_TO_RIGHT}", f"facts.{LEFT_TO_RIGHT}")
_BOTH_PSEUDO = (f"minimal_pairs.{PSEUDO_LIKELIHOOD}", f"facts.{PSEUDO_LIKELIHOOD}")

EXPECTATIONS = (
    Expectation(
        "The encoder recalls more facts than the decoder when each is scored its own way",
        "encoder",
        "decoder",
        (f"facts.{OWN_SCORING}",),
    ),
    Expectation(
        "The encoder, which sees both sides, judges minimal pairs better when each is scored its own way",
        "encoder",
        "decoder",
        (f"minimal_pairs.{OWN_SCORING}",),
    ),
    Expectation("The decoder is better left to right", "decoder", "encoder", _BOTH_LEFT_TO_RIGHT),
    Expectation(
        "A converted encoder stays behind the native one", "encoder", "enc-from-dec", (*_BOTH_PSEUDO, "heldout_mlm")
    ),
    Expectation(
        "A converted decoder stays behind the native one",
        "decoder",
        "dec-from-enc",
        (*_BOTH_LEFT_TO_RIGHT, "heldout_clm"),
    ),
)


def judge(differences: pd.DataFrame) -> list[Finding]:
    """Whether the differences support, contradict or cannot distinguish each expectation."""
    return [_judge(expectation, differences) for expectation in EXPECTATIONS]


def _judge(expectation: Expectation, differences: pd.DataFrame) -> Finding:
    sides = {expectation.better, expectation.worse}
    scored = differences["protocol"].isin(expectation.protocols) & differences["metric"].isin(SCORES)
    rows = [row for row in rows_of(differences[scored]) if {row.left, row.right} == sides]
    rows = [row for row in rows if row.task != ALL] or rows
    supporting, against = 0, 0
    for row in rows:
        if distinguishable(row):
            winner = row.left if (row.value > 0) == row.higher_is_better else row.right
            supporting += winner == expectation.better
            against += winner != expectation.better
    evidence = f"{supporting} for, {against} against, {len(rows) - supporting - against} not distinguishable"
    return Finding(expectation.statement, _word(supporting, against, len(rows)), evidence if rows else "none measured")


def _word(supporting: int, against: int, tasks: int) -> str:
    if tasks == 0:
        return "not measured"
    if supporting and against:
        return "mixed"
    if not supporting and not against:
        return "cannot distinguish"
    word = "supports it" if supporting else "contradicts it"
    return word if supporting + against == tasks else f"{word} in part"
