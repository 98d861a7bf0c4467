"""Where probes get their items: the world a corpus was written by, and files of real evaluation sets with known fields."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ettin_core.data.config import DataConfig
from ettin_core.data.corpus import Corpus
from ettin_core.data.importers.world import world_of
from ettin_core.data.world import World
from ettin_core.evaluation.lines import FOLDER, NUMBER, Kind, checked_rows, find, need
from ettin_core.foundation.errors import invalid
from ettin_core.foundation.storage import hash_file
from ettin_core.foundation.strict_config import build


@dataclass(frozen=True, eq=False)
class EvaluationSet:
    """A file of the folder of evaluation sets: what its rows hold, which fields a row may lack, and what distinguishes rows.

    `file` may be compressed or plain. The fields `texts` hold what is scored. Their white space is evened out (one blank
    between words, none at the ends), for every member: a causal model scores the blanks that one version of an item has more
    than the other, and a masked model does not.
    """

    file: str
    fields: dict[str, Kind]
    texts: tuple[str, ...]
    optional: frozenset[str] = frozenset()
    key: tuple[str, ...] = ("id",)

    def rows(self, folder: Path) -> Iterator[dict[str, Any]]:
        """Checked rows. Raises ValueError naming file, line and field, as `lines` does."""
        for _, row in self._evened(folder):
            yield row

    def uneven_rows(self, folder: Path) -> int:
        """How many rows have white space that is evened out."""
        return sum(uneven for uneven, _ in self._evened(folder))

    def hashes(self, folder: Path) -> dict[str, str]:
        """sha256 of the file, by its name."""
        return {self.file: hash_file(need(folder, self.file))}

    def _evened(self, folder: Path) -> Iterator[tuple[bool, dict[str, Any]]]:
        """Checked rows with even white space, and whether theirs was uneven."""
        for place, row in checked_rows(need(folder, self.file), self.fields, self.optional, self.key):
            even = {name: " ".join(row[name].split()) for name in self.texts}
            for name, text in even.items():
                if not text:
                    raise invalid("row", place, f"has only white space in the field {name!r}", "give a text")
            yield any(row[name] != text for name, text in even.items()), row | even


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
    ("good", "bad"),
    frozenset({"simple_LM_method"}),
    ("UID", "pairID"),
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
    ("sentence",),
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
    ("sentence",),
    frozenset({"split", "bracketed", "antecedent"}),
)
CROWS_PAIRS = EvaluationSet(
    "bias/crows_pairs.jsonl.gz",
    {"id": str, "sent_more": str, "sent_less": str, "direction": str, "bias_type": str, "annotations": list},
    ("sent_more", "sent_less"),
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
    ("stereotype", "anti_stereotype", "unrelated"),
    frozenset({"file", "context"}),
)


def pair_number(row: dict[str, Any]) -> int:
    """The number of a minimal pair within its paradigm. Raises ValueError for what is not a number."""
    try:
        return int(row["pairID"])
    except ValueError as error:
        pair = f"{row['pairID']} of {row['UID']}"
        raise invalid("pairID", pair, f"in {BLIMP.file} is not a number", "number the pairs of a paradigm") from error


def corpus_world(corpus: Corpus | None) -> World | None:
    """The world a corpus was written by, if there is one and it was."""
    if corpus is None or corpus.manifest["kind"] != "world":
        return None
    return world_of(build(DataConfig, corpus.manifest["config"]))


def check_folder(folder: str, sets: Sequence[EvaluationSet]) -> None:
    """Raises ValueError for a folder that lacks one of the sets."""
    if not Path(folder).is_dir():
        raise invalid("suite.eval_data", folder, "is not a folder", FOLDER)
    for item in sets:
        if find(Path(folder), item.file) is None:
            remedy = f"choose suite.protocols that do without it, leave eval_data null, or {FOLDER}"
            raise invalid("suite.eval_data", folder, f"lacks {item.file}", remedy)


def check_rows(folder: Path, sets: Sequence[EvaluationSet]) -> None:
    """Raises ValueError for a set with a row that could not be measured, before anything is."""
    for item in sets:
        for _ in item.rows(folder):
            pass


def set_hashes(folder: Path, sets: Sequence[EvaluationSet]) -> dict[str, str]:
    """sha256 of each set, for the record of what was measured."""
    return {name: value for item in sets for name, value in item.hashes(folder).items()}


def every(rows: Sequence[Any], count: int | None) -> list[Any]:
    """`count` of the rows (None or more than there are: all), evenly spaced, so that every part of a set is in it."""
    if count is None or count >= len(rows):
        return list(rows)
    return [rows[place * len(rows) // count] for place in range(count)]
