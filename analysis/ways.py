"""How a question was asked: the scoring, the pooling or the way of fine-tuning in a protocol's name.

A question is the same for every member, the ways differ: <question>.<way>. Members whose ways differ meet in a row of their
own: `own_scoring` scores each as suits its objective, `best_by_dev` takes of each the way that its own dev score prefers.
"""

import pandas as pd

from analysis.study_records import BEST_BY_DEV, LEFT_TO_RIGHT, ONE_ORDER, OWN_SCORING, PSEUDO_LIKELIHOOD
from ettin_core.records.readout import fills_masks

FINETUNE, LM_EVAL, MTEB = "finetune", "lm_eval", "mteb"
HARNESS_MASKED = ("lm_eval.masked_left_to_right", "lm_eval.pseudo_likelihood")  # the first that a member has is its own
OWN = (OWN_SCORING, BEST_BY_DEV)


def split(protocol: str) -> tuple[str, str]:
    """The question and the way of a protocol: finetune.cola.causal_mean.from_mnli asks "finetune.from_mnli"."""
    parts = protocol.split(".")
    if parts[0] == FINETUNE and len(parts) >= 3:
        return ".".join([FINETUNE, *parts[3:]]), parts[2]
    if parts[0] == MTEB and len(parts) == 3:
        return ".".join(parts[:2]), parts[2]
    question, _, way = protocol.partition(".")
    return question, way


def with_own_ways(measurements: pd.DataFrame, runs: pd.DataFrame, asked: bool = False) -> pd.DataFrame:
    """The measurements, and under a name of its own the way of each member where ways differ between members.

    Also where all are scored alike, if that name is `asked` for: a prediction may be about two members of one kind.
    """
    added = [best_by_dev(measurements)]
    if asked or runs["readout"].map(fills_masks).nunique() > 1:
        added += [own_scoring(measurements, runs), harness_own(measurements, runs)]
    added = [frame for frame in added if len(frame)]
    return pd.concat([measurements, *added], ignore_index=True) if added else measurements


def own_scoring(measurements: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """The measurements that suit each member, under one protocol name per family; `scored_as` keeps the real one.

    A member that predicts tokens from those before is scored left to right, one that fills masks by pseudo-likelihood. Only
    this lets an encoder and a decoder meet on the same items, each at its best.
    """
    split = [protocol.partition(".") for protocol in measurements["protocol"]]
    readouts = runs["readout"].reindex(measurements["run"])
    suits = [
        scoring == (PSEUDO_LIKELIHOOD if fills_masks(readout) else LEFT_TO_RIGHT) and family not in ONE_ORDER
        for (family, _, scoring), readout in zip(split, readouts, strict=True)
    ]
    names = [f"{family}.{OWN_SCORING}" for family, _, _ in split]
    return measurements.assign(protocol=names)[suits]


def harness_own(measurements: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """The harness's scores, each member by the protocol that suits it."""
    rows = measurements[measurements["protocol"].str.startswith(f"{LM_EVAL}.")]
    masked = rows["run"].map(runs["readout"]).map(fills_masks)
    measured = set(zip(rows["run"], rows["task"], rows["protocol"], strict=True))
    suits = []
    for run, task, protocol, fills in zip(rows["run"], rows["task"], rows["protocol"], masked, strict=True):
        wanted = HARNESS_MASKED if fills else ("lm_eval.conditional",)
        first = next((name for name in wanted if (run, task, name) in measured), None)
        suits.append(protocol == first)
    return rows[suits].assign(protocol=f"{LM_EVAL}.{OWN_SCORING}")


def best_by_dev(measurements: pd.DataFrame) -> pd.DataFrame:
    """The scores of each run by the way with the highest dev score, where there are several ways.

    Of a fine-tuned run each task and start has its choice; of embeddings each run has one among its poolings.
    """
    tuned = measurements["protocol"].str.startswith(f"{FINETUNE}.")
    rows = measurements[tuned | measurements["protocol"].str.startswith(f"{MTEB}.")]
    if rows.empty:
        return rows
    questions = [split(name)[0] for name in rows["protocol"]]
    asked = [str(task) if name.startswith(FINETUNE) else "" for name, task in zip(questions, rows["task"], strict=True)]
    rows = rows.assign(question=questions, asked=asked)
    dev = rows[rows["metric"].str.endswith("_dev") & rows["value"].notna()]
    ways = dev.groupby("question")["protocol"].nunique()
    several = [question.startswith(FINETUNE) or ways[question] > 1 for question in dev["question"]]
    dev = dev[pd.Series(several, index=dev.index, dtype=bool)]
    best = dev.sort_values("value", ascending=False, kind="stable").drop_duplicates(["run", "asked", "question"])
    chosen = set(zip(best["run"], best["protocol"], strict=True))
    of_run = rows[[pair in chosen for pair in zip(rows["run"], rows["protocol"], strict=True)]]
    names = [
        _with_way(question, task, BEST_BY_DEV)
        for question, task in zip(of_run["question"], of_run["asked"], strict=True)
    ]
    return of_run.assign(protocol=names).drop(columns=["question", "asked"])


def _with_way(question: str, task: str, way: str) -> str:
    """The protocol that asks a question of a task (empty: of any) in a way: what `split` takes apart."""
    first, *start = question.split(".")
    return ".".join([first, task, way, *start]) if task else f"{question}.{way}"


def way_name(way: str) -> str:
    """The readable name of a way."""
    names = {OWN_SCORING: "each its own", BEST_BY_DEV: "best of each by dev", LEFT_TO_RIGHT: "left to right"}
    names |= {PSEUDO_LIKELIHOOD: "pseudo-likelihood", "lasttoken": "last token", "weightedmean": "weighted mean"}
    return names.get(way, way.replace("_", " "))
