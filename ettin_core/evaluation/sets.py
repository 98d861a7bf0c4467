"""Where probes get their items: the world a corpus was written by, and files of real evaluation sets with known fields."""

import gzip
import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ettin_core.data.config import DataConfig
from ettin_core.data.corpus import Corpus
from ettin_core.data.importers.world import world_of
from ettin_core.data.world import World
from ettin_core.foundation.errors import invalid
from ettin_core.foundation.storage import hash_file
from ettin_core.foundation.structures import build


@dataclass(frozen=True, eq=False)
class EvaluationSet:
    """A file of the folder of evaluation sets: what its rows hold, and which fields a row may lack."""

    file: str
    fields: dict[str, type | tuple[type, ...]]
    optional: frozenset[str] = frozenset()

    def rows(self, folder: Path) -> Iterator[dict[str, Any]]:
        """Checked rows. Raises ValueError naming file, line and field for what is damaged, unknown, missing or empty."""
        path = folder / self.file
        for number, row in enumerate(read_rows(path), start=1):
            problem = self._problem(row)
            if problem is not None:
                field, what = problem
                known = f"its fields are {', '.join(self.fields)}"
                raise invalid("suite.eval_data", f"{path}:{number}", f"{what} {field!r}", known)
            yield row

    def _problem(self, row: Any) -> tuple[str, str] | None:
        if not isinstance(row, dict):
            return "row", "is not an object but a"
        for name in row:
            if name not in self.fields:
                return name, "has the unknown field"
        for name, kind in self.fields.items():
            value = row.get(name)
            if value is None or value == "":
                if name not in self.optional:
                    return name, "lacks a value of the field"
            elif not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
                return name, f"has a {type(value).__name__} in the field"
        return None


NUMBER = (int, float)
BLIMP = EvaluationSet(
    "probing/blimp.jsonl.gz",
    {
        "UID": str,
        "pairID": (str, int),
        "field": str,
        "term": str,
        "good": str,
        "bad": str,
        "simple_LM_method": bool,
    },
    frozenset({"simple_LM_method"}),
)
WINOGENDER = EvaluationSet(
    "bias/winogender.jsonl.gz",
    {
        "id": str,
        "sentence": str,
        "occupation": str,
        "participant": str,
        "answer": int,
        "pronoun_gender": str,
        "bls_pct_female": NUMBER,
        "bergsma_pct_female": NUMBER,
    },
)
WINOBIAS = EvaluationSet(
    "bias/winobias.jsonl.gz",
    {
        "id": str,
        "pair_id": str,
        "split": str,
        "type": int,
        "condition": str,
        "sentence": str,
        "bracketed": str,
        "antecedent": str,
        "pronoun": str,
    },
    frozenset({"split", "bracketed", "antecedent"}),
)
CROWS_PAIRS = EvaluationSet(
    "bias/crows_pairs.jsonl.gz",
    {"id": str, "sent_more": str, "sent_less": str, "direction": str, "bias_type": str, "annotations": list},
    frozenset({"annotations"}),
)
STEREOSET = EvaluationSet(
    "bias/stereoset_intrasentence.jsonl.gz",
    {
        "id": str,
        "file": str,
        "bias_type": str,
        "target": str,
        "context": str,
        "stereotype": str,
        "anti_stereotype": str,
        "unrelated": str,
    },
    frozenset({"file", "context"}),
)


def corpus_world(corpus: Corpus | None) -> World | None:
    """The world a corpus was written by, if there is one and it was."""
    if corpus is None or corpus.manifest["kind"] != "world":
        return None
    return world_of(build(DataConfig, corpus.manifest["config"]))


def check_folder(folder: str, sets: Sequence[EvaluationSet]) -> None:
    """Refuse (ValueError) a folder that lacks one of the sets."""
    if not Path(folder).is_dir():
        raise invalid("suite.eval_data", folder, "is not a folder", "give the folder of evaluation sets")
    for item in sets:
        if not (Path(folder) / item.file).is_file():
            remedy = "add it, choose suite.protocols that do without it, or leave eval_data null"
            raise invalid("suite.eval_data", folder, f"lacks {item.file}", remedy)


def check_rows(folder: Path, sets: Sequence[EvaluationSet]) -> None:
    """Refuse (ValueError) a set with a row that could not be measured, before anything is."""
    for item in sets:
        for _ in item.rows(folder):
            pass


def set_hashes(folder: Path, sets: Sequence[EvaluationSet]) -> dict[str, str]:
    """sha256 of each set, for the record of what was measured."""
    return {item.file: hash_file(folder / item.file) for item in sets}


def read_rows(file: Path) -> Iterator[Any]:
    """Rows of a gzipped JSON-lines file. Raises ValueError for one that is damaged."""
    number = 0
    try:
        with gzip.open(file, "rt", encoding="utf-8") as stream:
            for number, line in enumerate(stream, start=1):  # noqa: B007
                yield json.loads(line)
    except (EOFError, gzip.BadGzipFile, zlib.error, UnicodeDecodeError, json.JSONDecodeError) as error:
        where = f"{file}:{number or 1}"
        raise invalid("suite.eval_data", where, f"is damaged ({error})", "fetch the file again") from error


def every(rows: Sequence[Any], count: int | None) -> list[Any]:
    """`count` of the rows (None or more than there are: all), evenly spaced, so that every part of a set is in it."""
    if count is None or count >= len(rows):
        return list(rows)
    return [rows[place * len(rows) // count] for place in range(count)]
