"""Damaged records and study files: what may be wrong in each field, by the file of a run folder that holds it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

Damage = Callable[[Path], object]


def setting(**changes: Any) -> Callable[[dict[str, Any]], Any]:
    """Change fields of a mapping; None takes a field away."""

    def change(value: dict[str, Any]) -> dict[str, Any]:
        return {key: item for key, item in (value | changes).items() if item != "ABSENT"}

    return change


def document(change: Callable[[dict[str, Any]], Any]) -> Damage:
    """Change a JSON file as a whole."""

    def damage(file: Path) -> None:
        file.write_text(json.dumps(change(json.loads(file.read_text()))))

    return damage


def line(change: Callable[[dict[str, Any]], Any], number: int = -1) -> Damage:
    """Change a row of a JSON-lines file."""

    def damage(file: Path) -> None:
        rows = file.read_text().splitlines()
        rows[number] = json.dumps(change(json.loads(rows[number])))
        file.write_text("\n".join(rows) + "\n")

    return damage


def text(content: str | bytes) -> Damage:
    """Write other bytes."""
    return lambda file: file.write_bytes(content.encode() if isinstance(content, str) else content) and None


NAN, INFINITY = float("nan"), float("inf")
SYNTAX = {
    "list": text("[1, 2]\n"),
    "number": text("7\n"),
    "string": text('"text"\n'),
    "null": text("null\n"),
    "deep": text("[" * 200_000 + "]" * 200_000 + "\n"),
    "nul bytes": text(b"\0" * 64 + b"\n"),
    "binary": text(b"\xff\xfe\x80abc\n"),
    "not closed": text('{"a": \n'),
    "long number": text('{"a": ' + "9" * 5000 + "}\n"),
}
ONLY_JSON = {"empty": text("")}


def rows_damages() -> dict[str, Damage]:
    """What may be wrong in any file of rows."""

    def twice(file: Path) -> None:
        rows = file.read_text().splitlines(keepends=True)
        file.write_text("".join([*rows, rows[-1]]))

    def unknown(value: Any) -> Damage:
        return line(setting(schema=value))

    return SYNTAX | {
        "twice": twice,
        "schema true": unknown(True),
        "schema 2": unknown(2),
        "kind": line(setting(kind="metric")),
        "kind of another file": line(setting(kind="item")),
        "unknown field": line(setting(more=1)),
        "null row": line(lambda row: None),
        "list row": line(lambda row: [row], 0),
    }


def values(field: str, *wrong: Any) -> dict[str, Damage]:
    """A field with wrong values."""
    return {f"{field}={value!r}": line(setting(**{field: value})) for value in wrong}


NUMBER = (NAN, INFINITY, -INFINITY, "1.5", True, [1.0], {"a": 1}, 10**400)
COUNT = (NAN, INFINITY, "3", True, -1, 1.5, None)
SHORTER: dict[str, Damage] = {
    "a row less": lambda file: file.write_text("".join(file.read_text().splitlines(keepends=True)[:-1])) and None,
    "halved": lambda file: file.write_bytes(file.read_bytes()[: file.stat().st_size // 2]) and None,
    "empty file": text(""),
    "missing": Path.unlink,
}
TRAINING = SHORTER | rows_damages() | values("loss", *NUMBER) | values("step", *COUNT) | values("tokens", *COUNT, 1)
TRAINING |= values("flops", *NUMBER, -1.0, None, 1) | values("loss_tokens", *COUNT, 1) | values("skipped", *COUNT)
TRAINING |= values("gradient_norm", *NUMBER, -1.0) | values("learning_rate", *NUMBER, -1e-3, None)
TRAINING |= values("source_losses", {"world": NAN}, {"world": "a"}, [1], 3) | values(
    "attention_logits", [NAN], {}, ["a"]
)
TRAINING |= values("phase", 3, None, True) | values("data_hash", 3, None)
TIMING = {key: value for key, value in rows_damages().items() if key != "twice"}  # a resumed run logs a step again
TIMING |= values("seconds", *NUMBER, -1, None, 0.0) | values("tokens_per_second", *NUMBER, -1, None)
TIMING |= values("mfu", *NUMBER, -0.1) | values("step", *COUNT)
MEASURED = (
    SHORTER
    | rows_damages()
    | values("value", *NUMBER)
    | values("n", *COUNT)
    | values("seed", NAN, "3", True, 1.5, None)
)
MEASURED |= values("standard_error", *NUMBER, -0.5) | values("reference", *NUMBER) | values("run", "another", None, 3)
MEASURED |= values("task", 3, None, ["a"]) | values("metric", 3, None) | values("higher_is_better", 1, "yes", None)
MEASURED |= values("provenance", [], "a", {"a": NAN}) | values("version", *COUNT) | values("checkpoint", 3, None)
ITEMS = (
    SHORTER | rows_damages() | {"kind of another file": line(setting(kind="timing"))} | values("value", *NUMBER, None)
)
ITEMS |= values("run", "another", 3) | values("item", 3, None) | values("details", [], {"a": {"b": [NAN]}}, None)
DOCUMENT = SYNTAX | ONLY_JSON
NO_PREDICTIONS: tuple[Any, ...] = (
    3,
    [],
    {},
    {"hash": "a", "trained_before": [], "stated": [3]},
    {"hash": "a", "trained_before": [], "stated": [{"statement": "s"}]},
    {"hash": "a", "trained_before": [], "stated": []},
)
NO_LIST: tuple[Any, ...] = (3, "a", {"a": 1}, [3], [None], [[]], True)
NO_MAPPING: tuple[Any, ...] = (3, "a", [1])
NO_TEXT: tuple[Any, ...] = (3, None, [])
STUDY = DOCUMENT | {
    **{f"without {name}": document(setting(**{name: "ABSENT"})) for name in ("name", "runs", "certificates")},
    **{f"{name}={wrong!r}": document(setting(**{name: wrong}))
       for name in ("runs", "cells", "certificates") for wrong in NO_LIST},
    **{f"analysis={wrong!r}": document(setting(analysis=wrong)) for wrong in NO_MAPPING},
    **{f"name={wrong!r}": document(setting(name=wrong)) for wrong in NO_TEXT},
    "a cell without its run": document(setting(cells=[{"name": "a", "axes": {}}])),
    "a cell whose axes are a list": document(setting(cells=[{"name": "a", "run": "b", "axes": []}])),
    "two runs of one cell": document(lambda study: study | {"cells": [*study["cells"], study["cells"][0] | {"run": "b"}]}),
    **{f"predictions={wrong!r}": document(setting(predictions=wrong)) for wrong in NO_PREDICTIONS},
    "a certificate without a verdict": document(setting(certificates=[{"pair": "p"}])),
}  # fmt: skip
CONFIG = SYNTAX | ONLY_JSON | {
    "unknown key": text("a: 1\n"),
    "tab": text("a:\n\t- b\n"),
    "no date": text("a: 2024-13-45\n"),
    "tag": text("a: !!python/object:os.system {}\n"),
}  # fmt: skip
CERTIFICATE = DOCUMENT | {
    f"without {name}": document(setting(**{name: "ABSENT"})) for name in ("pair", "verdict", "differences", "evidence")
}
SUMMARY = DOCUMENT | {
    f"{name}={wrong!r:.20}": document(setting(**{name: wrong}))
    for name, wrong in [
        ("tokens", NAN), ("tokens", "3"), ("tokens", True), ("seconds", NAN), ("seconds", "a"), ("flops", INFINITY),
        ("member", 3), ("final_checkpoint", 7), ("size", []), ("seed", "a"), ("run", 5),
    ]
}  # fmt: skip
FILES: dict[str, dict[str, Damage]] = {
    "metrics.jsonl": TRAINING,
    "timing.jsonl": TIMING,
    "evaluations/agreement@1/measurements.jsonl": MEASURED,
    "evaluations/agreement@1/items.jsonl": ITEMS,
    "study.json": STUDY,
    "COMPLETE": SUMMARY,
    "config.yaml": CONFIG,
    "certificate.json": CERTIFICATE,
}
