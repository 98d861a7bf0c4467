"""Means of groups of tasks as they are published: GLUE, the ten generative tasks, MTEB by type."""

import pandas as pd

from analysis import style
from analysis.tables import HOLE, Table, grouped, number
from analysis.ways import split, way_name

GLUE = {"cola": "mcc", "sst2": "accuracy", "mrpc": "accuracy", "stsb": "spearman", "qqp": "accuracy"}
GLUE |= {"mnli": "accuracy", "qnli": "accuracy", "rte": "accuracy"}  # eight tasks, as published: without WNLI
GENERATIVE = {"arc_challenge": "acc_norm", "hellaswag": "acc_norm", "lambada_openai": "acc", "openbookqa": "acc_norm"}
GENERATIVE |= {"piqa": "acc_norm", "sciq": "acc_norm", "siqa": "acc", "triviaqa": "exact_match", "winogrande": "acc"}
GENERATIVE |= {"wsc273": "acc"}
ALIASES = {"social_iqa": "siqa", "exact_match,remove_whitespace": "exact_match"}
MTEB_TYPES = {"accuracy": "Classification", "v_measure": "Clustering", "max_ap": "PairClassification"}
MTEB_TYPES |= {"map": "Reranking", "map_at_1000": "Reranking", "ndcg_at_10": "Retrieval", "cosine_spearman": "STS"}
SUMMARIES = ("SummEval", "SummEvalSummarization.v2")


def group_means(cells: pd.DataFrame) -> pd.DataFrame:
    """A row per block, member and group with the mean of its tasks' scores, how many there are, and which are lacking."""
    rows = []
    named = cells[cells["value"].notna()]
    keys = zip(named["protocol"], named["task"], named["metric"], strict=True)
    named = named.assign(group=[_group(*key) for key in keys], way=[_way(name) for name in named["protocol"]])
    named = named[named["group"] != ""]
    for (block, group, way), own in named.groupby(["block", "group", "way"], sort=False):
        for member, scores in own.groupby("member", sort=False):
            tasks = {_task(task): value for task, value in zip(scores["task"], scores["value"], strict=True)}
            wanted = {"GLUE": GLUE, "Generative tasks": GENERATIVE}.get(str(group), tasks)
            rows.append(
                {
                    "block": block,
                    "group": group,
                    "way": way,
                    "member": member,
                    "value": sum(tasks.values()) / len(tasks),
                    "tasks": len(tasks),
                    "of": len(wanted),
                    "lacking": ", ".join(sorted(set(wanted) - set(tasks))),
                }
            )
    frame = pd.DataFrame(rows, columns=["block", "group", "way", "member", "value", "tasks", "of", "lacking"])
    return pd.concat([frame, _over_types(frame)], ignore_index=True)


def _over_types(frame: pd.DataFrame) -> pd.DataFrame:
    """The mean over types of MTEB, as its benchmark is told."""
    types = frame[frame["group"].str.startswith("MTEB")]
    rows = [
        {
            "block": block,
            "group": "MTEB, mean over types",
            "way": way,
            "member": member,
            "value": own["value"].mean(),
            "tasks": own["tasks"].sum(),
            "of": own["of"].sum(),
            "lacking": "",
        }  # fmt: skip
        for (block, way, member), own in types.groupby(["block", "way", "member"], sort=False)
    ]
    return pd.DataFrame(rows, columns=frame.columns)


def _group(protocol: str, task: str, metric: str) -> str:
    """The group that a score belongs to; empty for none."""
    question, _ = split(protocol)
    name, metric = _task(task), ALIASES.get(metric, metric)
    if question.startswith("finetune") and GLUE.get(name) == metric:
        return "GLUE"
    if question == "lm_eval" and GENERATIVE.get(name) == metric:
        return "Generative tasks"
    if question.startswith("mteb") and metric in MTEB_TYPES:
        return f"MTEB, {'Summarization' if task in SUMMARIES else MTEB_TYPES[metric]}"
    return ""


def _task(task: str) -> str:
    """The name of a task, whether it is read offline or not."""
    name = task.removeprefix("offline_")
    return ALIASES.get(name, name)


def _way(protocol: str) -> str:
    question, way = split(protocol)
    start = question.partition(".")[2]
    return ", ".join(filter(None, [way_name(way), start.replace("_", " ") if start else ""]))


def groups_table(found: pd.DataFrame) -> Table:
    """Rows are groups and ways, columns are members; a mean of fewer tasks than published says of how many."""
    members = [name for name in style.members_first(set(found["member"])) if name in set(found["member"])]
    rows = []
    for (block, group, way), own in found.groupby(["block", "group", "way"], sort=False):
        by_member = own.set_index("member")
        shown = [_shown(by_member.loc[name]) if name in by_member.index else HOLE for name in members]
        rows.append((str(block), [f"{group} ({way})", *shown]))
    lacking = [f"{row.group}, {row.member}, lacks {row.lacking}." for row in found.itertuples() if row.lacking]
    note = "Plain means of the tasks' scores, without an interval; with fewer tasks than published they are not comparable to it."
    return Table(
        "groups", "Means of groups of tasks", ["Group", *members], grouped(rows), [note, *dict.fromkeys(lacking)]
    )


def _shown(row: pd.Series) -> str:
    return number(row["value"]) + ("" if row["tasks"] == row["of"] else f" ({row['tasks']} of {row['of']} tasks)")
