"""Where a progress bar is drawn: each worker of a study or sweep has one line of the terminal to itself."""

import os

_LINE = "ETTIN_BAR_LINE"


def take_line(number: int) -> None:
    """From now on this process, and those that it starts, draw on this line alone."""
    os.environ[_LINE] = str(number)


def own_line() -> int:
    """The line of this process: the first, unless it took one."""
    return int(os.environ.get(_LINE, 0))


def may_draw_below() -> bool:
    """Whether a second bar may be drawn under the first: the line below belongs to no other worker."""
    return _LINE not in os.environ
