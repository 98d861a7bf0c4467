"""Held-out text stays out of train: hashes of every held-out document, in which training documents are looked up.

Two documents are copies when they are equal but for case and white space, in whatever sources and files. A table has 16 bytes
a held-out document; of a training document only the beginning is hashed, unless a held-out one begins so.
"""

import hashlib
import io
from array import array
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from ettin_core.data.documents import SPLITS
from ettin_core.foundation.storage import write_bytes

HELD_OUT_SPLITS = ("validation", "test")
COPY, NEAR_COPY = "held_out_copy", "held_out_near_copy"
_HEAD, _WINDOW = 32, 128  # characters that a head has, and in which they are looked for first
_NAMES = ("heads", "keys")


def _normal(text: str) -> str:
    return " ".join(text.casefold().split())


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def text_key(text: str) -> int:
    """64 bits that are equal for texts that are equal but for case and white space."""
    return _hash(_normal(text))


def head_key(text: str) -> int:
    """The same of a text's first characters."""
    head = _normal(text[:_WINDOW])
    return _hash((head if len(head) >= _HEAD or len(text) <= _WINDOW else _normal(text))[:_HEAD])


def write_table(file: Path, held_out: Iterable[tuple[str, str]]) -> None:
    """Write the keys of (split, text) of a part: (documents, 3) uint64 of head, text and number of the split."""
    rows = array("Q")
    for split, text in held_out:
        rows.extend((head_key(text), text_key(text), SPLITS.index(split)))
    _save(file, np.frombuffer(rows, dtype=np.uint64).reshape(-1, 3))


def _save(file: Path, table: np.ndarray) -> None:
    content = io.BytesIO()
    np.save(content, table)
    write_bytes(file, content.getvalue())


def merge_tables(folder: Path, files: Sequence[Path]) -> dict[str, int]:
    """Join the tables of all parts into one in `folder`; returns how many documents are held out, and texts in two splits."""
    for column, name in enumerate(_NAMES):
        _save(folder / f"{name}.npy", np.unique(_column(files, column)))
    splits, keys = _column(files, 2), _column(files, 1)
    by_split = (keys[splits == SPLITS.index(split)] for split in HELD_OUT_SPLITS)
    return {"documents": len(keys), "texts_in_both": len(np.intersect1d(*by_split))}


def _column(files: Sequence[Path], column: int) -> np.ndarray:
    return np.concatenate([np.empty(0, np.uint64), *(np.load(file)[:, column].copy() for file in files)])


class HeldOut:
    """The merged table, mapped from its files; without them nothing is held out."""

    def __init__(self, folder: Path) -> None:
        files = [folder / f"{name}.npy" for name in _NAMES]
        self._heads, self._keys = (
            np.load(file, mmap_mode="r") if file.exists() else np.empty(0, np.uint64) for file in files
        )

    def copies(self, texts: Sequence[str]) -> list[int]:
        """Which of some texts are copies of held-out ones, by their place."""
        alike = _known(self._heads, [head_key(text) for text in texts])
        same = _known(self._keys, [text_key(texts[place]) for place in alike])
        return [alike[place] for place in same]


def _known(table: np.ndarray, keys: list[int]) -> list[int]:
    """The places of the keys that a sorted table holds."""
    if not len(table) or not keys:
        return []
    wanted = np.array(keys, dtype=np.uint64)
    slots = np.minimum(np.searchsorted(table, wanted), len(table) - 1)
    return np.flatnonzero(table[slots] == wanted).tolist()
