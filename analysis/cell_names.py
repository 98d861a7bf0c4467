"""How the cells of a grid are called: by their values on the axes that vary."""

from collections import Counter
from typing import Any


def cell_labels(cells: dict[str, dict[str, Any]], block: str) -> dict[str, str]:
    """A label for each cell: its values on the axes that vary, but for the block's; repetitions share a label."""
    axes = list(dict.fromkeys(axis for cell in cells.values() for axis in cell["axes"] if axis != block))
    varying = [axis for axis in axes if len({str(cell["axes"].get(axis)) for cell in cells.values()}) > 1] or axes[:1]
    short = short_names(varying)
    return {
        name: ", ".join(
            level_name(short[axis], cell["axes"][axis]) for axis in varying if cell["axes"].get(axis) is not None
        )
        or name
        for name, cell in cells.items()
    }


def short_names(axes: list[str]) -> dict[str, str]:
    """Axes by the last part of their key, or in full where two end alike."""
    ends = Counter(axis.rpartition(".")[2] for axis in axes)
    return {axis: axis.rpartition(".")[2] if ends[axis.rpartition(".")[2]] == 1 else axis for axis in axes}


def level_name(axis: str, level: Any) -> str:
    """How a level of an axis is called: a word speaks for itself, a number needs its axis."""
    return level.replace("_", " ") if isinstance(level, str) else f"{axis.replace('_', ' ')} {level}"
