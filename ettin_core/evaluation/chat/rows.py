"""Conversations and preferences from JSON lines or the hub: checked row by row, split by rule.

A row that states its `split` belongs there: train is trained on, test is held out (validation, where no row is of test). Rows
without one are held out by a hash of their first message, so that no prompt is on both sides.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from ettin_core.evaluation.lines import SUFFIXES, rows_of, stem_of
from ettin_core.foundation.errors import invalid
from ettin_core.foundation.storage import hash_text

Messages = list[dict[str, str]]
HELD_OUT = ("test", "validation", "dev")  # the first that a file has
TRAINED = 0.96  # share of the rows without a split that are trained on
ORDER = "begin with user (or one system message), alternate user and assistant, and end with assistant"


@dataclass(frozen=True)
class Conversation:
    """Messages whose last is the assistant's."""

    name: str
    messages: Messages


@dataclass(frozen=True)
class Preference:
    """A prompt with the answer that was chosen and the one that was not."""

    name: str
    prompt: Messages
    chosen: Messages
    rejected: Messages


Row = TypeVar("Row", Conversation, Preference)


@dataclass(frozen=True)
class SplitRows(Generic[Row]):
    """The rows to train on, those to measure on, and what the data is called."""

    task: str
    train: list[Row]
    held_out: list[Row]


def read_conversations(source: str) -> SplitRows[Conversation]:
    """Rows with `messages`. Raises ValueError naming file and line, also for a split without rows."""
    return _read("conversations", source, _conversation)


def read_preferences(source: str) -> SplitRows[Preference]:
    """Rows with `prompt`, `chosen` and `rejected`. Raises ValueError as `read_conversations`."""
    return _read("preferences", source, _preference)


def _read(field: str, source: str, row_of: Callable[[dict[str, Any], str, str], Row]) -> SplitRows[Row]:
    rows = [
        (row.get("split"), place, row_of(row, str(number if row.get("id") is None else row["id"]), place))
        for number, (place, row) in enumerate(_rows(field, source))
    ]
    stated = {split for split, _, _ in rows}
    held_out = next((name for name in HELD_OUT if name in stated), None)
    if stated == {None}:
        chosen = [("train" if _trained(row) else "test", row) for _, _, row in rows]
        held_out = "test"
    elif None in stated:
        place = next(place for split, place, _ in rows if split is None)
        raise invalid("row", place, "lacks the field 'split', which other rows have", "give it to all rows, or to none")
    else:
        chosen = [(str(split), row) for split, _, row in rows]
    train, measured = ([row for split, row in chosen if split == name] for name in ("train", held_out))
    if not train or not measured:
        empty = "train" if not train else f"held out ({', '.join(HELD_OUT)})"
        raise invalid(field, source, f"has no row that is {empty}", "give rows of both splits, or no field 'split'")
    for side in (train, measured):
        name, count = Counter(row.name for row in side).most_common(1)[0]
        if count > 1:
            problem = f"has {count} rows with the id {name!r} in a split"
            raise invalid(field, source, problem, "give every row a different id, or none")
    return SplitRows(stem_of(Path(source).name), train, measured)


def _trained(row: Conversation | Preference) -> bool:
    messages = row.messages if isinstance(row, Conversation) else row.prompt
    first = next(message["content"] for message in messages if message["role"] == "user")
    return int(hash_text(f"split|{first[:200]}")[:12], 16) / 16**12 < TRAINED


def _rows(field: str, source: str) -> Iterator[tuple[str, dict[str, Any]]]:
    if Path(source).is_file():
        yield from rows_of(Path(source))
        return
    if source.endswith(SUFFIXES) or source.startswith((".", "/")):
        raise invalid(field, source, "is not a file", "give JSON lines (.jsonl, .jsonl.gz, .jsonl.zst) or a hub id")
    import datasets

    try:
        loaded = datasets.load_dataset(source)
    except (OSError, ValueError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        remedy = "give a file, or turn the network on (HF_HUB_OFFLINE=0 HF_DATASETS_OFFLINE=0)"
        raise invalid(
            field, source, f"is neither a file nor a data set that can be fetched ({reason})", remedy
        ) from error
    for split, rows in loaded.items():
        for number, row in enumerate(rows):
            yield f"{source}:{split}:{number}", {"split": split if len(loaded) > 1 else None, **row}


def _conversation(row: dict[str, Any], name: str, place: str) -> Conversation:
    messages = _messages(row, "messages", place)
    roles = [message["role"] for message in messages]
    turns = roles[1:] if roles[0] == "system" else roles
    if not turns or len(turns) % 2 or turns != ["user", "assistant"] * (len(turns) // 2):
        raise invalid("row", place, f"has roles out of order ({', '.join(roles)})", ORDER)
    return Conversation(name, messages)


def _preference(row: dict[str, Any], name: str, place: str) -> Preference:
    prompt, chosen, rejected = (_messages(row, field, place) for field in ("prompt", "chosen", "rejected"))
    for answer in (chosen, rejected):
        _conversation({"messages": prompt + answer}, name, place)
        if len(answer) != 1:
            raise invalid("row", place, "has an answer of several messages", "give one assistant message in each")
    if chosen == rejected:
        raise invalid("row", place, "prefers an answer to itself", "give two answers that differ")
    return Preference(name, prompt, chosen, rejected)


def _messages(row: dict[str, Any], field: str, place: str) -> Messages:
    """The messages of a field, with role and content alone."""
    messages = row.get(field)
    if not isinstance(messages, Sequence) or isinstance(messages, str) or not messages:
        remedy = f"give {field} as a list of objects with role and content"
        raise invalid("row", place, f"lacks a list of messages in the field {field!r}", remedy)
    for message in messages:
        texts = [message.get(name) if isinstance(message, dict) else None for name in ("role", "content")]
        if not all(isinstance(text, str) and text for text in texts):
            raise invalid("row", place, f"has a message without role or content in {field!r}", "give both as text")
    return [{name: message[name] for name in ("role", "content")} for message in messages]
