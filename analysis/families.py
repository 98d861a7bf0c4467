"""Which tests are corrected together: a family is a question that was asked, and its tests are whole tasks only.

A study's file may state its families before anything is trained:

    analysis: {families: {grammar: [minimal_pairs, agreement], loss: [heldout_clm, heldout_mlm]}}

by question, protocol or task. Left out, every question (the protocol's name up to the first dot) is a family. Parts of a task,
and metrics beside a main one, are shown without a verdict: they repeat what the whole already says.
"""

import pandas as pd

from analysis.uncertainty import holm
from analysis.ways import LM_EVAL, split
from ettin_core.records.protocols import SEARCH_COSTS

CHOICES = ("accuracy", "preference_pro", "stereotype", "stereotype_score", "acc")  # metrics whose items are choices
DESCRIBE = ("tie_rate", "gap", "probability_male", "probability_neutral", *SEARCH_COSTS)  # follow from a main metric
OTHER_LENGTHS = ("accuracy_per_", "stereotype_per_", "preference_pro_per_", "probability_")  # a main metric by length
SHOWN_ONLY = ("predicted_", "perplexity_")
BESIDE = ("_seed_deviation", "_dev", "_grid_median", "_grid_worst")  # what a grid has beside its score


def is_part(frame: pd.DataFrame) -> pd.Series:
    """Which rows are parts of a task: named task/part, or by the harness task_part, with the same metric of the whole there.

    A set with a slash in its name whose whole has no such metric (`winogender/gotcha`) is a task.
    """
    known = set(zip(frame["protocol"], frame["task"], frame["metric"], strict=True))
    tasks: dict[tuple[str, str], set[str]] = {}
    for protocol, task, metric in known:
        tasks.setdefault((protocol, metric), set()).add(task)
    parts = [
        _whole(protocol, task, tasks[protocol, metric]) is not None
        for protocol, task, metric in zip(frame["protocol"], frame["task"], frame["metric"], strict=True)
    ]
    return pd.Series(parts, index=frame.index, dtype=bool)


def _whole(protocol: str, task: str, others: set[str]) -> str | None:
    """The task that a task is a part of, among others with the same protocol and metric."""
    mark = "_" if protocol.startswith(LM_EVAL) else "/"
    pieces = task.split(mark)
    names = (mark.join(pieces[:size]) for size in range(1, len(pieces)))
    return next((name for name in names if name in others), None)


def redundant(frame: pd.DataFrame) -> pd.Series:
    """Which rows say again what another says: nats and bits per byte where bits per token are there (a likelihood of all
    members has bits per byte alone, which are its score), and what a grid has beside its score.
    """
    bits = set(frame[frame["metric"] == "bits_per_token"]["protocol"])
    again = frame["protocol"].isin(bits) & frame["metric"].isin(("loss", "bits_per_byte"))
    return again | frame["metric"].str.endswith(BESIDE)


def family(frame: pd.DataFrame, stated: dict[str, list[str]] | None) -> pd.Series:
    """The family of every test; empty where it has no verdict."""
    tested = (
        ~is_part(frame)
        & ~redundant(frame)
        & ~frame["metric"].isin(DESCRIBE)
        & ~frame["metric"].str.startswith(SHOWN_ONLY)
    ) & ~(frame["metric"].str.startswith(OTHER_LENGTHS) & frame["metric"].str.contains("_per_"))
    names = [
        _named(protocol, task, stated) if wanted else ""
        for protocol, task, wanted in zip(frame["protocol"], frame["task"], tested, strict=True)
    ]
    return pd.Series(names, index=frame.index, dtype=object)


def _named(protocol: str, task: str, stated: dict[str, list[str]] | None) -> str:
    question, _ = split(protocol)
    if stated is None:
        return question
    return next((name for name, members in stated.items() if {question, protocol, task} & set(members)), "")


def corrected(frame: pd.DataFrame, within: list[str], stated: dict[str, list[str]] | None) -> pd.DataFrame:
    """The tests with their `family` and `p_corrected` by Holm within it and the named columns (not a number: no test)."""
    frame = frame.assign(family=family(frame, stated), p_corrected=float("nan"))
    testable = frame[(frame["family"] != "") & frame["p"].notna()]
    for _, group in testable.groupby([*within, "family"], sort=False):
        frame.loc[group.index, "p_corrected"] = holm(list(group["p"]))
    return frame


def described(stated: dict[str, list[str]] | None) -> str:
    """How tests were corrected, for the note below a table."""
    if stated is None:
        return "Holm-corrected within each question and comparison (whole tasks only)"
    names = "; ".join(f"{name}: {', '.join(members)}" for name, members in stated.items())
    return f"Holm-corrected within each family and comparison, as the study's file states them ({names})"
