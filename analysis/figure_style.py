"""How figures look: the colours, lines and markers of members and series, and the settings of matplotlib."""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import matplotlib

from analysis import labels

_SETTINGS: dict[Any, Any] = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "0.9",
    "legend.frameon": False,
    "savefig.dpi": 160,
    "pdf.fonttype": 42,
}


@dataclass(frozen=True)
class Look:
    """How a member is drawn. Okabe-Ito colours; a conversion has the light shade of its target and a dashed line."""

    colour: str
    line: Any  # a matplotlib line style
    marker: str
    filled: bool


_LOOKS = {
    "encoder": Look("#0072B2", "-", "o", True),
    "decoder": Look("#D55E00", "-", "s", True),
    "enc-from-dec": Look("#56B4E9", (0, (4, 2)), "o", False),
    "dec-from-enc": Look("#E69F00", (0, (4, 2)), "s", False),
}
_SPARE_LOOKS = (  # no colour with the line that a member has, so that curves without markers differ too
    Look("#009E73", "-", "^", True),
    Look("#CC79A7", (0, (6, 1.5)), "D", True),
    Look("#000000", ":", "v", True),
    Look("#0072B2", (0, (1, 1)), "o", False),
    Look("#D55E00", "-.", "s", False),
    Look("#56B4E9", "-", "P", True),
    Look("#E69F00", ":", "X", True),
    Look("#999999", "--", "o", True),
)
_SERIES = tuple(
    Look(colour, "-", marker, True)
    for colour, marker in zip(
        ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000", "#999999"),
        "os^DvPX*",
        strict=True,
    )
)

GENDERS = {"male": "#004488", "neutral": "#DDDDDD", "female": "#BB5566"}  # apart in grey too


def applied() -> AbstractContextManager[None]:
    """The settings of matplotlib with which figures are drawn and saved."""
    return matplotlib.rc_context(_SETTINGS | {"font.family": labels.families()})


def look(member: str, others: list[str]) -> Look:
    """How to draw a member; one outside the four takes a spare look by its place among `others`."""
    if member in _LOOKS:
        return _LOOKS[member]
    return _SPARE_LOOKS[[name for name in others if name not in _LOOKS].index(member) % len(_SPARE_LOOKS)]


def series(number: int) -> Look:
    """How the lines for the levels of a factor are drawn, by their number."""
    return _SERIES[number % len(_SERIES)]
