"""The numbers of a study by key, so that no sentence has one that was typed by hand; and the same as LaTeX macros."""

import re

import pandas as pd

from analysis.render import escape, with_letters
from analysis.study_records import StudyRecords, rows_of
from analysis.tables import number, power, signed


def entropy_ratios(cells: pd.DataFrame) -> pd.DataFrame:
    """Bits per token of every causal member as a multiple of the text's entropy, where the entropy is known."""
    known = cells[(cells["metric"] == "bits_per_token") & cells["value"].notna() & cells["reference"].notna()]
    return known.assign(ratio=known["value"] / known["reference"])


def by_key(study: StudyRecords, analysis_numbers: dict[str, str]) -> dict[str, str]:
    """The numbers that every study has and those that its analysis found, as texts, by the key that a sentence names."""
    values = {"study": study.name, "runs": str(len(study.runs)), "claim": study.claim, **analysis_numbers}
    return values | _rulers(study, len(study.blocks) > 1)


def macros(values: dict[str, str]) -> str:
    r"""`\result{key}` for every number, in LaTeX; an unknown key prints a dash."""
    lines = [
        f"\\expandafter\\def\\csname result@{_plain(key)}\\endcsname{{{escape(text)}}}" for key, text in values.items()
    ]
    lookup = "\\newcommand{\\result}[1]{\\ifcsname result@#1\\endcsname\\csname result@#1\\endcsname\\else---\\fi}"
    return with_letters("\n".join([lookup, *lines]) + "\n")


def of_pair(study: StudyRecords, cells: pd.DataFrame, differences: pd.DataFrame) -> dict[str, str]:
    """The numbers of a pair study.

    Keys: facts.left_to_right/once/accuracy/encoder, its /low, /high; facts.left_to_right/once/accuracy/encoder-decoder for a
    paired difference; encoder/tokens and the other rulers; decoder/entropy ratio. With several sizes or corpora, or several
    seeds, a key starts with the block or ends with the seed.
    """
    several = len(study.blocks) > 1
    values: dict[str, str] = {}
    for cell in rows_of(cells[cells["value"].notna()]):
        key = f"{_prefix(cell.block, several)}{cell.protocol}/{cell.task}/{cell.metric}/{cell.member}"
        values[key] = number(cell.value)
        if not pd.isna(cell.low):
            values |= {f"{key}/low": number(cell.low), f"{key}/high": number(cell.high)}
    for row in rows_of(differences):
        key = f"{_prefix(row.block, several)}{row.protocol}/{row.task}/{row.metric}/{row.left}-{row.right}"
        values |= {key: signed(row.value), f"{key}/words": str(row.words)}
    for row in rows_of(entropy_ratios(cells)):
        values[f"{_prefix(row.block, several)}{row.member}/entropy ratio"] = number(row.ratio)
    return values


def _rulers(study: StudyRecords, several: bool) -> dict[str, str]:
    values: dict[str, str] = {}
    seeds = study.runs.groupby(["block", "member"])["seed"].transform("size")
    for run in rows_of(study.runs.assign(seeds=seeds)):
        key = f"{_prefix(run.block, several)}{run.member}" + (f"/seed {run.seed}" if run.seeds > 1 else "")
        values |= {f"{key}/tokens": f"{run.tokens:,}", f"{key}/loss tokens": f"{run.loss_tokens:,}"}
        values |= {f"{key}/parameters": f"{run.parameters:,}", f"{key}/flops": power(run.flops)}
    return values


def _prefix(block: object, several: bool) -> str:
    return f"{block}/" if several else ""


def _plain(key: str) -> str:
    """A key without the characters that LaTeX acts upon."""
    return re.sub(r"[^A-Za-z0-9_.,/ -]", "-", key)
