"""The typed rows of evidence. Append-only JSON lines; `analysis` reads these and nothing else."""

from dataclasses import MISSING, asdict, dataclass, field, fields
from typing import Any

from ettin_core.foundation.errors import invalid

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class TrainingRecord:
    """One logged training step of one run.

    `tokens`, `loss_tokens` and `flops` are cumulative over the whole run (all phases so far). `loss` is in nats per
    loss-bearing token over the steps since the previous row, `gradient_norm` that of the last of them. `data_hash` is
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
    loss: float
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

    `value` is None when it could not be measured (a hole, never a zero). `standard_error` is over the `n` items.
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
    """The score of one item of a measurement, kept so that intervals and paired tests can be computed later."""

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
    """The JSON row of a record."""
    return asdict(record)


def from_row(row: dict[str, Any]) -> Any:
    """The record of a JSON row. Raises ValueError for another schema version or unknown fields."""
    if row.get("schema") != SCHEMA_VERSION:
        raise invalid("schema", row.get("schema"), "is not readable here", f"use records of schema {SCHEMA_VERSION}")
    kind = RECORD_KINDS.get(str(row.get("kind")))
    if kind is None:
        raise invalid("kind", row.get("kind"), "is not a record kind", f"use one of {', '.join(RECORD_KINDS)}")
    unknown = set(row) - {item.name for item in fields(kind)}
    if unknown:
        raise invalid("row", sorted(unknown), "holds unknown fields", "read it with the version that wrote it")
    required = {item.name for item in fields(kind) if item.default is MISSING and item.default_factory is MISSING}
    if lacking := sorted(required - set(row)):
        raise invalid("row", lacking, "are fields it lacks", "restore the file that holds it")
    return kind(**row)
