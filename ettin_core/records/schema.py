"""The typed rows of evidence. Append-only JSON lines; `analysis` reads these and nothing else."""

import functools
import math
import types
from dataclasses import MISSING, asdict, dataclass, field, fields
from typing import Any, get_args, get_origin, get_type_hints

from ettin_core.foundation.errors import invalid, unknown

SCHEMA_VERSION = 1
COUNTS = {"step", "tokens", "loss_tokens", "flops", "skipped", "version", "n"}
NOT_NEGATIVE = COUNTS | {"learning_rate", "gradient_norm", "seconds", "tokens_per_second", "mfu", "standard_error"}
CHOICE = "validation_"  # protocols whose names begin so are what choices are made on: no report shows them


@dataclass(frozen=True)
class TrainingRecord:
    """One logged training step of one run.

    `tokens`, `loss_tokens` and `flops` are cumulative over the whole run (all phases so far). `loss` is in nats per
    loss-bearing token over the steps since the previous row (None: all of their updates were left out), `gradient_norm` that
    of the last of them. `data_hash` is
    the rolling hash of the unmasked token ids. `skipped` counts the updates left out so far because a number was not
    finite; if the last one was, it has no gradient norm and no update ratios.

    `source_losses` is `loss` by source. Of the last step: `update_ratios`, |change| / |weights| by group of parameters, and
    `attention_logits`, the largest of each layer on the first row of the batch.
    """

    phase: str
    step: int
    tokens: int
    loss_tokens: int
    flops: float
    loss: float | None
    learning_rate: float
    gradient_norm: float | None
    data_hash: str
    skipped: int = 0
    source_losses: dict[str, float] = field(default_factory=dict)
    update_ratios: dict[str, float] = field(default_factory=dict)
    attention_logits: list[float] = field(default_factory=list)
    kind: str = "training"
    schema: int = SCHEMA_VERSION


@dataclass(frozen=True)
class TimingRecord:
    """Wall clock beside the deterministic rows: never part of what must be reproduced bit for bit.

    `mfu` is the share of the device's peak that the model's FLOPs are (training/hardware.py); it was not always recorded.
    """

    step: int
    seconds: float
    tokens_per_second: float
    mfu: float | None = None
    kind: str = "timing"
    schema: int = SCHEMA_VERSION


@dataclass(frozen=True)
class Measurement:
    """One measured value of one checkpoint under one protocol.

    `value` is None when it could not be measured (a hole, never a zero; where it was no finite number, provenance has the
    reason under `hole`). `standard_error` is over the `n` items.
    `provenance` holds checkpoint hash, data hash and library versions.
    """

    run: str
    member: str
    size: str
    seed: int
    protocol: str
    version: int
    task: str
    metric: str
    value: float | None
    n: int
    standard_error: float | None
    checkpoint: str
    higher_is_better: bool
    reference: float | None = None
    provenance: dict[str, Any] = field(default_factory=dict)
    kind: str = "measurement"
    schema: int = SCHEMA_VERSION


@dataclass(frozen=True)
class Item:
    """The score of one item of a measurement, kept so that intervals and paired tests can be computed later.

    Of `details`, `cluster` names the items that are not independent of it (none: it is its own), and what is stored under the
    name of a metric is the item's value of that metric.
    """

    run: str
    protocol: str
    task: str
    item: str
    value: float
    details: dict[str, Any] = field(default_factory=dict)
    kind: str = "item"
    schema: int = SCHEMA_VERSION


RECORD_KINDS: dict[str, type] = {
    "training": TrainingRecord,
    "timing": TimingRecord,
    "measurement": Measurement,
    "item": Item,
}


def to_row(record: TrainingRecord | TimingRecord | Measurement | Item) -> dict[str, Any]:
    """The JSON row of a record. Raises ValueError for a field of another type, or a number that is not finite."""
    row = asdict(record)
    _check_fields(type(record), row)
    return row


def from_row(row: dict[str, Any]) -> Any:
    """The record of a JSON row. Raises ValueError for another schema version, unknown fields or values that cannot be."""
    version = row.get("schema")
    if type(version) is not int or version != SCHEMA_VERSION:
        raise invalid("schema", version, "is not readable here", f"use records of schema {SCHEMA_VERSION}")
    kind = RECORD_KINDS.get(str(row.get("kind")))
    if kind is None:
        raise unknown("kind", row.get("kind"), "is not a record kind", RECORD_KINDS)
    known, required = _field_names(kind)
    if more := row.keys() - known:
        raise invalid("row", sorted(more), "holds unknown fields", "read it with the version that wrote it")
    if lacking := required - row.keys():
        raise invalid("row", sorted(lacking), "are fields it lacks", "restore the file that holds it")
    _check_fields(kind, row)
    return kind(**row)


def is_finite(value: Any) -> bool:
    """Whether no number in a plain value, at any depth, is NaN or infinite."""
    if type(value) is float:
        return math.isfinite(value)
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, float) and not math.isfinite(item):
            return False
        if isinstance(item, int) and item.bit_length() > 1023:  # more than any float
            return False
        waiting += item.values() if isinstance(item, dict) else item if isinstance(item, list | tuple) else ()
    return True


def check_number(name: str, value: Any, kind: type, signed: bool = False) -> None:
    """Raises ValueError for what is not a finite number of the kind (int or float), or is negative and must not be."""
    if isinstance(value, bool) or not isinstance(value, int if kind is int else int | float):
        raise invalid(name, value, f"is not of type {kind.__name__}", "restore the file that holds it")
    if not is_finite(value):
        raise invalid(name, value, "is not a finite number", "restore the file that holds it")
    if value < 0 and not signed:
        raise invalid(name, value, "is negative", "restore the file that holds it")


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


@functools.cache
def _field_names(kind: type) -> tuple[frozenset[str], frozenset[str]]:
    """The fields of a kind of record, and those of them that a row must have."""
    required = [item.name for item in fields(kind) if item.default is MISSING and item.default_factory is MISSING]
    return frozenset(item.name for item in fields(kind)), frozenset(required)


def _check_fields(kind: type, row: dict[str, Any]) -> None:
    hints = _hints(kind)
    for name, value in row.items():
        if hints[name] is not str or type(value) is not str:  # most fields of most rows are texts, which hold no number
            _check(name, hints[name], value)


def _check(name: str, hint: Any, value: Any) -> None:
    """Raises ValueError for a value that is not of the type of its field."""
    if isinstance(hint, types.UnionType):
        if value is not None:
            _check(name, get_args(hint)[0], value)
    elif hint in (int, float):
        check_number(name, value, hint, signed=name not in NOT_NEGATIVE)
    elif not isinstance(value, get_origin(hint) or hint):
        expected = (get_origin(hint) or hint).__name__
        raise invalid(name, value, f"is not of type {expected}", "restore the file that holds it")
    elif isinstance(value, dict | list) and get_args(hint)[-1] is float:
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            check_number(f"{name}.{key}", item, float, signed=True)
    elif not is_finite(value):
        raise invalid(name, value, "holds a number that is not finite", "restore the file that holds it")
