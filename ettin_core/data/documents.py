"""The common language of importers: pieces of a source, documents, and the reasons why something is left out."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ettin_core.data.config import SourceConfig
from ettin_core.foundation.errors import UserError, choose, invalid, unknown
from ettin_core.foundation.storage import hash_text

SPLITS = ("train", "validation", "test")
SPLIT_NAMES = {  # what folders, files and datasets call them, as Hugging Face's library has it
    **dict.fromkeys(("training", "train"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
    **dict.fromkeys(("testing", "test", "evaluation", "eval"), "test"),
}
HELD_OUT = 0.02
ONE_A_LINE = 'write one object a line, such as {"text": "..."}'


@dataclass(frozen=True)
class Piece:
    """A range of input that an importer reads as one unit of work, the same for every number of workers.

    `place` is a file, folder or shard. `begin` and `end` are bounds in the importer's unit: bytes, rows or documents (`end`
    None: to the end). `split` is the one that the input states (None: by a hash of each document's id). `size` is the amount
    of work, in bytes of input or a similar unit.
    """

    place: str
    split: str | None
    size: int
    begin: int = 0
    end: int | None = None


@dataclass(frozen=True)
class NotRead:
    """Files or folders that are not read, for one reason: how many, and the first few by their place in the folder."""

    count: int
    examples: tuple[str, ...]


@dataclass(frozen=True)
class Source:
    """A named source as found: the pieces it is read in, in order. `identity` changes when the content does.

    `not_read` says by reason what of its folder is not read; sources in one folder share it.
    """

    name: str
    config: SourceConfig
    identity: str
    pieces: tuple[Piece, ...]
    not_read: dict[str, NotRead] = field(default_factory=dict)


@dataclass(frozen=True)
class Document:
    """One document: its text, or token ids without marks at the ends. `log_probability` (nats) is known for `world`."""

    id: str
    text: str = ""
    tokens: np.ndarray | None = None
    log_probability: float | None = None


@dataclass(frozen=True)
class Skipped:
    """Something left out: the reason it is counted under, and the beginning of what it was."""

    id: str
    reason: str
    sample: str = ""


def place_of(path: Path, config: SourceConfig) -> str:
    """A file's place in the folder of its source ("en/part-0.jsonl"): ids of its documents begin with it."""
    place = path.relative_to(str(config.path))
    return place.as_posix() if place.parts else path.name


def split_of(document_id: str) -> str:
    """The split of a document whose input states none: 96 : 2 : 2 by a hash of its id, whatever the file order."""
    share = int(hash_text(f"split|{document_id}")[:12], 16) / 16**12
    return "test" if share < HELD_OUT else "validation" if share < 2 * HELD_OUT else "train"


def bad(config: SourceConfig, identity: str, error: UserError, reason: str, sample: str = "") -> Skipped:
    """A document that cannot be read: counted under `on_bad=skip`, else the error is raised with that as a remedy."""
    if config.on_bad == "skip":
        return Skipped(identity, reason, sample)
    raise UserError(f"{str(error).removesuffix('.')}, or set data.on_bad=skip to count and leave out such documents.")


def too_large(config: SourceConfig, where: str, identity: str, remedy: str, sample: str) -> Skipped:
    """A document beyond `config.max_document_mb`: a file of kilobytes may hold gigabytes when it is compressed."""
    problem = f"holds a document of more than {config.max_document_mb:g} MiB"
    error = invalid("data.path", where, problem, f"{remedy}, or raise data.max_document_mb")
    return bad(config, identity, error, "too_large", sample)


def from_row(row: Any, config: SourceConfig, where: str, default_id: str) -> Document | Skipped:
    """The document of a row with named columns.

    Args:
        row: a mapping by column; anything else is a bad document.
        where: the place of the row for the error message ("file:line").
        default_id: the id of a row that has none.

    Raises:
        ValueError: for a row without the text (or token) column, unless `config.on_bad` is skip.
    """
    problem = _missing(row, config, where)
    if problem is not None:
        return bad(config, default_id, problem, "missing_field", _beginning(row))
    value = row[config.token_field or config.text_field]
    stated = row.get(config.id_field)
    identity = default_id if stated is None else str(stated)
    for name, least in config.at_least.items():
        number = row.get(name)
        if isinstance(number, bool) or not isinstance(number, (int, float)):
            error = invalid("data.at_least", name, f"is not a number in {where} ({number!r})", "name a numeric column")
            return bad(config, default_id, error, "missing_field", _beginning(row))
        if not number >= least:  # true of NaN as well
            return Skipped(identity, f"{name}_below_{least:g}", "" if config.token_field else value[:300])
    if config.token_field:
        return _token_document(value, config, where, identity)
    if len(value) > config.max_document:
        return too_large(config, where, identity, "cut it", value[:300])
    try:
        value.encode()
    except UnicodeEncodeError:
        error = invalid("data.path", where, "holds half a character (\\ud800)", "mend the row")
        return bad(config, default_id, error, "invalid_text", _beginning(row))
    return Document(identity, value)


def _missing(row: Any, config: SourceConfig, where: str) -> UserError | None:
    """What is wrong with a row that has neither text nor tokens."""
    if not isinstance(row, Mapping):
        return invalid("data.path", where, f"is {_kind(row)} instead of an object with fields", ONE_A_LINE)
    wanted = config.token_field or config.text_field
    key = "data.token_field" if config.token_field else "data.text_field"
    value = row.get(wanted)
    if wanted not in row or (value is None and config.token_field):
        return unknown(key, wanted, f"is missing in {where}", row)
    if not config.token_field and not isinstance(value, str):
        texts = [name for name, item in row.items() if isinstance(item, str)]
        remedy = choose(wanted, texts) if texts else "write its text there, or leave the row out"
        return invalid(key, wanted, f"is {_kind(value)} instead of text in {where}", remedy)
    return None


def _kind(value: Any) -> str:
    """What a JSON value is."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else "a truth value"
    kinds = ((str, "a string"), (int | float, "a number"), (Mapping, "an object"))
    return next((name for kind, name in kinds if isinstance(value, kind)), "a list")


def _token_document(value: Any, config: SourceConfig, where: str, identity: str) -> Document | Skipped:
    """A document of token ids; anything but a list of whole numbers is a bad document."""
    try:
        tokens = np.asarray(value)
    except ValueError:  # lists of different lengths
        tokens = np.empty((), dtype=object)
    if tokens.ndim == 1 and not len(tokens):
        tokens = tokens.astype(np.int64)
    if tokens.ndim != 1 or tokens.dtype.kind not in "iu":
        form = f"is not a list of ids in {where} ({tokens.ndim} axes of {tokens.dtype})"
        error = invalid("data.token_field", config.token_field, form, "name a column of ids")
        return bad(config, identity, error, "invalid_tokens", str(value)[:300])
    return Document(identity, tokens=tokens)


def _beginning(row: Any) -> str:
    return json.dumps(row, default=str)[:300]
