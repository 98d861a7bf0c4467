"""Items side by side, and the file of packed records that has them by columns in place of rows.

items.json: {"schema": 1, "kind": "items", "tables": [...]}. A table holds the items of one task with the same details,
{"run": ..., "protocol": ..., "task": ..., "item": [...], "value": [...], "details": {"<name>": [...]}}, all lists of one length.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ettin_core.foundation.errors import invalid
from ettin_core.foundation.storage import check_shape, read_mapping
from ettin_core.records.evaluations import COLUMNS, ITEMS
from ettin_core.records.files import read_items
from ettin_core.records.schema import SCHEMA_VERSION, Item, is_finite

KIND = "items"
RESTORE = "restore the file, or pack the study again"


@dataclass(frozen=True)
class ItemTable:
    """Items of one task of one run: their names, values and details (by name) in lists of one length."""

    run: str
    protocol: str
    task: str
    items: list[str]
    values: list[float]
    details: list[dict[str, Any]]

    def rows(self) -> list[Item]:
        """The same as records."""
        by_item = zip(self.items, self.values, self.details, strict=True)
        return [Item(self.run, self.protocol, self.task, *fields) for fields in by_item]


def read_item_tables(folder: Path, run: str | None = None) -> list[ItemTable]:
    """The items of a protocol's folder, by rows or by columns, all of `run` (None: of any).

    Raises ValueError, naming the file, for what is damaged, of another schema or there twice.
    """
    path = folder / COLUMNS
    if not path.exists():
        return tables(read_items(folder / ITEMS, run))
    content = read_mapping(path, RESTORE, tables=list)
    if content.get("schema") != SCHEMA_VERSION or content.get("kind") != KIND:
        stated = f"holds schema {content.get('schema')!r} of kind {content.get('kind')!r}"
        raise invalid("file", str(path), stated, f"use records of schema {SCHEMA_VERSION} and kind {KIND!r}")
    item_tables = [_table(path, number, table) for number, table in enumerate(content["tables"])]
    seen: set[tuple[str, str, str]] = set()
    for table in item_tables:
        if run is not None and table.run != run:
            raise invalid("file", str(path), f"holds items of run {table.run}, not of {run}", RESTORE)
        keys = {(table.protocol, table.task, item) for item in table.items}
        if len(keys) < len(table.items) or keys & seen:
            raise invalid("file", str(path), f"holds an item of task {table.task} twice", RESTORE)
        seen |= keys
    return item_tables


def tables(rows: list[Item]) -> list[ItemTable]:
    """Rows as tables, one for each run, protocol, task and names of details, in the order of the rows."""
    groups: dict[tuple[Any, ...], list[Item]] = {}
    for row in rows:
        groups.setdefault((row.run, row.protocol, row.task, tuple(sorted(row.details))), []).append(row)
    return [
        ItemTable(
            run, protocol, task, *map(list, zip(*((row.item, row.value, row.details) for row in group), strict=True))
        )
        for (run, protocol, task, _), group in groups.items()
    ]


def columns(item_tables: list[ItemTable]) -> str:
    """The text of an items.json, a line for each table."""
    lines = [
        json.dumps(
            {
                "run": table.run,
                "protocol": table.protocol,
                "task": table.task,
                "item": table.items,
                "value": table.values,
                "details": {name: [row[name] for row in table.details] for name in sorted(table.details[0])},
            },
            ensure_ascii=False,
            separators=(",", ":"),
            allow_nan=False,
        )
        for table in item_tables
    ]
    inside = ",\n".join(lines)
    return f'{{"schema":{SCHEMA_VERSION},"kind":"{KIND}","tables":[\n{inside}\n]}}\n'


def _table(path: Path, number: int, table: Any) -> ItemTable:
    at = f"tables.{number}"
    check_shape(path, table, RESTORE, True, at, run=str, protocol=str, task=str, item=list, value=list, details=dict)
    named, items, values = table["details"], table["item"], table["value"]
    if not all(isinstance(column, list) for column in named.values()):
        raise invalid("file", str(path), f"holds details in {at} that are not lists", RESTORE)
    if {len(column) for column in (values, *named.values())} != {len(items)} or not items:
        raise invalid("file", str(path), f"holds columns of different lengths, or empty ones, in {at}", RESTORE)
    if not all(isinstance(item, str) for item in items) or not all(type(value) in (int, float) for value in values):
        raise invalid(
            "file", str(path), f"holds names that are not texts, or values that are not numbers, in {at}", RESTORE
        )
    if not is_finite(table):
        raise invalid("file", str(path), f"holds a number in {at} that is not finite", RESTORE)
    details: list[dict[str, Any]] = [{} for _ in items]
    for name, column in named.items():
        for of_item, value in zip(details, column, strict=True):
            of_item[name] = value
    return ItemTable(table["run"], table["protocol"], table["task"], items, values, details)
