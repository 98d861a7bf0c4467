"""Means of groups of tasks as they are published: GLUE, the ten generative tasks, MTEB by type.

Intervals are over runs and items together: a run moves all tasks of a group, their items are each task's own and stay within
their clusters. Members are compared over the tasks that both have, paired by seed and by item.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from analysis import estimates, inference, wording
from analysis.study_records import StudyRecords
from analysis.tables import HOLE, Table, grouped, number, signed
from analysis.ways import MTEB, split, way_name
from ettin_core.records.protocols import SEARCH_COSTS

GLUE = {"cola": "mcc", "sst2": "accuracy", "mrpc": "accuracy", "stsb": "spearman", "qqp": "accuracy"}
GLUE |= {"mnli": "accuracy", "qnli": "accuracy", "rte": "accuracy"}  # eight tasks, as published: without WNLI
GENERATIVE = {"arc_challenge": "acc_norm", "hellaswag": "acc_norm", "lambada_openai": "acc", "openbookqa": "acc_norm"}
GENERATIVE |= {"piqa": "acc_norm", "sciq": "acc_norm", "siqa": "acc", "triviaqa": "exact_match", "winogrande": "acc"}
GENERATIVE |= {"wsc273": "acc"}
WANTED = {"GLUE": GLUE, "Generative tasks": GENERATIVE}
ALIASES = {"social_iqa": "siqa", "exact_match,remove_whitespace": "exact_match"}
NO_TYPE = "type not recorded"
COLUMNS = ["block", "group", "way", "member", "value", "low", "high", "p", "over", "tasks", "of", "lacking"]
Tasks = dict[str, pd.DataFrame]  # the records of one member by task, indexed by seed


@dataclass(frozen=True)
class Group:
    """A group and way of asking: the tasks of every member, and by task the weight in the mean."""

    block: str
    name: str
    way: str
    members: dict[str, Tasks]
    types: dict[str, str]

    def weights(self, tasks: Sequence[str]) -> list[float]:
        """What a task weighs in the mean: all the same, or all types the same and within a type all its tasks."""
        each = [self.types.get(task, "") for task in tasks]
        return [1 / len(set(each)) / each.count(name) for name in each]


def group_means(study: StudyRecords) -> pd.DataFrame:
    """A row per block, group, way and member with the mean of its tasks, its interval, and the tasks that are lacking.

    `member` may be a difference ("encoder − decoder"), with its p against none.
    """
    rows: list[dict[str, Any] | None] = []
    for block in study.blocks:
        runs = study.runs[study.runs["block"] == block]
        pairs = estimates.comparisons(runs)
        for group in _groups(study, runs, block):
            rows += [_row(study, group, member) for member in group.members]
            rows += [_row(study, group, *pair) for pair in pairs if set(pair) <= set(group.members)]
    return pd.DataFrame([row for row in rows if row], columns=COLUMNS)


def _groups(study: StudyRecords, runs: pd.DataFrame, block: str) -> list[Group]:
    """The groups of a block, that of all types of MTEB last."""
    records = estimates.measured(study, runs)
    records = records[records["value"].notna()]
    if records.empty:
        return []
    types = _types(study.measurements)
    keys = zip(records["protocol"], records["scored_as"], records["task"], records["metric"], strict=True)
    groups = [
        _group(protocol, task, metric, types.get((scored, task), NO_TYPE)) for protocol, scored, task, metric in keys
    ]
    records = records.assign(group=groups, way=[_way(name) for name in records["protocol"]])
    result, embedded = [], records[records["group"].str.startswith("MTEB")]
    for (name, way), rows in records[records["group"] != ""].groupby(["group", "way"], sort=False):
        result.append(Group(block, str(name), str(way), _by_member(rows), {}))
    for way, rows in embedded.groupby("way", sort=False):
        of_task = dict(zip(rows["task"].map(plain_task), rows["group"], strict=True))
        result.append(Group(block, "MTEB, mean over types", str(way), _by_member(rows), of_task))
    return result


def _by_member(records: pd.DataFrame) -> dict[str, Tasks]:
    return {
        member: {
            plain_task(str(task)): rows.drop_duplicates("seed", keep="last").set_index("seed", drop=False)
            for task, rows in of_member.groupby("task", sort=False)
        }
        for member, of_member in ((str(name), rows) for name, rows in records.groupby("member", sort=False))
    }


def _row(study: StudyRecords, group: Group, left: str, right: str | None = None) -> dict[str, Any] | None:
    """The mean of a member, or its difference to another over the tasks and seeds that both have; None without any."""
    sides = [group.members[name] for name in (left, right) if name is not None]
    tasks = [task for task in sides[0] if all(task in side for side in sides)]
    seeds = sorted(set.intersection(*({*side[task].index} for side in sides for task in tasks)) if tasks else ())
    if not seeds:
        return None
    weights = group.weights(tasks)
    chosen = [[side[task].loc[seeds] for task in tasks] for side in sides]
    values = [np.array([rows["value"].to_numpy(dtype=float) for rows in side]) for side in chosen]
    parts = [estimates.components(study.items, *rows) for rows in zip(*chosen, strict=True)]
    bounds = inference.weighted(parts, weights, values[0] if right is None else values[0] - values[1])
    wanted = WANTED.get(group.name, tasks)
    items = "items" if not np.isnan([float(part.items) for part in parts]).any() else ""
    runs = f"{len(seeds)} seeds" if len(seeds) > 1 else ""
    return {
        "block": group.block,
        "group": group.name,
        "way": group.way,
        "member": left if right is None else f"{left} − {right}",
        "value": float(bounds.value),
        "low": float(bounds.low),
        "high": float(bounds.high),
        "p": float("nan") if right is None else float(bounds.p),
        "over": "none" if np.isnan(bounds.low) else " and ".join(filter(None, [runs, items])),
        "tasks": len(tasks),
        "of": len(wanted),
        "lacking": ", ".join(sorted(set(wanted) - set(tasks))),
    }


def _types(measurements: pd.DataFrame) -> dict[tuple[str, str], str]:
    """The type of every task of MTEB by protocol and task, as its record says (MTEB's metadata)."""
    embeddings = measurements[measurements["protocol"].str.startswith(f"{MTEB}.")]
    return {
        (protocol, task): origin["task_type"]
        for protocol, task, origin in zip(
            embeddings["protocol"], embeddings["task"], embeddings["provenance"], strict=True
        )
        if origin.get("task_type")
    }


def _group(protocol: str, task: str, metric: str, kind: str) -> str:
    """The group that a score belongs to; empty for none."""
    question, _ = split(protocol)
    name, metric = plain_task(task), ALIASES.get(metric, metric)
    if question.startswith("finetune") and GLUE.get(name) == metric:
        return "GLUE"
    if question == "lm_eval" and GENERATIVE.get(name) == metric:
        return "Generative tasks"
    if (
        question.startswith(f"{MTEB}.")
        and not metric.endswith("_dev")
        and metric not in SEARCH_COSTS
        and "/" not in task
    ):
        return f"MTEB, {kind}"
    return ""


def plain_task(task: str) -> str:
    """The name of a task, whether it is read offline or not."""
    name = task.removeprefix("offline_")
    return ALIASES.get(name, name)


def _way(protocol: str) -> str:
    question, way = split(protocol)
    start = question.partition(".")[2]
    return ", ".join(filter(None, [way_name(way), start.replace("_", " ") if start else ""]))


def groups_table(means: pd.DataFrame) -> Table:
    """Rows are groups and ways, columns are members and differences; a mean of fewer tasks than published says so."""
    single = [name for name in dict.fromkeys(means["member"]) if " − " not in name]
    columns = wording.members_first(set(single))
    columns += [name for name in dict.fromkeys(means["member"]) if " − " in name]
    rows = []
    for (block, group, way), of_group in means.groupby(["block", "group", "way"], sort=False):
        by_member = of_group.set_index("member")
        shown = [_shown(by_member.loc[name]) if name in by_member.index else HOLE for name in columns]
        rows.append((str(block), [f"{group} ({way})", *shown]))
    lacking = [
        f"{row.group}, {row.member}, lacks {row.lacking}."
        for row in means.itertuples()
        if row.lacking and row.member in single
    ]
    notes = [
        "Plain means of the tasks' scores. Means of fewer tasks than published are not comparable to the published ones.",
        "Brackets: 95% interval over runs and clustered items. Without brackets: some task keeps no items and no error.",
        "Differences are paired, over the tasks that both members have. They have no verdict: they repeat what the tasks say.",
    ]
    header = ["Group", *columns]
    return Table("groups", "Means of groups of tasks", header, grouped(rows), [*notes, *dict.fromkeys(lacking)])


def _shown(row: pd.Series) -> str:
    spell = signed if " − " in str(row.name) else number
    interval = "" if np.isnan(row["low"]) else f" [{spell(row['low'])}, {spell(row['high'])}]"
    few = "" if row["tasks"] == row["of"] else f" ({row['tasks']} of {row['of']} tasks)"
    return spell(row["value"]) + interval + few
