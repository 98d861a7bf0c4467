"""Which cells of a study were trained or measured by other code than the report's, as the study noted it."""

from collections.abc import Iterator
from typing import Any

FEW = 6


def stale_lines(cells: dict[str, dict[str, Any]]) -> list[str]:
    """A line about each stale run, and about each change behind a cell's records; one about all whose code is not recorded."""
    noted = {name: cell["stale"] for name, cell in cells.items() if cell.get("stale")}
    lines = [line for name, stale in noted.items() for line in _of_cell(name, stale)]
    runs = sum(stale["run"] is None for stale in noted.values())
    records = sum(changes is None for stale in noted.values() for changes in stale["records"].values())
    if runs or records:
        lines.append(f"Stale or not: of {runs} runs and {records} protocols the code that made them is not recorded.")
    return lines


def _of_cell(name: str, stale: dict[str, Any]) -> Iterator[str]:
    if stale["run"]:
        yield f"Stale: cell {name} was trained by other code ({_named(stale['run'])} changed since; stale=retrain)."
    groups: dict[tuple[str, ...], list[str]] = {}
    for protocol, changes in stale["records"].items():
        if changes:
            groups.setdefault(tuple(changes), []).append(protocol)
    for changed, protocols in groups.items():
        yield (
            f"Stale: {_named(protocols)} of cell {name} measured by other code "
            f"({_named(changed)} changed since; stale=remeasure)."
        )


def _named(names: list[str] | tuple[str, ...]) -> str:
    rest = len(names) - FEW
    return ", ".join(names[:FEW]) + (f" and {rest} more" if rest > 0 else "")
