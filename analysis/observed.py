"""Which intervals a report makes: every estimator's calls are noted while they are `watched`, with what they were given.

So studies of the same shape can be drawn and given to the same estimators (`analysis.coverage`). Nothing else reads it.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import wraps
from typing import Any, ParamSpec, TypeVar

Given = ParamSpec("Given")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Call:
    """An estimator, what it was given, and what it returned."""

    estimator: Callable[..., Any]
    given: tuple[Any, ...]
    named: dict[str, Any]
    result: Any


_noted: ContextVar[list[Call] | None] = ContextVar("_noted", default=None)


@contextmanager
def watched() -> Iterator[list[Call]]:
    """The calls of estimators within the block, in order; not those that estimators make of each other."""
    calls: list[Call] = []
    before = _noted.set(calls)
    try:
        yield calls
    finally:
        _noted.reset(before)


def estimator(function: Callable[Given, Result]) -> Callable[Given, Result]:
    """Mark a function whose result is an interval, or a part of one."""

    @wraps(function)
    def noting(*given: Given.args, **named: Given.kwargs) -> Result:
        calls = _noted.get()
        if calls is None:
            return function(*given, **named)
        before = _noted.set(None)
        try:
            result = function(*given, **named)
        finally:
            _noted.reset(before)
        calls.append(Call(noting, given, named, result))
        return result

    return noting
