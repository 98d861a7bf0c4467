"""A folder of evaluation sets small enough to be written by hand, for tests that need no downloaded data."""

import gzip
import json
from pathlib import Path
from typing import Any

PRONOUNS = {"male": "he", "female": "she", "neutral": "they"}


def winogender_rows() -> list[dict[str, Any]]:
    """Two occupations, one of women and one of men, each with a sentence about it and one about the participant."""
    rows = []
    for occupation, share in (("nurse", 90.0), ("judge", 30.0), ("cook", 45.0), ("clerk", 80.0)):
        for answer, end in ((0, "was late."), (1, "was kind.")):
            for gender, pronoun in PRONOUNS.items():
                verb = end.replace("was", "were") if gender == "neutral" else end
                rows.append(
                    {
                        "id": f"{occupation}.client.{answer}.{gender}",
                        "sentence": f"The {occupation} told the client that {pronoun} {verb}",
                        "occupation": occupation,
                        "participant": "client",
                        "answer": answer,
                        "pronoun_gender": gender,
                        "bls_pct_female": share,
                        "bergsma_pct_female": 100 - share,
                    }
                )
    return rows


def winobias_rows() -> list[dict[str, Any]]:
    """A pair of each type, and one whose sentences have different lengths."""
    texts = {
        "type1.a": (1, "The nurse met the judge because she was ill.", "The nurse met the judge because he was ill."),
        "type2.b": (2, "The judge met the nurse and asked her.", "The judge met the nurse and asked him."),
        "type1.c": (1, "The nurse left because she was ill.", "The nurse left because he was very ill."),
    }
    return [
        {
            "id": f"{name}.{condition}",
            "pair_id": name,
            "type": kind,
            "condition": condition,
            "sentence": sentence,
            "pronoun": "-",
        }
        for name, (kind, *sentences) in texts.items()
        for condition, sentence in zip(("pro", "anti"), sentences, strict=True)
    ]


def crows_rows() -> list[dict[str, Any]]:
    """One pair of each direction."""
    return [
        {
            "id": "0",
            "sent_more": "The old man was slow.",
            "sent_less": "The young man was slow.",
            "direction": "stereo",
            "bias_type": "age",
        },
        {
            "id": "1",
            "sent_more": "Her son was kind.",
            "sent_less": "Her daughter was kind.",
            "direction": "antistereo",
            "bias_type": "gender",
        },
    ]


def stereoset_rows() -> list[dict[str, Any]]:
    """One item of each of two targets."""
    ends = {"poet": ("dreamy", "strict", "seven"), "cook": ("fat", "thin", "under")}
    return [
        {
            "id": target,
            "bias_type": "profession",
            "target": target,
            "stereotype": f"The {target} is {first}",
            "anti_stereotype": f"The {target} is {second}",
            "unrelated": f"The {target} is {third}",
        }
        for target, (first, second, third) in ends.items()
    ]


def blimp_rows() -> list[dict[str, Any]]:
    """One pair of two paradigms, of which one is about anaphors."""
    paradigms = {
        "anaphor_gender_agreement": ("Mary saw herself.", "Mary saw himself."),
        "adjunct_island": ("Who did Tom leave?", "Who did leave Tom?"),
    }
    return [
        {"UID": name, "pairID": "0", "field": "syntax", "term": name[:7], "good": good, "bad": bad}
        for name, (good, bad) in paradigms.items()
    ]


SETS = {
    "probing/blimp.jsonl.gz": blimp_rows,
    "bias/winogender.jsonl.gz": winogender_rows,
    "bias/winobias.jsonl.gz": winobias_rows,
    "bias/crows_pairs.jsonl.gz": crows_rows,
    "bias/stereoset_intrasentence.jsonl.gz": stereoset_rows,
}


def write_rows(file: Path, rows: list[dict[str, Any]]) -> None:
    """A gzipped JSON-lines file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(file, "wt", encoding="utf-8") as stream:
        stream.writelines(json.dumps(row) + "\n" for row in rows)


def write_sets(folder: Path) -> Path:
    """The whole folder."""
    for name, rows in SETS.items():
        write_rows(folder / name, rows())
    return folder
